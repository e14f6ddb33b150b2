"""`itrd-nlp evaluate`: an option that does nothing beside a file of answers is refused, and none is written."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from itrd_nlp.cli import process
from itrd_nlp.cli.commands.evaluate_model import main

SQUAD = {
    "data": [
        {
            "title": "t",
            "paragraphs": [
                {
                    "context": "The Rhine flows past Basel.",
                    "qas": [
                        {
                            "id": "a",
                            "question": "Past what?",
                            "answers": [{"text": "Basel", "answer_start": 21}],
                        }
                    ],
                }
            ],
        }
    ]
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("dev.json").write_text(json.dumps(SQUAD))
    Path("answers.json").write_text(json.dumps({"a": "Basel"}))
    words = ["itrd-nlp evaluate", "--predictions_file", "answers.json"]
    monkeypatch.setattr(sys, "argv", [*words, "--validation_file", "dev.json"])
    return tmp_path


def test_a_file_of_answers_is_judged_without_a_model(capsys: pytest.CaptureFixture[str]) -> None:
    process.run(main)
    scores = json.loads(capsys.readouterr().out)
    assert (scores["exact_match"], scores["f1"], scores["questions"]) == (100.0, 100.0, 1)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("output_file", "out.json"),
        ("batch_size", "8"),
        ("bf16", "true"),
        ("dtype", "bfloat16"),
        ("attn_implementation", "eager"),
        ("model_revision", "main"),
        ("max_length", "300"),
        ("doc_stride", "64"),
        ("max_answer_length", "1"),
        ("null_score_diff_threshold", "3"),
    ],
)
def test_an_option_of_a_model_is_refused_where_none_runs(
    option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    sys.argv += [f"--{option}", value]
    with pytest.raises(SystemExit) as stop:
        process.run(main)
    assert stop.value.code == 2
    out, err = capsys.readouterr()
    assert (out, err.splitlines()[-1][:40]) == (
        "",
        f"error: {option} would do nothing beside predi"[:40],
    )
    assert not Path("out.json").exists()


@pytest.mark.parametrize(
    ("task", "option", "value"),
    [("masked-lm", "mlm_probability", "0.3"), ("encoder", "reference", "my-teacher")],
)
def test_so_is_an_option_that_only_the_model_of_another_task_reads(
    task: str, option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("dev.txt").write_text("The Rhine.\n")
    options = ["--task", task, "--validation_file", "dev.txt", f"--{option}", value]
    sys.argv[1:] = ["--predictions_file", "answers.json", *options]
    with pytest.raises(SystemExit) as stop:
        process.run(main)
    assert stop.value.code == 2
    assert f"error: {option} would do nothing beside" in capsys.readouterr().err
