"""The trainings of a comparison on one machine share its GPUs: each sees one, as a training of one process must."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from itrd_nlp.cli import parser
from itrd_nlp.cli.comparison import setting_of
from itrd_nlp.compare.arguments import CompareArguments
from itrd_nlp.compare.launching import LocalProcesses, Started
from itrd_nlp.compare.plan import Cell, Plan

NAMED = "CUDA_VISIBLE_DEVICES"
SAYS = f"import os, time; print(os.environ.get({NAMED!r}), flush=True); time.sleep(60)"


@pytest.fixture
def cells(workplace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Cell]:
    monkeypatch.chdir(workplace)
    content = {"base": "base.yaml", "output_dir": str(tmp_path / "out"), "methods": {"itrd": {}}}
    path = tmp_path / "compare.yaml"
    path.write_text(yaml.safe_dump(content | {"seeds": [0, 1, 2, 3], "reference": "itrd"}))
    (args,) = parser.parse([CompareArguments], [str(path)])
    plan = Plan(args, setting_of("question-answering"))
    return plan.cells(plan.nothing_chosen())


@pytest.fixture
def launcher(request: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalProcesses]:
    named, count = request.param
    monkeypatch.delenv(NAMED, raising=False)
    if named is not None:
        monkeypatch.setenv(NAMED, named)
    monkeypatch.setattr("torch.cuda.device_count", lambda: count)
    lock = os.open("/dev/null", os.O_RDONLY)
    launcher = LocalProcesses([sys.executable, "-c", SAYS], lock)
    yield launcher
    for training in launcher.trainings:
        training.end(signal.SIGKILL)
        training.process.wait()
    os.close(lock)


def seen(training: Started) -> str:
    """Return the GPUs that a real process of a training finds in its environment."""
    log = training.cell.folder / "train.log"
    while len(lines := log.read_text().splitlines()) < 2:
        assert training.code() is None
    return lines[1]


@pytest.mark.parametrize(
    ("launcher", "names"),
    [
        ((None, 3), ["0", "1", "2", "0"]),
        (("3, GPU-b", 2), ["3", "GPU-b", "3", "GPU-b"]),
        (("1,-1,2", 1), ["1"] * 4),  # CUDA sees none behind a -1
        (("", 0), [""] * 4),
        ((None, 0), ["None"] * 4),
    ],
    indirect=["launcher"],
)
def test_each_training_sees_one_gpu_in_turn(
    launcher: LocalProcesses, names: list[str], cells: list[Cell]
) -> None:
    trainings = [launcher.start(cell, jobs=4) for cell in cells]
    assert [seen(training) for training in trainings] == names


@pytest.mark.parametrize("launcher", [(None, 2)], indirect=True)
def test_the_gpu_of_a_training_that_ended_is_the_next_one(
    launcher: LocalProcesses, cells: list[Cell]
) -> None:
    first, second = (launcher.start(cell, jobs=2) for cell in cells[:2])
    assert (seen(first), seen(second)) == ("0", "1")
    second.end(signal.SIGKILL)
    launcher.trainings[-1].process.wait()
    third = launcher.start(cells[2], jobs=2)
    assert seen(third) == "1"
