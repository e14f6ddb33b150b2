"""The job for SLURM, with a stand-in for `srun` that starts two launchers on this machine, as two nodes would."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
JOB = ROOT / "examples" / "slurm" / "distil.sbatch"
CPU = ROOT / "configs" / "accelerate" / "cpu_2proc.yaml"
# srun with one task a node does this: the same command, with another SLURM_NODEID.
SRUN = """#!/bin/bash
while [[ $1 == --* ]]; do shift; done
for node in 0 1; do SLURM_NODEID=$node "$@" > "node$node.log" 2>&1 & pids+=($!); done
status=0
for pid in "${pids[@]}"; do wait "$pid" || status=$?; done
exit $status
"""


def test_the_job_is_bash_and_names_its_options_to_slurm() -> None:
    subprocess.run(["bash", "-n", JOB], check=True)
    options = re.findall(r"(?m)^#SBATCH --([\w-]+)", JOB.read_text(encoding="utf-8"))
    assert {"nodes", "ntasks-per-node", "signal", "requeue", "time"} <= set(options)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", JOB], check=True)


@pytest.mark.parametrize("job", sorted(JOB.parent.glob("*.sbatch")), ids=lambda job: job.stem)
def test_torch_waits_for_a_checkpoint_nearly_as_long_as_slurm_does(job: Path) -> None:
    text = job.read_text(encoding="utf-8")
    (slurm,) = re.findall(r"(?m)^#SBATCH --signal=\S+@(\d+)$", text)
    (torch,) = re.findall(r"(?m)^export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=(\d+)", text)
    assert int(slurm) - 90 < int(torch) < int(slurm)


@pytest.mark.slow
def test_two_nodes_distil_together_and_leave_one_student(tmp_path: Path, make_reader: Any) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "srun").write_text(SRUN)
    (programs / "itrd-nlp").write_text(f'#!/bin/bash\nexec {sys.executable} -m itrd_nlp "$@"\n')
    for program in programs.iterdir():
        program.chmod(0o755)
    words = ["where", "does", "the", "rhine", "end", "in", "sea", "it", "begins", "alps"]
    for part in make_reader(words, 4):
        part.save_pretrained(tmp_path / "teacher")
    (tmp_path / "squad.json").write_text(squad(16))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    slurm = {"SLURM_NNODES": "2", "SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "a,b"}
    here = {
        "GPUS": "1",
        "HEAD": "127.0.0.1",
        "PORT": str(port),
        "LAUNCH_OPTIONS": f"--config_file {CPU}",
    }
    data = ["--train_file", "squad.json", "--validation_file", "squad.json"]
    sizes = ["--max_length", "64", "--doc_stride", "16", "--num_layers", "2", "--max_steps", "2"]
    done = subprocess.run(
        ["bash", JOB, "minilm_t3", "--teacher", "teacher", "--output_dir", "out", *data, *sizes],
        cwd=tmp_path,
        env=os.environ
        | slurm
        | here
        | {"PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    logs = "".join(path.read_text() for path in sorted(tmp_path.glob("node*.log")))
    assert done.returncode == 0, done.stderr + logs
    assert (tmp_path / "out" / "model.safetensors").is_file()
    assert logs.count("Distilled: out") == 1  # the first process alone shows the table


def squad(questions: int) -> str:
    context = "the rhine begins in the alps it does end in the sea"
    answer = {"text": "sea", "answer_start": context.index("sea")}
    asked = [
        {"id": str(i), "question": "where does the rhine end", "answers": [answer]}
        for i in range(questions)
    ]
    paragraphs = [{"context": context, "qas": asked}]
    return json.dumps({"version": "1.1", "data": [{"title": "t", "paragraphs": paragraphs}]})
