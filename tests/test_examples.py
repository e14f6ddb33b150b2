"""Every file of examples/ runs as it stands and prints its result as the last line."""

from __future__ import annotations

import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
# File to its last line. A number in it shows that something was learned.
QUICK = {
    "compare_layers": r"2 \|( +\d\.\d\d){5}",
    "distil_classifier": r"a student of 2 layers says \[1, 0\] for 'very good' and 'not good'",
    "losses_in_a_loop": r"a student of 16 features agrees with its teacher of 128 on (9\d|100) % of the rows",
    "own_peer_loss": r"centred_cosine fell from [12]\.\d+ to 0\.\d+ in 64 steps",
}
LONGER = {
    "narrower_student": r"a teacher of [\d,]+ parameters taught a student of ([\d,]+), and \1 are saved",
    "own_hidden_states": r"without a label, the student agrees with an LSTM on (7[5-9]|[89]\d|100) % of the texts",
    "two_teachers": r".* to the mean prediction: 0\.(0[5-9]|[1-9]\d)\d, 0\.(0[5-9]|[1-9]\d)\d, 0\.0[0-3]\d",
    "distil_image_classifier": r"a vision transformer of 2 layers is right on (9\d|100) % of the images",
    "distil_question_answering": r"F1 is \d+ with 2 layers; tom lives in lima",
    "export_int8": r"fp32 logits differ from torch's by \de-0[5-9], those of int8 by \de-0[1-4]",
    "peft_student": r"[\d,]+ of [\d,]+ parameters were trained; the student says \[1, 0\] for good and bad",
    "search_weights": r"the best of 3 tries has accuracy 1\.00 with \{'beta_corr': .*\}",
}
PUSHED = "evaluate_and_push"


@pytest.fixture
def last_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[str], str]:
    """Run an example in this process, in an empty folder."""

    def last_line(name: str) -> str:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", [f"{name}.py"])
        monkeypatch.setattr(sys, "path", list(sys.path))
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
        return capsys.readouterr().out.splitlines()[-1]

    return last_line


def test_every_example_is_run_by_a_test() -> None:
    names = {path.stem for path in EXAMPLES.glob("*.py")}
    assert names == {*QUICK, *LONGER, PUSHED}


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_an_example_fits_a_screen_and_says_how_it_is_started(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 60
    assert f"    python examples/{path.name}" in text
    assert f"({path.relative_to(ROOT)})" in (ROOT / "docs" / "examples.md").read_text().replace(
        "../", ""
    )


@pytest.mark.parametrize("name", QUICK)
def test_an_example_ends_with_its_result(name: str, last_line: Callable[[str], str]) -> None:
    assert re.fullmatch(rf" *{QUICK[name]}", last_line(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", LONGER)
def test_a_longer_example_ends_with_its_result(name: str, last_line: Callable[[str], str]) -> None:
    if name == "export_int8":
        pytest.importorskip("onnxruntime")
    line = last_line(name)
    assert re.fullmatch(LONGER[name], line), line


@pytest.mark.slow
def test_a_student_of_an_example_is_pushed_to_a_hub_of_this_machine(
    tmp_path: Path, last_line: Callable[[str], str]
) -> None:
    last_line("distil_question_answering")
    server, script = ROOT / "tests/hub/server.py", EXAMPLES / f"{PUSHED}.py"
    done = subprocess.run(
        [sys.executable, server, sys.executable, script, "out/student", "out/dev.json", "user/it"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": str(Path(shutil.which("git") or "/").parent)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    expected = r"F1 [\d.]+ on 6 questions; \d files pushed at http://127\.0\.0\.1:\d+/user/it"
    assert re.fullmatch(expected, done.stdout.splitlines()[-1]), done.stdout
