"""A process of its own: exit codes, the last line of stderr, closed and broken outputs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from itrd_nlp.cli import jobs, process
from itrd_nlp.errors import TrainingInterrupted, UserError
from itrd_nlp.training.output_paths import check_target_file

ROOT = Path(__file__).parents[2]
MAIN = "import sys; from itrd_nlp.cli import process; process.run(lambda: {body})"


def start(body: str, *arguments: str | bytes, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """Run an expression as the main function of a command."""
    command = [sys.executable, "-c", MAIN.format(body=body), *arguments]
    return subprocess.run(command, stderr=subprocess.PIPE, cwd=ROOT, check=False, **options)


def test_an_argument_that_is_no_text_is_refused_before_the_command_starts() -> None:
    ended = start("open('/dev/null', 'w').write(str(1 / 0))", b"runs/caf\xe9")
    assert ended.returncode == 2
    (sentence,) = ended.stderr.decode().splitlines()
    assert sentence.startswith("error: the argument 'runs/caf\\udce9' is not text in UTF-8")


def test_a_closed_output_is_refused_before_the_command_starts() -> None:
    ended = start("1 / 0", preexec_fn=lambda: os.close(1))
    assert ended.returncode == 2
    assert ended.stderr.startswith(b"error: the standard output is closed, but")


def test_a_pipe_that_nobody_reads_ends_a_command_as_the_signal_would() -> None:
    read, write = os.pipe()
    os.close(read)
    ended = start("print('x' * 100_000)", stdout=write)
    os.close(write)
    assert (ended.returncode, ended.stderr) == (141, b"")


def test_an_output_on_a_full_disk_is_one_sentence() -> None:
    with Path("/dev/full").open("w") as full:
        ended = start("print('x')", stdout=full)
    assert (ended.returncode, ended.stderr.splitlines()[0]) == (
        2,
        b"error: No space left on device.",
    )


def test_an_output_of_few_characters_takes_all_texts() -> None:
    ended = start(
        "print('caf\\xe9 \\u2500')",
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert (ended.returncode, ended.stdout) == (0, b"caf\\xe9 \\u2500\n")


def test_a_process_that_meets_an_error_alone_says_so_after_the_first_had_its_time(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    waited: list[float] = []
    monkeypatch.setattr("time.sleep", waited.append)
    monkeypatch.setenv("RANK", "3")

    def main() -> None:
        raise UserError("the file is missing.")

    with pytest.raises(SystemExit) as stop:
        process.run(main)
    assert stop.value.code == 2
    assert waited == [process.WAIT_FOR_THE_FIRST]
    assert capsys.readouterr().err == "error: process 3: the file is missing.\n"


# ---- where an evaluation writes its answers ----


def test_a_file_that_could_not_be_written_is_refused_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_target_file(str(tmp_path / "answers.json"), option="output_file")
    with pytest.raises(UserError, match=r"output_file .*no/such: there is no folder .*no\.$"):
        check_target_file(str(tmp_path / "no" / "such"), option="output_file")
    with pytest.raises(UserError, match="is a folder, but must be a file"):
        check_target_file(str(tmp_path), option="output_file")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(UserError, match="does not let you write"):
        check_target_file(str(tmp_path / "answers.json"), option="output_file")


def test_an_evaluation_prints_its_scores_before_it_writes_its_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(jobs, "_evaluated", lambda *_: ({"f1": 50.0}, {"a": "b"}))
    monkeypatch.setattr(jobs, "write_json", full)
    (tmp_path / "model").mkdir()  # a name alone would be looked up on the Hub
    model, output = str(tmp_path / "model"), str(tmp_path / "answers.json")
    monkeypatch.setattr(sys, "argv", ["evaluate", "--model", model, "--output_file", output])
    with pytest.raises(UserError, match=r"answers\.json cannot be written: No space left"):
        jobs.evaluate_command("", task="question-answering")
    assert capsys.readouterr().out == '{"f1": 50.0}\n'
    monkeypatch.setattr(jobs, "_evaluated", None)
    monkeypatch.setattr(sys, "argv", [*sys.argv[:-1], str(tmp_path / "no" / "x")])
    with pytest.raises(UserError, match="there is no folder"):
        jobs.evaluate_command("", task="question-answering")


def test_an_evaluation_writes_its_answers_into_the_file_behind_a_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kept.json").write_text("stale")
    (tmp_path / "link").symlink_to("kept.json")
    monkeypatch.setattr(jobs, "_evaluated", lambda *_: ({"f1": 50.0, "questions": 1}, {"a": "b"}))
    (tmp_path / "model").mkdir()
    given = ["--model", str(tmp_path / "model"), "--output_file", str(tmp_path / "link")]
    monkeypatch.setattr(sys, "argv", ["evaluate", *given])
    jobs.evaluate_command("", task="question-answering")
    assert json.loads((tmp_path / "kept.json").read_text()) == {"a": "b"}
    assert (tmp_path / "link").is_symlink()


def test_a_sentence_that_quotes_a_very_long_value_stays_readable(capsys):
    def main():
        raise UserError(f"teacher {'x' * 100_000} does not exist.")

    with pytest.raises(SystemExit) as stop:
        process.run(main)
    sentence = capsys.readouterr().err
    assert stop.value.code == 2
    assert len(sentence) < 1600
    assert sentence.startswith("error: teacher xxx") and sentence.endswith("xxx does not exist.\n")


def test_a_command_that_loads_the_trainer_says_nothing_about_optional_packages() -> None:
    """torchao and torch warn of kernels for GPUs when transformers imports torchao, where it is installed."""
    ended = start("__import__('transformers').Trainer")
    assert (ended.returncode, ended.stderr.decode()) == (0, "")


@pytest.mark.parametrize(
    ("processes", "sentence"),
    [
        ("1", "To resume: itrd-nlp distil my.yaml --resume_from_checkpoint true"),
        ("2", "the same command of the launcher, with 2 processes, and --resume_from_checkpoint"),
    ],
)
def test_a_training_that_was_stopped_says_how_to_go_on(
    processes: str, sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """One process of several knows its own command alone, which would start one process."""
    monkeypatch.setattr("sys.argv", ["itrd-nlp distil", "my.yaml"])
    monkeypatch.setenv("WORLD_SIZE", processes)

    def stopped() -> None:
        raise TrainingInterrupted(signal.SIGTERM, "run/checkpoint-3")

    with pytest.raises(SystemExit) as ended:
        process.run(stopped)
    assert ended.value.code == 128 + signal.SIGTERM
    told = capsys.readouterr().err
    assert "stopped by SIGTERM; run/checkpoint-3 is saved." in told
    assert sentence in told
