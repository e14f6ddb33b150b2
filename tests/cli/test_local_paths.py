"""A model or a file that a command of the package makes is asked of no Hub: the sentence names the command."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from itrd_nlp.cli.configs import packaged_configs
from itrd_nlp.cli.jobs import check_sources
from itrd_nlp.cli.local_paths import check_local_paths
from itrd_nlp.cli.main import subcommands
from itrd_nlp.errors import UserError
from itrd_nlp.files import write_json
from itrd_nlp.training.arguments import FineTuningArguments
from itrd_nlp.training.yaml_files import read_config


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("name", "value", "command"),
    [
        ("teacher", "runs/teacher_minilm", "train-teacher minilm_teacher"),
        ("teacher", "runs/teacher_minilm/", "train-teacher minilm_teacher"),
        ("teacher", "runs/teacher_sentences", "train-classifier sentences_teacher"),
        ("model", "runs/quickstart/student", "train-squad quickstart"),
        ("model", "runs/sentences_t3", "distil-classifier sentences_t3"),
        ("teacher", "runs/teacher_stsb", "train-classifier stsb_teacher"),
        ("model", "runs/conll2003_t6", "distil-classifier conll2003_t6"),
        ("student", "runs/subset/textbrewer_seed0", "train-textbrewer textbrewer_minilm_t3_subset"),
        ("more_teachers", ["me/model", "runs/teacher_mpnet"], "train-teacher mpnet_teacher"),
        ("model_name_or_path", "assets/minilm-l6", "fetch-assets --assets minilm-l6"),
        ("train_file", "assets/squad/train-v1.1.json", "fetch-assets --assets squad"),
        (
            "validation_file",
            "assets/classification/sentences-dev.jsonl",
            "make-classification-data",
        ),
        (
            "train_file",
            "assets/answerless/train.json",
            "make-answerless-questions --output_dir assets/answerless",
        ),
        ("teacher", "runs/teacher_ranking", "fine-tune ranking_teacher"),
        ("model", "runs/ranking_t3", "distil ranking_t3"),
        ("train_file", "assets/ranking/ranking-train.jsonl", "make-ranking-data"),
        ("train_file", "assets/plain_text/text-train.jsonl", "make-plain-text"),
        ("teacher", "runs/teacher_general", "fine-tune general_teacher"),
        ("student", "runs/general_t3", "distil general_t3"),
        ("model", "runs/general_t3_squad", "train-squad then_squad_t3"),
    ],
)
def test_the_command_that_makes_it(name: str, value: object, command: str) -> None:
    with pytest.raises(UserError, match=rf"^{name} .* does not exist; this makes it: ") as caught:
        check_local_paths({name: value})
    assert str(caught.value).endswith(f": itrd-nlp {command}")


def test_what_exists_and_what_may_be_on_the_hub_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "assets" / "minilm-l6").mkdir(parents=True)
    check_local_paths(
        {
            "model_name_or_path": "assets/minilm-l6",
            "teacher": "google-bert/bert-base-uncased",
            "train_file": "rajpurkar/squad",
            "student": None,
            "output_dir": "runs/teacher_minilm",  # written and not read
            "validation_file": "my_file.json",  # the job that reads it has a sentence
        }
    )


def test_every_teacher_and_file_of_a_config_has_a_command_that_exists() -> None:
    for file in packaged_configs().values():
        if file.parent.name in ("accelerate", "compare"):
            continue
        for name, value in read_config(str(file)).values.items():
            if not str(value).startswith(("runs/", "assets/")) or name == "output_dir":
                continue
            if name != "teacher" and not name.endswith(("_path", "_file")):
                continue
            with pytest.raises(UserError) as caught:
                check_local_paths({name: value})
            assert str(caught.value).partition("itrd-nlp ")[2].split()[0] in subcommands()


@pytest.mark.parametrize(("finished", "checked"), [(False, True), (True, False)])
def test_a_finished_run_is_shown_without_what_made_it(finished: bool, checked: bool) -> None:
    if finished:
        Path("done").mkdir()
        write_json(Path("done/results.json"), {"f1": 50.0, "exact_match": 40.0})
    args = FineTuningArguments(output_dir="done", report_to="none", use_cpu=True)
    asked = SimpleNamespace(teacher="runs/teacher_minilm")
    for overwrites in (False, True):
        args.overwrite_output_dir = overwrites
        if checked or overwrites:
            with pytest.raises(UserError, match="train-teacher minilm_teacher"):
                check_sources(args, asked)
        else:
            check_sources(args, asked)


def test_a_command_says_it_before_it_loads_a_model() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "itrd_nlp", "compare", "minilm_subset"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        "error: teacher runs/teacher_minilm does not exist; this makes it: itrd-nlp train-teacher minilm_teacher"
    )
    assert not Path("runs").exists()
