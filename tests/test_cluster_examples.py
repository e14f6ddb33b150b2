"""The files for machines of others: each is read or run as far as this machine can."""

from __future__ import annotations

import ast
import importlib.util
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from transformers import BertTokenizerFast

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
SBATCH = EXAMPLES / "slurm" / "distil_and_requeue.sbatch"
SKYPILOT = EXAMPLES / "skypilot" / "distil.yaml"
FILES = [SBATCH, SKYPILOT, EXAMPLES / "hf_jobs" / "job.py", EXAMPLES / "ray" / "distil.py"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.parent.name)
def test_a_file_fits_a_screen_and_says_how_it_is_started(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 60
    assert f"examples/{path.parent.name}/{path.name}" in text


# ---- Ray and Hugging Face ----


def test_every_name_that_the_example_of_ray_imports_of_ours_exists() -> None:
    tree = ast.parse((EXAMPLES / "ray" / "distil.py").read_text(encoding="utf-8"))
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    for node in imports:
        if node.module and not node.module.startswith("ray"):
            module = importlib.import_module(node.module)
            assert all(hasattr(module, alias.name) for alias in node.names)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed")
def test_two_workers_of_ray_train_a_student(tmp_path: Path) -> None:
    command = [sys.executable, EXAMPLES / "ray" / "distil.py"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert re.search(r"2 workers trained 32 steps, loss \d", done.stdout)


def test_the_job_of_hugging_face_names_what_it_installs_and_is_the_command() -> None:
    path = EXAMPLES / "hf_jobs" / "job.py"
    head = re.search(r"(?s)^# /// script\n(.*?)# ///$", path.read_text(), re.MULTILINE)
    assert head is not None
    declared = tomllib.loads(re.sub(r"(?m)^# ?", "", head[1]))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert declared["requires-python"] == project["requires-python"]
    assert declared["dependencies"] == [f"itrd_nlp @ git+{project['urls']['Repository']}"]
    done = subprocess.run(
        [sys.executable, path, "--version"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"itrd-nlp {project['version']}\n"


# ---- SkyPilot ----


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Put a small script in front of the path."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    def write(name: str, body: str) -> None:
        (folder / name).write_text(f"#!/bin/bash\n{body}\n")
        (folder / name).chmod(0o755)

    return write


def test_the_task_of_skypilot_starts_one_launcher_a_node(
    programs: Callable[[str, str], None], tmp_path: Path
) -> None:
    task = yaml.safe_load(SKYPILOT.read_text())
    assert task.keys() <= {
        *("name", "num_nodes", "resources", "envs", "secrets", "file_mounts"),
        *("workdir", "setup", "run"),
    }
    programs("itrd-nlp", 'printf "%s\\n" "$@"')
    environment = {
        **os.environ,
        "SKYPILOT_NUM_NODES": "2",
        "SKYPILOT_NUM_GPUS_PER_NODE": "4",
        "SKYPILOT_NODE_RANK": "1",
        "SKYPILOT_NODE_IPS": "10.0.0.1\n10.0.0.2",
        **{"TEACHER": "me/t", "STUDENT": "me/s", "OUTPUT": task["envs"]["OUTPUT"]},
    }
    words = subprocess.run(
        ["bash", "-euc", task["run"]], env=environment, capture_output=True, text=True, check=True
    ).stdout.split("\n")
    given = dict(itertools.pairwise(words))
    assert given["--num_processes"] == "8"
    assert (given["--machine_rank"], given["--main_process_ip"]) == ("1", "10.0.0.1")
    assert (ROOT / given["--config_file"]).is_file()
    assert given["--output_dir"].startswith(next(iter(task["file_mounts"])))
    assert given["--resume_from_checkpoint"] == "true"


# ---- SLURM ----

# Each of two nodes is a process of this machine, and a signal to srun reaches both launchers.
SRUN = """
shift
export GLOO_SOCKET_IFNAME=lo
for n in 0 1; do SLURM_NODEID=$n setsid "$@" > "$PLACE/node-$n.log" 2>&1 & pids+=($!); done
trap 'kill -TERM "${pids[@]}"' TERM
code=0
for pid in "${pids[@]}"; do
    wait "$pid" || code=$?
    while kill -0 "$pid" 2> /dev/null; do code=0; wait "$pid" || code=$?; done
done
exit $code
"""
SCONTROL = """
if [ "$1" = show ]; then printf '127.0.0.1\\n127.0.0.1\\n'; else echo "$@" >> "$PLACE/requeued"; fi
"""


@pytest.fixture
def slurm(
    programs: Callable[[str, str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A SLURM of two nodes, of which this machine is both."""
    programs("srun", SRUN)
    programs("scontrol", SCONTROL)
    programs("itrd-nlp", f'exec {sys.executable} -m itrd_nlp "$@"')
    for name, value in {
        "SLURM_JOB_ID": str(os.getpid()),
        "SLURM_NNODES": "2",
        "SLURM_JOB_NODELIST": "node[1-2]",
        "SLURM_GPUS_ON_NODE": "1",
        "ACCELERATE_CONFIG": str(ROOT / "configs" / "accelerate" / "cpu_2proc.yaml"),
        "PLACE": str(tmp_path),
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }.items():
        monkeypatch.setenv(name, value)
    return tmp_path


def sbatch(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        ["bash", SBATCH, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def test_the_script_of_slurm_is_sound_and_names_the_options_of_its_nodes(
    slurm: Path, programs: Callable[[str, str], None]
) -> None:
    subprocess.run(["bash", "-n", SBATCH], check=True)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", SBATCH], check=True)
    programs("itrd-nlp", 'printf "%s\\n" "$@"')
    done = sbatch("minilm_t3", "--seed", "3")
    assert done.communicate(timeout=60) and done.returncode == 0
    for rank in ("0", "1"):
        words = (slurm / f"node-{rank}.log").read_text().split("\n")
        given = dict(itertools.pairwise(words))
        assert (given["launch"], given["--machine_rank"]) == ("--machine_rank", rank)
        assert (given["--num_machines"], given["--num_processes"]) == ("2", "2")
        assert given["--main_process_ip"] == "127.0.0.1"
        assert (given["train-squad"], given["--seed"]) == ("minilm_t3", "3")
    assert not (slurm / "requeued").exists()


WORDS = [f"w{i}" for i in range(59)]
EXPERIMENT = """
teacher: teacher
num_layers: 2
train_file: train.json
validation_file: train.json
max_length: 40
doc_stride: 8
per_device_train_batch_size: 4
num_train_epochs: 40
logging_steps: 10
mi_max_samples: 16
preprocessing_num_workers: 1
report_to: none
output_dir: student
"""


@pytest.mark.slow
def test_two_nodes_save_at_the_end_of_the_time_are_queued_again_and_finish(
    slurm: Path, make_bert: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(slurm)
    make_bert(4, seed=0).save_pretrained("teacher")  # type: ignore[attr-defined]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    BertTokenizerFast(vocab={t: i for i, t in enumerate(tokens)}).save_pretrained("teacher")
    paragraphs = []
    for i in range(20):
        words = [WORDS[(i * 7 + j * 3) % 50] for j in range(12 + i % 9)]
        answer = {"text": words[0], "answer_start": 0}
        question = {"id": f"q{i}", "question": f"w{i}", "answers": [answer]}
        paragraphs.append({"context": " ".join(words), "qas": [question]})
    Path("train.json").write_text(json.dumps({"data": [{"title": "t", "paragraphs": paragraphs}]}))
    Path("experiment.yaml").write_text(EXPERIMENT)

    job = sbatch("experiment.yaml")
    log = slurm / "node-0.log"
    until = time.monotonic() + 400
    while not log.exists() or "step  10/" not in log.read_text():
        assert job.poll() is None and time.monotonic() < until, job.communicate()
        time.sleep(0.1)
    job.send_signal(signal.SIGUSR1)
    job.communicate(timeout=200)
    assert job.returncode != 0
    assert (slurm / "requeued").read_text() == f"requeue {os.getpid()}\n"
    (saved,) = Path("student").glob("checkpoint-*")
    assert "stopped by SIGTERM" in log.read_text()

    job = sbatch("experiment.yaml")
    job.communicate(timeout=500)
    assert job.returncode == 0, log.read_text()
    assert log.read_text().count("Distilled: student") == 1
    steps = json.loads((slurm / "student" / "results.json").read_text())["steps"]
    assert steps == 120 > int(saved.name.rpartition("-")[2])  # 20 rows by two processes of 4
