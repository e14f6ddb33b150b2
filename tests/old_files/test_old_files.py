"""Files on the disks of users are still read: the code before the move into packages has written these.

make_old_files.py says how they were made, and why they are never made again. Each test works on a copy of them. Nothing
of the package is imported here but what users import, so that a module may move and the tests stay as they are.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import re
import runpy
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import itrd_nlp

SCRIPTS = Path(__file__).parents[2] / "scripts"
OLD = Path(__file__).parent

RESUME = ("student.yaml", "--resume_from_checkpoint", "true")
STEPS, STEPS_BEFORE = 12, 7  # of the whole training, and until the checkpoint
CHECKPOINT = f"student/checkpoint-{STEPS_BEFORE}"
TRAININGS = [  # script, config and output_dir
    ("train_teacher.py", "teacher.yaml", "teacher"),
    ("train_squad.py", "student.yaml", "student"),
    ("train_classifier.py", "classifier.yaml", "classifier"),
]
MARKED = 12.34  # a figure that no second measurement gives


@dataclass
class Done:
    """A script that came to its end, and the folder that it worked in."""

    folder: Path
    code: int
    out: str
    err: str


def run(folder: Path, script: str, *arguments: str) -> Done:
    """Run a script in this process, which saves its imports, as a user in this folder does."""
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("sys.argv", [script, *arguments])
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                runpy.run_path(str(SCRIPTS / script), run_name="__main__")
            except SystemExit as exit:
                code = int(exit.code or 0)
    return Done(folder, code, out.getvalue(), err.getvalue())


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def mark(path: Path) -> None:
    """Put a figure into a file of results by which it is known again."""
    path.write_text(json.dumps(read(path) | {"exact_match": MARKED}), encoding="utf-8")


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def logged_steps(done: Done) -> int:
    return sum(
        re.match(r"step +\d+/\d+ +loss ", line) is not None for line in done.out.splitlines()
    )


def refusal(done: Done) -> str:
    """The one sentence with which a script refused."""
    assert done.code == 2, done
    (sentence,) = [line for line in done.err.splitlines() if line.startswith("error: ")]
    return sentence


@pytest.fixture(scope="module")
def copy_of_old_files(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    """Copy the old files into a folder of their own."""

    def copy() -> Path:
        folder = tmp_path_factory.mktemp("old_files")
        ignored = shutil.ignore_patterns("*.py", "__pycache__")
        shutil.copytree(OLD, folder, ignore=ignored, dirs_exist_ok=True)
        return folder

    return copy


@pytest.fixture
def folder(copy_of_old_files: Callable[[], Path]) -> Path:
    """A copy of the old files."""
    return copy_of_old_files()


@pytest.fixture(scope="module")
def interrupted(copy_of_old_files: Callable[[], Path]) -> Callable[[], Path]:
    """Copy the old files, and of the student its checkpoint alone, as a kill leaves them."""

    def copy() -> Path:
        folder = copy_of_old_files()
        shutil.move(folder / CHECKPOINT, folder / "checkpoint")
        shutil.rmtree(folder / "student")
        shutil.move(folder / "checkpoint", folder / CHECKPOINT)
        return folder

    return copy


# ---- a checkpoint ----


@pytest.fixture(scope="module")
def resumed(interrupted: Callable[[], Path]) -> Done:
    """The training of the student, resumed from its old checkpoint."""
    done = run(interrupted(), "train_squad.py", *RESUME)
    assert done.code == 0, done
    return done


def test_a_resumed_training_takes_the_steps_after_the_checkpoint_alone(resumed: Done) -> None:
    assert logged_steps(resumed) == STEPS - STEPS_BEFORE
    assert read(resumed.folder / "student/results.json")["steps"] == STEPS


def test_a_resumed_training_leaves_its_checkpoint_as_it_was(resumed: Done) -> None:
    assert contents(resumed.folder / CHECKPOINT) == contents(OLD / CHECKPOINT)


def test_a_resumed_training_ends_with_the_weights_of_the_uninterrupted_one(resumed: Done) -> None:
    old = load_file(OLD / "student/model.safetensors")
    new = load_file(resumed.folder / "student/model.safetensors")
    torch.testing.assert_close(new, old, rtol=1e-4, atol=1e-5)  # other CPUs round otherwise


def test_a_resumed_training_continues_the_log_of_the_checkpoint(resumed: Done) -> None:
    history = read(resumed.folder / "student/analysis/history.json")
    assert [row["step"] for row in history if "loss" in row] == list(range(1, STEPS + 1))
    assert history[:STEPS_BEFORE] == read(OLD / "student/analysis/history.json")[:STEPS_BEFORE]


def test_a_resumed_training_has_the_scores_of_the_uninterrupted_one(resumed: Done) -> None:
    old, new = read(OLD / "student/results.json"), read(resumed.folder / "student/results.json")
    for name in ("exact_match", "f1", "signature", "layer_pairs", "arguments"):
        assert new[name] == pytest.approx(old[name]) if name == "f1" else new[name] == old[name]
    assert new["datasets"].keys() == old["datasets"].keys()
    for split, data in new["datasets"].items():  # it says more now
        assert data == data | old["datasets"][split]


def test_a_resumed_training_reads_the_old_teacher_cache(resumed: Done) -> None:
    assert contents(resumed.folder / "teacher_cache") == contents(OLD / "teacher_cache")


def test_a_checkpoint_of_another_objective_is_refused(interrupted: Callable[[], Path]) -> None:
    folder = interrupted()
    sentence = refusal(run(folder, "train_squad.py", *RESUME, "--beta_corr", "3"))
    assert f"{CHECKPOINT} belongs to another run: beta_corr is 3.0 now and was 2.0. " in sentence
    assert contents(folder / CHECKPOINT) == contents(OLD / CHECKPOINT)


# ---- a finished run ----


@pytest.mark.parametrize(("script", "config", "output_dir"), TRAININGS)
def test_a_finished_run_is_shown_again(
    folder: Path, script: str, config: str, output_dir: str
) -> None:
    before = contents(folder)
    done = run(folder, script, config)
    assert done.code == 0, done
    assert f"Finished already: {output_dir}" in done.out
    assert contents(folder) == before


@pytest.mark.parametrize(("script", "config", "output_dir"), TRAININGS)
def test_a_finished_run_is_not_overwritten_by_another(
    folder: Path, script: str, config: str, output_dir: str
) -> None:
    before = contents(folder)
    sentence = refusal(run(folder, script, config, "--seed", "1"))
    assert f"output_dir {output_dir} holds a finished run with seed = 0, not 1; " in sentence
    assert contents(folder) == before


def test_a_report_is_made_of_a_finished_run(folder: Path) -> None:
    (folder / "student/report.html").unlink()
    done = run(folder, "report.py", "student")
    assert done.code == 0, done
    page = (folder / "student/report.html").read_text(encoding="utf-8")
    results = read(OLD / "student/results.json")
    for scores in (results, results["teacher"]):
        assert f"{scores['exact_match']:.2f}" in page and f"{scores['f1']:.2f}" in page


# ---- a teacher ----


@pytest.fixture(scope="module")
def taught(copy_of_old_files: Callable[[], Path]) -> Done:
    """A new student of the old teacher, in whose results.json a figure is marked."""
    folder = copy_of_old_files()
    mark(folder / "teacher/results.json")
    arguments = ("--output_dir", "new", "--max_steps", "3", "--save_strategy", "no")
    done = run(folder, "train_squad.py", "student.yaml", *arguments)
    assert done.code == 0, done
    return done


def test_the_scores_of_a_teacher_are_believed(taught: Done) -> None:
    old, new = read(OLD / "teacher/results.json"), read(taught.folder / "new/results.json")
    assert new["teacher"]["exact_match"] == MARKED
    for name in ("f1", "questions", "signature", "base_model", "train_seconds"):
        assert new["teacher"][name] == old[name]


def test_the_answers_of_a_teacher_are_believed(taught: Done) -> None:
    answers = read(taught.folder / "new/analysis/teacher_predictions.json")
    assert answers == read(OLD / "teacher/analysis/predictions.json")


def test_a_new_training_reads_the_old_teacher_cache(taught: Done) -> None:
    assert logged_steps(taught) == 3
    assert contents(taught.folder / "teacher_cache") == contents(OLD / "teacher_cache")


def test_a_cold_teacher_cache_is_filled_in_the_old_form(folder: Path) -> None:
    def form(cache: Path) -> list[tuple[str, str, int]]:
        """Folder, ending and size of each file of records; their names are drawn."""
        return sorted(
            (str(path.parent.relative_to(cache)), path.suffix, path.stat().st_size)
            for path in cache.glob("*/*/*")
            if not path.parent.name.startswith("answers-")
        )

    arguments = ("--output_dir", "new", "--num_train_epochs", "1", "--save_strategy", "no")
    done = run(folder, "train_squad.py", "student.yaml", *arguments, "--teacher_cache_dir", "cold")
    assert done.code == 0, done
    assert form(folder / "cold") == form(OLD / "teacher_cache")


def test_the_scores_of_a_teacher_in_its_cache_are_believed(folder: Path) -> None:
    (scores,) = (folder / "teacher_cache").glob("*/answers-*/results.json")
    mark(scores)
    arguments = ("--output_dir", "new", "--max_steps", "1")  # base.yaml asks fewer questions
    done = run(folder, "train_squad.py", "base.yaml", *arguments)
    assert done.code == 0, done
    assert read(folder / "new/results.json")["teacher"]["exact_match"] == MARKED


def test_a_classifier_teaches(folder: Path) -> None:
    arguments = ("--teacher", "classifier", "--num_layers", "1", "--output_dir", "new")
    # The config of the classifier has what both scripts take, but for the name of the model.
    lines = (folder / "classifier.yaml").read_text().splitlines(keepends=True)
    (folder / "new.yaml").write_text("".join(x for x in lines if "model_name_or_path" not in x))
    done = run(folder, "distil_classifier.py", "new.yaml", *arguments)
    assert done.code == 0, done
    old, new = read(OLD / "classifier/results.json"), read(folder / "new/results.json")
    for name in ("accuracy", "f1"):
        assert new["teacher"][name] == pytest.approx(old[name])


# ---- a card ----


@pytest.mark.parametrize("model", ["teacher", "student"])
def test_a_push_shows_the_scores_of_the_results(folder: Path, model: str) -> None:
    done = run(folder, "push_to_hub.py", "--model", model, "--repo_id", "me/tiny", "--dry_run")
    assert done.code == 0, done
    results = read(OLD / model / "results.json")
    assert "Nothing was pushed." in done.out
    for name in ("exact_match", "f1"):
        assert re.search(rf"type: {name}\n +value: {round(results[name], 2)}\n", done.out)
        assert f"{results[name]:.2f} |" in done.out


@pytest.mark.parametrize("model", ["teacher", "student"])
def test_a_card_that_nobody_edited_is_written_anew(folder: Path, model: str) -> None:
    assert 'from_pretrained("me/tiny")' not in (folder / model / "README.md").read_text()
    done = run(folder, "push_to_hub.py", "--model", model, "--repo_id", "me/tiny", "--dry_run")
    assert 'from_pretrained("me/tiny")' in done.out


def test_a_card_that_somebody_edited_is_pushed_as_it_is(folder: Path) -> None:
    card = folder / "student/README.md"
    card.write_text(card.read_text().replace("## Limits", "## What it cannot do"))
    done = run(folder, "push_to_hub.py", "--model", "student", "--repo_id", "me/tiny", "--dry_run")
    assert card.read_text() in done.out


def test_the_lines_of_a_card_answer_a_question(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    card = (OLD / "student/README.md").read_text(encoding="utf-8")
    (lines,) = [
        code for code in re.findall(r"```python\n(.*?)```", card, re.S) if "itrd_nlp" in code
    ]
    assert "from itrd_nlp.question_answering.pipeline import load_pipeline\n" in lines
    paragraph = read(OLD / "dev.json")["data"][0]["paragraphs"][0]
    asked = paragraph["qas"][0]
    monkeypatch.chdir(folder)
    capsys.readouterr()
    exec(lines, {"question": asked["question"], "context": paragraph["context"]})
    answer = read(OLD / "student/analysis/predictions.json")[asked["id"]]
    assert capsys.readouterr().out.startswith(f"{answer} ")


def test_the_import_of_a_card_is_that_of_the_package() -> None:
    from itrd_nlp.question_answering.pipeline import load_pipeline

    assert load_pipeline is itrd_nlp.load_pipeline


# ---- a comparison ----


def without_intervals(table: str) -> list[str]:
    """The lines of a table, without interval and p, and without the sentences below it.

    Earlier versions drew questions. Seeds and articles are drawn today, so these two are others now.
    """
    rows = [line for line in table.splitlines() if line.startswith("|")]
    return [re.sub(r" \[[-+].*?\] \| [^|]* \|", " |", line) for line in rows]


def test_tables_of_a_comparison_are_made_again(folder: Path) -> None:
    names = ("table.md", "table.tex", "table.csv")
    for name in names:
        (folder / "compare" / name).unlink()
    done = run(folder, "compare.py", "compare.yaml", "--tables_only")
    assert done.code == 0, done
    old, new = ((at / "compare/table.md").read_text() for at in (OLD, folder))
    assert without_intervals(new) == without_intervals(old)
    old_rows, new_rows = (
        list(csv.DictReader((at / "compare/table.csv").open())) for at in (OLD, folder)
    )
    drawn = ("f1_difference_low", "f1_difference_high", "p_value")
    for old_row, new_row in zip(old_rows, new_rows, strict=True):
        assert {k: v for k, v in new_row.items() if k not in drawn} == {
            k: v for k, v in old_row.items() if k not in drawn
        }
    assert (folder / "compare/table.tex").read_text().startswith("% EM and F1 in percent on 8")


def test_a_finished_comparison_trains_nothing(folder: Path) -> None:
    done = run(folder, "compare.py", "compare.yaml")
    assert done.code == 0, done
    assert "[1/2]" not in done.out
    assert contents(folder / "compare/cells") == contents(OLD / "compare/cells")
    assert (folder / "compare/table.md").read_text() in done.out
    old, new = ((at / "compare/table.md").read_text() for at in (OLD, folder))
    assert without_intervals(new) == without_intervals(old)


def test_a_finished_comparison_collects_the_same_records(folder: Path) -> None:
    (folder / "compare/results.jsonl").unlink()
    (folder / "compare/scores.npz").unlink()
    done = run(folder, "compare.py", "compare.yaml")
    assert done.code == 0, done
    old, new = (
        [json.loads(line) for line in (root / "compare/results.jsonl").read_text().splitlines()]
        for root in (OLD, folder)
    )
    assert [record["name"] for record in new] == ["T2/kd/seed0", "T2/itrd/seed0"]
    assert [now | then for then, now in zip(old, new, strict=True)] == new


def test_a_finished_comparison_is_not_overwritten_by_another(folder: Path) -> None:
    base = folder / "base.yaml"
    base.write_text(base.read_text().replace("seed: 0", "weight_decay: 0.1"))
    sentence = refusal(run(folder, "compare.py", "compare.yaml"))
    assert "holds a finished training with weight_decay = None, not 0.1; " in sentence
    assert contents(folder / "compare") == contents(OLD / "compare")
