"""configs/compare/smoke.yaml from its beginning to its tables, by the real script on a tiny teacher."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from filelock import FileLock

from itrd_nlp.compare.comparison import _locked
from itrd_nlp.compare.runner import Failure, _refuse_alike
from itrd_nlp.errors import UserError

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "compare.py"
SMOKE = ROOT / "configs" / "compare" / "smoke.yaml"
FLAGS = ("--base", "base.yaml", "--output_dir", "out")
TABLES = ("table.md", "table.tex", "table.csv", "f1_cost.svg", "curves.svg")


def run(*arguments: str) -> tuple[int, str, str]:
    """Run the script in this process, which saves its imports; trainings are processes anyway."""
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setattr(sys, "argv", [str(SCRIPT), str(SMOKE), *arguments])
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                runpy.run_path(str(SCRIPT), run_name="__main__")
            except SystemExit as exit:
                code = int(exit.code or 0)
    return code, out.getvalue(), err.getvalue()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, write_workplace: Any) -> Path:
    """A workplace with a finished comparison in `out`, which several test processes share."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    folder = folder / "compare_smoke"
    folder.mkdir(exist_ok=True)
    with FileLock(folder / "lock"), pytest.MonkeyPatch.context() as patch:
        if not (folder / "end").exists():
            write_workplace(folder)
            (folder / "tqdm.py").write_text("raise RuntimeError('a file of the user')\n")
            patch.chdir(folder)
            (folder / "end").write_text(json.dumps(run(*FLAGS, "--jobs", "2")))
    return folder


@pytest.fixture
def end(shared: Path) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of the comparison."""
    return tuple(json.loads((shared / "end").read_text()))


@pytest.fixture
def finished(shared: Path, end: tuple[int, str, str]) -> Path:
    assert end[0] == 0, end
    return shared / "out"


@pytest.fixture
def copy(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The finished comparison in a workplace of the test's own."""
    shutil.copytree(finished.parent, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "out"


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


def results(folder: Path, method: str) -> dict[str, Any]:
    path = folder / "cells" / "student" / method / "seed0" / "results.json"
    return json.loads(path.read_text())


def test_a_file_beside_a_comparison_takes_the_place_of_no_library(finished: Path) -> None:
    assert (finished.parent / "tqdm.py").is_file()
    assert (
        "a file of the user"
        not in (finished / "cells" / "student" / "kd" / "seed0" / "train.log").read_text()
    )


def test_every_training_is_a_record_with_its_scores(finished: Path) -> None:
    kd, itrd = records(finished)
    assert (kd["method"], itrd["method"]) == ("kd", "itrd")
    assert kd["overrides"] == {"beta_corr": 0, "beta_mi": 0}
    scores = np.load(finished / "scores.npz")
    for record in (kd, itrd):
        measured = results(finished, record["method"])
        for name in ("f1", "exact_match", "train_seconds", "environment"):
            assert record[name] == measured[name]
        f1 = scores[f"{record['name']}/f1"].astype(float)
        assert len(f1) == record["questions"] == 16
        assert 100 * f1.mean() == pytest.approx(record["f1"], abs=1e-5)
        answers = finished / "cells" / record["name"] / "analysis" / "predictions.json"
        assert record["predictions_sha256"] == hashlib.sha256(answers.read_bytes()).hexdigest()
        assert [step for step, _ in record["curves"]["task"]] == list(range(1, 9))


def test_both_had_the_same_budget_and_read_one_cache(finished: Path) -> None:
    kd, itrd = results(finished, "kd"), results(finished, "itrd")
    assert kd["steps"] == itrd["steps"] == 8
    ours, theirs = kd["arguments"], itrd["arguments"]
    differ = {name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)}
    assert differ == {"beta_corr", "beta_mi", "output_dir"}
    assert (kd["layer_pairs"], itrd["layer_pairs"]) == ([], ["1:2", "2:4"])
    (teacher,) = (p for p in (finished / "teacher_cache").iterdir() if p.is_dir())
    assert list(teacher.glob("*/*.bin"))


def test_the_end_is_the_table_and_progress_has_a_line_a_training(
    finished: Path, end: tuple[int, str, str]
) -> None:
    table = (finished / "table.md").read_text()
    assert table in end[1]
    for method in ("teacher", "kd", "itrd"):
        assert f"| student | {method} |" in table
    assert f"{results(finished, 'kd')['f1']:.2f}" in table
    assert "[1/2] cells/student/" in end[1] and "[2/2] cells/student/" in end[1]
    assert "0 min left" in end[1]


def test_a_second_call_trains_nothing_and_says_the_same(copy: Path) -> None:
    def times() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in (copy / "cells").rglob("*")}

    before, table = times(), (copy / "table.md").read_text()
    (copy / "table.md").unlink()
    code, out, err = run(*FLAGS)
    assert code == 0, err
    assert table in out and "[1/2]" not in out
    assert (copy / "table.md").read_text() == table
    assert times() == before


def test_tables_and_figures_can_be_made_without_the_trainings(
    finished: Path, tmp_path: Path
) -> None:
    for name in ("results.jsonl", "scores.npz"):
        shutil.copy(finished / name, tmp_path)
    code, _, err = run("--output_dir", str(tmp_path), "--tables_only")
    assert code == 0, err
    for name in TABLES:
        assert (tmp_path / name).read_bytes() == (finished / name).read_bytes()


def test_another_budget_in_the_same_folder_is_refused(copy: Path) -> None:
    table = (copy / "table.md").read_bytes()
    base = yaml.safe_load(Path("base.yaml").read_text())
    Path("base.yaml").write_text(yaml.safe_dump(base | {"num_train_epochs": 3}))
    code, _, err = run(*FLAGS)
    assert code == 2
    assert "holds a finished training with num_train_epochs = 2, not 3" in err
    assert (copy / "table.md").read_bytes() == table


def test_answers_that_are_not_those_of_the_results_are_refused(copy: Path) -> None:
    dev = json.loads(Path("dev.json").read_text())
    right = {
        qa["id"]: qa["answers"][0]["text"]
        for article in dev["data"]
        for paragraph in article["paragraphs"]
        for qa in paragraph["qas"]
    }
    cell = copy / "cells" / "student" / "kd" / "seed0"
    (cell / "analysis" / "predictions.json").write_text(json.dumps(right))
    code, _, err = run(*FLAGS)
    assert code == 2
    assert (
        "the answers have exact_match 100.000 on the validation questions, but results.json says"
        in err
    )


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("results.jsonl", None, "results.jsonl does not exist"),
        ("results.jsonl", b"{}\n", "results.jsonl: line 1 is no record of a training"),
        ("scores.npz", b"PK", "scores.npz is missing or damaged"),
    ],
)
def test_damaged_records_are_named(
    finished: Path, tmp_path: Path, name: str, content: bytes | None, sentence: str
) -> None:
    for file in ("results.jsonl", "scores.npz"):
        shutil.copy(finished / file, tmp_path)
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_bytes(content)
    code, _, err = run("--output_dir", str(tmp_path), "--tables_only")
    assert code == 2
    assert sentence in err


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("megabytes_fp32", None, "line 1: megabytes_fp32 is 'None': it should be a valid number"),
        ("student", {}, "line 1: student is '{}': it should be a valid string"),
        ("curves", {"task": [[[], 1.0]]}, "line 1: curves.task.0.0 is '[]'"),
    ],
)
def test_a_field_of_a_record_that_no_table_can_use_is_named(
    finished: Path, tmp_path: Path, field: str, value: object, sentence: str
) -> None:
    for file in ("results.jsonl", "scores.npz"):
        shutil.copy(finished / file, tmp_path)
    first, *others = (tmp_path / "results.jsonl").read_text().splitlines()
    lines = [json.dumps(json.loads(first) | {field: value}), *others]
    (tmp_path / "results.jsonl").write_text("\n".join(lines))
    code, _, err = run("--output_dir", str(tmp_path), "--tables_only")
    assert code == 2
    assert sentence in err


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK])
def test_a_disk_without_locks_is_a_warning(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def without(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", without)
    with _locked(tmp_path) as lock:
        assert lock > 0
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path} cannot be locked: {os.strerror(number)}."
    ]


def test_a_folder_belongs_to_one_comparison_and_the_trainings_it_left_behind(
    tmp_path: Path,
) -> None:
    with _locked(tmp_path) as lock:
        with pytest.raises(UserError, match="in use by another comparison"), _locked(tmp_path):
            pass
        orphan = subprocess.Popen(["sleep", "60"], pass_fds=(lock,))
    with pytest.raises(UserError, match="or by trainings that one left behind"), _locked(tmp_path):
        pass
    orphan.send_signal(signal.SIGKILL)
    orphan.wait()
    with _locked(tmp_path):
        pass


# ---- what all trainings have in common ----


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("teacher/config.json", None, "teacher teacher is a folder without config.json"),
        ("train.json", None, "train.json does not exist"),
        ("dev.json", None, "dev.json does not exist"),
        ("dev.json", b"{", "dev.json: the file is truncated or not JSON"),
    ],
)
def test_a_teacher_or_data_that_cannot_be_read_are_refused_before_the_first_training(
    name: str, content: bytes | None, sentence: str, copy: Path
) -> None:
    path = copy.parent / name
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    code, _, err = run("--base", "base.yaml", "--output_dir", "another")
    assert code == 2
    assert sentence in err
    assert not list(Path("another").glob("**/train.log"))


def failed(method: str, words: str, folder: Path, code: int = 2) -> Failure:
    cell = SimpleNamespace(folder=folder / method, method=method)
    cell.folder.mkdir(parents=True, exist_ok=True)
    (cell.folder / "train.log").write_text(words.format(cell.folder))
    return Failure(cell, code)  # type: ignore[arg-type]


def test_trainings_that_are_refused_alike_end_a_comparison(tmp_path: Path) -> None:
    words = "error: {}/config.yaml: beta is -1.\n"
    alike = [failed("kd", words, tmp_path), failed("itrd", words, tmp_path)]
    with pytest.raises(UserError, match=r"2 trainings were refused alike, so the other 5 .* -1\.$"):
        _refuse_alike(alike, 5)
    _refuse_alike(alike[:1], 5)  # of one method alone
    _refuse_alike([alike[0], failed("kd", words, tmp_path)], 5)
    _refuse_alike([alike[0], failed("itrd", "error: another.\n", tmp_path)], 5)
    _refuse_alike([alike[0], failed("itrd", words, tmp_path, code=1)], 5)  # no refusal
    crashed = [failed(m, "ImportError: no module\n", tmp_path, code=1) for m in ("kd", "itrd")]
    with pytest.raises(UserError, match=r"2 trainings failed alike, so .* ImportError: no module$"):
        _refuse_alike(crashed, 5)
    # The words of an earlier start count no more.
    earlier = (
        "--- started 2026-01-01 00:00:00\nerror: no teacher.\n--- started 2026-01-02 00:00:00\n"
    )
    ends = {"kd": "MemoryError\n", "itrd": "RuntimeError: no room\n"}
    later = [failed(m, earlier + "Traceback\n" + end, tmp_path, code=1) for m, end in ends.items()]
    assert [failure.sentence for failure in later] == ["MemoryError", "RuntimeError: no room"]
    _refuse_alike(later, 5)
    killed = [failed(m, "step 3\n", tmp_path, code=-9) for m in ("kd", "itrd")]
    _refuse_alike(killed, 5)  # by a signal, which says nothing about the others
    _refuse_alike([], 5)
