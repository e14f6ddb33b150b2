"""No command writes over what it reads or what somebody else has written. One that refuses leaves all as it was."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from itrd_nlp.tasks.jobs.runs import UNFINISHED_NAME

Refusal = Callable[..., str]


def contents(folder: Path) -> dict[str, object]:
    """Everything below a folder: the bytes of files, where links lead, and the kinds of all else."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if name.split("/")[0] == "cache":
            continue
        if path.is_symlink():
            found[name] = os.readlink(path)
        else:
            found[name] = path.read_bytes() if path.is_file() else path.stat().st_mode
    return found


def foreign(name: str, text: str = "somebody's") -> Callable[[Path], None]:
    def prepare(folder: Path) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    return prepare


def fifo(name: str) -> Callable[[Path], None]:
    def prepare(folder: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        os.mkfifo(folder / name)

    return prepare


def link(name: str, target: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).symlink_to(target)


def edited_card_of_an_interrupted_run(folder: Path) -> None:
    (folder / "mine").mkdir()
    (folder / "mine" / UNFINISHED_NAME).touch()
    (folder / "mine" / "README.md").write_text("somebody's")


def checkpoint(folder: Path) -> None:
    shutil.copytree(folder / "teacher", folder / "mine" / "checkpoint-3")
    (folder / "mine" / UNFINISHED_NAME).touch()


def comparison(
    output_dir: str, also: Callable[[Path], None] = lambda _: None
) -> Callable[[Path], None]:
    def prepare(folder: Path) -> None:
        also(folder)
        (folder / "compare.yaml").write_text(
            f"base: student.yaml\nmethods: {{kd: {{beta_corr: 0}}}}\noutput_dir: {output_dir}\n"
        )

    return prepare


COMPARE = ("compare.py", "compare.yaml")
DISTIL = ("train_squad.py", "student.yaml")
FINE_TUNE = ("train_teacher.py", "teacher.yaml")
EVALUATE = ("evaluate_squad.py", "--model", "teacher", "--validation_file", "dev.json")
PREDICT = ("predict.py", "--model", "teacher", "--device", "cpu", "--input", "dev.json")
EXPORT = ("export_onnx.py", "--model", "teacher", "--validation_file", "dev.json")
MINE = ("--output_dir", "mine")
READ = "which is read, so it must stay"
CASES = [
    (None, [*DISTIL, "--output_dir", "teacher"], READ),
    (None, [*DISTIL, "--output_dir", "./teacher/"], READ),
    (link("mine", "teacher"), [*DISTIL, *MINE], READ),
    (link("mine", "teacher"), [*DISTIL, "--teacher", "mine", "--output_dir", "teacher"], READ),
    (None, [*DISTIL, "--student", "encoder", "--output_dir", "encoder"], READ),
    (None, [*DISTIL, "--more_teachers", "encoder", "--output_dir", "encoder"], READ),
    (checkpoint, [*DISTIL, "--student", "mine/checkpoint-3", *MINE], "is read from there"),
    (checkpoint, [*DISTIL, "--teacher", "mine/checkpoint-3", *MINE], "is read from there"),
    (checkpoint, [*DISTIL, "--output_dir", "mine/checkpoint-3"], "holds config.json, but no run"),
    (None, [*FINE_TUNE, "--output_dir", "encoder"], READ),
    (link("mine", "encoder"), [*FINE_TUNE, *MINE], READ),
    *(
        (foreign(f"mine/{name}"), [*job, *MINE], f"holds {name}, but no run of this package")
        for name in (
            "README.md",
            "config.json",
            "tokenizer.json",
            "model.safetensors",
        )
        for job in (DISTIL, FINE_TUNE)
    ),
    (foreign("mine/analysis/predictions.json"), [*DISTIL, *MINE], "holds analysis, but no run"),
    (foreign("mine/checkpoint-9/a"), [*DISTIL, *MINE], "holds checkpoint-9, but no run"),
    (edited_card_of_an_interrupted_run, [*DISTIL, *MINE], "holds a README.md that somebody has"),
    (fifo("mine/README.md"), [*DISTIL, *MINE], "mine/README.md is no regular file"),
    (fifo("mine"), [*DISTIL, *MINE], "output_dir mine is no folder, but must be a folder"),
    (None, [*EVALUATE, "--output_file", "dev.json"], READ),
    (link("mine", "dev.json"), [*EVALUATE, "--output_file", "mine"], READ),
    (None, [*EVALUATE, "--output_file", "teacher/config.json"], "is a part of teacher, which is"),
    (fifo("mine"), [*EVALUATE, "--output_file", "mine"], "output_file mine is no regular file"),
    (None, [*PREDICT, "--output", "dev.json"], READ),
    (None, [*PREDICT, "--output", "./dev.json"], READ),
    (link("mine", "dev.json"), [*PREDICT, "--output", "mine"], READ),
    (None, [*PREDICT, "--output", "teacher/tokenizer.json"], "is a part of teacher, which is read"),
    (fifo("mine"), [*PREDICT, "--output", "mine"], "output mine is no regular file"),
    (None, [*PREDICT, "--output", "/dev/null"], "output /dev/null is no regular file"),
    (foreign("mine/onnx/a"), [*EXPORT, *MINE], "mine/onnx holds a, but no run"),
    (foreign("mine/onnx_int8/a"), [*EXPORT, *MINE], "mine/onnx_int8 holds a, but no run"),
    (foreign("mine/export.json", "{}"), [*EXPORT, *MINE], "mine/export.json exists and was not"),
    (link("onnx", "teacher"), [*EXPORT, "--output_dir", "."], READ),
    (
        foreign("mine/sentences-dev.jsonl", '{"title": "mine"}\n'),
        [
            *("make_classification_data.py", "--train_file", "train.json"),
            *("--validation_file", "dev.json", *MINE),
        ],
        "mine/sentences-dev.jsonl exists and was not written by this command",
    ),
    (
        link("mine", "absent"),
        [
            *("make_unlabelled_questions.py", "--source_file", "train.json"),
            *("--output_file", "mine"),
        ],
        "output_file mine exists, and is not overwritten",
    ),
    (comparison("teacher"), COMPARE, READ),
    (comparison("mine", foreign("mine/table.md")), COMPARE, "mine holds table.md, but no run"),
    (
        foreign("mine/report.html"),
        ["report.py", "mine"],
        "mine/report.html exists and was not written by this command",
    ),
]


@pytest.mark.parametrize(
    ("prepare", "command", "named"), CASES, ids=[" ".join(c[1])[:60] for c in CASES]
)
def test_a_target_that_must_not_be_written_is_refused_and_all_stays_as_it_was(
    refusal: Refusal,
    workplace: Path,
    prepare: Callable[[Path], None] | None,
    command: list[str],
    named: str,
) -> None:
    if prepare is not None:
        prepare(workplace)
    before = contents(workplace)
    assert named in refusal(*command)
    assert contents(workplace) == before


def test_a_run_that_a_kill_has_ended_before_any_checkpoint_is_trained_again(
    run_script: Callable[..., object], workplace: Path
) -> None:
    """It may have been killed after it has saved its model, of which nothing else says that it is its own."""
    shutil.copytree(workplace / "teacher", workplace / "student")
    (workplace / "student" / UNFINISHED_NAME).touch()
    done = run_script("train_squad.py", "student.yaml")
    assert getattr(done, "returncode", None) == 0, done
    assert json.loads((workplace / "student" / "results.json").read_text())["layers"] == 2
    assert not (workplace / "student" / UNFINISHED_NAME).exists()


def test_a_run_whose_results_are_deleted_is_made_again(
    run_script: Callable[..., object], workplace: Path
) -> None:
    """That is how a run is measured again; an edited card of it stays, as the run is refused then."""
    student = workplace / "student"
    assert getattr(run_script("train_squad.py", "student.yaml"), "returncode", None) == 0
    (student / "results.json").unlink()
    done = run_script("train_squad.py", "student.yaml")
    assert getattr(done, "returncode", None) == 0, done
    (student / "results.json").unlink()
    (student / "README.md").write_text("somebody's")
    refused = run_script("train_squad.py", "student.yaml")
    assert "holds README.md, but no run of this package" in getattr(refused, "stderr", "")
