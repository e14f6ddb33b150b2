"""The commands of the README, in their order, on a student like that of the quickstart, only smaller."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
COMMANDS = [line for block in BLOCKS for line in block.splitlines() if line.startswith("itrd-nlp ")]
SHRUNK = ["--max_eval_samples", "4"]


@pytest.fixture
def quickstart(workplace, run_script):
    """The folders that `make quickstart` leaves."""
    assets = workplace / "assets" / "squad"
    assets.mkdir(parents=True)
    shutil.copy(workplace / "train.json", assets / "train-v1.1.json")
    shutil.copy(workplace / "dev.json", assets / "dev-v1.1.json")
    done = run_script("train_squad.py", "student.yaml", "--output_dir", "runs/quickstart/student")
    assert done.returncode == 0, done.stderr
    return workplace


def test_the_readme_shows_a_command_for_each_thing_to_do_with_a_student():
    shown = {shlex.split(command)[1] for command in COMMANDS}
    assert {"evaluate", "predict", "report", "export-onnx", "push-to-hub"} <= shown


@pytest.mark.slow
def test_every_command_of_the_readme_runs_after_the_quickstart(quickstart, monkeypatch):
    monkeypatch.chdir(quickstart)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for command in COMMANDS:
        words = shlex.split(command)[1:]
        if "--max_eval_samples" in words:
            words += [*SHRUNK, "--max_length", "64", "--doc_stride", "16"]
        if "export-onnx" in words:
            words += ["--max_f1_drop", "100"]
        done = subprocess.run(
            [sys.executable, "-m", "itrd_nlp", *words], capture_output=True, text=True, timeout=240
        )
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        assert done.stdout.strip(), command
