"""`scripts/push_to_hub.py` and a reader who does not have this package: real processes, no shared state but the Hub."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForQuestionAnswering, AutoTokenizer

SCRIPT = Path(__file__).parents[2] / "scripts" / "push_to_hub.py"
REPO = "user/student"
QUESTION = "Where does the Rhine begin?"
CONTEXT = "The Rhine begins in the Swiss Alps and flows to the North Sea."


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run the script in this process."""

    def script(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["push_to_hub.py", *arguments])
        monkeypatch.setenv("COLUMNS", "120")
        code: Any = 0
        try:
            runpy.run_path(str(SCRIPT), run_name="__main__")
        except SystemExit as stop:
            code = stop.code
        out, err = capsys.readouterr()
        return code, out, err

    return script


def test_a_dry_run_lists_files_and_sizes_and_shows_the_card(
    as_default_hub, script, student_folder, pushed, monkeypatch
):
    monkeypatch.delenv("HF_TOKEN")
    code, out, _ = script(
        *("--model", str(student_folder), "--repo_id", REPO, "--license", "mit", "--dry_run")
    )
    assert code == 0
    size = (student_folder / "model.safetensors").stat().st_size
    for name in pushed:
        assert re.search(rf"{re.escape(name)} .*\d", out), name
    assert f"{size:,}" in out
    assert "license: mit" in out and "## Limits" in out
    assert "Nothing was pushed." in out
    assert as_default_hub.requests == []


def test_what_was_done_is_said(as_default_hub, script, student_folder):
    arguments = ("--model", str(student_folder), "--repo_id", REPO, "--private", "--revision", "v1")
    code, out, _ = script(*arguments)
    repo = as_default_hub.repos[REPO]
    assert (code, repo.private) == (0, True)
    url = f"{as_default_hub.url}/{REPO}/tree/v1"
    assert f"Pushed to {url}, commit {repo.branches['v1'].oid}." in out
    code, out, _ = script(*arguments)
    assert code == 0
    assert f"{url} has all of it already, as commit {repo.branches['v1'].oid}." in out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--repo_id", REPO), "the following arguments are required: --model."),
        (("--model", "nowhere", "--repo_id", REPO), "model nowhere does not exist"),
        (("--model", "nowhere", "--repo_id", "student"), "repo_id is 'student', but must be"),
        (("--model", "nowhere", "--repo_id", REPO, "--token", "x"), "there is no option --token"),
    ],
)
def test_bad_input_is_one_sentence(as_default_hub, script, arguments, says):
    code, _, err = script(*arguments)
    assert code == 2
    (sentence,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert says in sentence
    assert as_default_hub.requests == []


def best_span(folder: Path) -> str:
    """The answer by its definition: the best of all spans of the context."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForQuestionAnswering.from_pretrained(folder).eval()
    inputs = tokenizer(QUESTION, CONTEXT, return_tensors="pt", return_offsets_mapping=True)
    offsets = inputs.pop("offset_mapping")[0].tolist()
    with torch.no_grad():
        output = model(**inputs)
    context = [i for i, part in enumerate(inputs.sequence_ids(0)) if part == 1]
    start, end = output.start_logits[0].tolist(), output.end_logits[0].tolist()
    spans = [(start[i] + end[j], i, j) for i in context for j in context if i <= j]
    _, first, last = max(spans)
    return CONTEXT[offsets[first][0] : offsets[last][1]]


READER = """
import sys
sys.modules["itrd_nlp"] = None  # importing it fails, as where it is not installed
from huggingface_hub import ModelCard, hf_hub_download
card = ModelCard.load({repo!r})
path = hf_hub_download({repo!r}, "README.md")
code = open(path, encoding="utf-8").read().split("```python\\n")[1].split("```")[0]
exec(code)
print(card.data.eval_results[1].metric_value)
print(type(model).__module__)
"""


def test_a_reader_without_this_package_gets_the_answer_by_the_lines_of_the_card(
    hub, student_folder, tmp_path, hash_files
):
    before = hash_files(student_folder)
    command = [sys.executable, str(SCRIPT), "--model", "student", "--repo_id", REPO]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        env=hub.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    arguments = Path(f"/proc/{process.pid}/cmdline")
    listed = arguments.read_text() if arguments.exists() else ""
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert f"Pushed to {hub.url}/{REPO}" in out
    assert hash_files(student_folder) == before

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    reader = subprocess.run(
        [sys.executable, "-I", "-c", READER.format(repo=REPO)],
        cwd=elsewhere,
        env=hub.env | {"HF_HOME": str(elsewhere / "cache")},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert reader.returncode == 0, reader.stderr
    answer, f1, home = reader.stdout.splitlines()
    assert answer == best_span(student_folder)
    assert f1 == "62.2"
    assert home.startswith("transformers.")

    files = hub.repos[REPO].files()
    card = files["README.md"].decode()
    sent = json.dumps({name: content.decode("latin-1") for name, content in files.items()})
    for text in (listed, out, err, reader.stdout, reader.stderr, card, sent, *hub.requests):
        assert hub.token not in text


@pytest.mark.slow
def test_a_fault_met_by_a_real_process_is_one_sentence_and_the_same_command_completes(
    hub, student_folder, tmp_path, hash_files
):
    before = hash_files(student_folder)
    command = [sys.executable, str(SCRIPT), "--model", "student", "--repo_id", REPO]

    def push(**environment: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env=hub.env | environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert hub.token not in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done

    hub.fail("POST .*/commit/", "reset", times=2)  # a request is repeated once
    hub.corrupt_uploads()
    for says in ("model.safetensors arrived damaged", "the connection to 127.0.0.1 failed"):
        done = push()
        assert done.returncode == 2
        sentences = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert len(sentences) == 1 and says in sentences[0]
        assert hash_files(student_folder) == before
    done = push(HF_HUB_OFFLINE="1")
    assert done.returncode == 2
    assert "HF_HUB_OFFLINE is set" in done.stderr
    done = push()
    assert done.returncode == 0, done.stderr
    assert len(hub.repos[REPO].commits()) == 1
