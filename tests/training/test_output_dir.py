"""The folder of a run: no run meets the checkpoints of another, and one process at a time trains in it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import datasets
import pytest
from transformers import TrainerCallback

from itrd_nlp.errors import UserError
from itrd_nlp.training import checkpoints
from itrd_nlp.training.arguments import FineTuningArguments
from itrd_nlp.training.checkpoints import damage, rotate_checkpoints
from itrd_nlp.training.output_dir import LOCK_NAME, check_output_dir, locked
from itrd_nlp.training.trainer import BaseTrainer

HOLD = """
import sys, time
from pathlib import Path
from itrd_nlp.training.output_dir import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def arguments(tmp_path):
    def arguments(**kwargs):
        defaults = {
            "output_dir": str(tmp_path / "run"),
            "per_device_train_batch_size": 4,
            "max_steps": 4,
            "save_strategy": "steps",
            "save_steps": 2,
            "logging_steps": 1,
            "report_to": "none",
            "disable_tqdm": True,
        }
        return FineTuningArguments(**(defaults | kwargs))

    return arguments


@pytest.fixture
def make_trainer(arguments, make_bert, make_rows, collate):
    def make_trainer(*callbacks, **kwargs):
        return BaseTrainer(
            model=make_bert(2, seed=1),
            args=arguments(**kwargs),
            train_dataset=datasets.Dataset.from_list(make_rows(24)),
            data_collator=collate,
            callbacks=list(callbacks),
        )

    return make_trainer


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "run"


@pytest.fixture
def other_process(folder):
    """Another process that holds the folder, until the test ends it."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def names(folder: Path) -> list[str]:
    return [path.name for path in checkpoints.checkpoints(folder)]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_run_that_starts_anew_is_refused_beside_the_checkpoints_of_another(
    make_trainer, folder
) -> None:
    make_trainer(max_steps=6).train()
    before = contents(folder)
    with pytest.raises(UserError) as refused:
        make_trainer(save_total_limit=1).train()
    sentence = str(refused.value)
    assert "holds checkpoint-6 of an earlier run" in sentence
    assert "--resume_from_checkpoint true" in sentence
    assert "--overwrite_output_dir true" in sentence
    assert contents(folder) == before


def test_it_is_refused_before_models_and_data_are_loaded(make_trainer, arguments, folder) -> None:
    check_output_dir(arguments())  # there is no folder yet
    make_trainer().train()
    before = contents(folder)
    with pytest.raises(UserError, match="holds checkpoint-4 of an earlier run"):
        check_output_dir(arguments())
    check_output_dir(arguments(resume_from_checkpoint="true"))
    check_output_dir(arguments(resume_from_checkpoint=str(folder / "checkpoint-2")))
    check_output_dir(arguments(overwrite_output_dir=True))
    assert contents(folder) == before


def test_overwriting_removes_checkpoints_and_nothing_else(make_trainer, folder) -> None:
    make_trainer(max_steps=6).train()
    for name in ("results.json", "checkpoint-best/model", "notes/checkpoint-1", "checkpoint-9"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("mine")
    make_trainer(overwrite_output_dir=True).train()
    assert names(folder) == ["checkpoint-4", "checkpoint-2"]
    for name in ("results.json", "checkpoint-best/model", "notes/checkpoint-1", "checkpoint-9"):
        assert (folder / name).read_text() == "mine"


def test_a_folder_whose_run_saved_no_checkpoint_may_be_trained_in_again(make_trainer) -> None:
    for _ in range(2):
        make_trainer(save_strategy="no").train()


def test_a_checkpoint_from_elsewhere_does_not_open_a_folder_with_others(
    make_trainer, tmp_path, folder
) -> None:
    make_trainer().train()
    elsewhere = str(tmp_path / "elsewhere")
    make_trainer(output_dir=elsewhere).train()
    with pytest.raises(UserError, match="run holds checkpoint-4 of an earlier run"):
        make_trainer().train(resume_from_checkpoint=f"{elsewhere}/checkpoint-2")
    trainer = make_trainer(overwrite_output_dir=True)
    trainer.train(resume_from_checkpoint=f"{elsewhere}/checkpoint-2")
    assert names(folder) == ["checkpoint-4"]


def test_the_checkpoint_that_is_taken_up_is_not_overwritten(make_trainer, folder) -> None:
    make_trainer().train()
    with pytest.raises(UserError, match="overwrite_output_dir is true, but resume_from_checkpoint"):
        make_trainer(overwrite_output_dir=True).train(resume_from_checkpoint=True)
    assert names(folder) == ["checkpoint-4", "checkpoint-2"]


def test_a_second_process_gets_one_sentence(make_trainer, arguments, other_process) -> None:
    for second in (make_trainer().train, lambda: check_output_dir(arguments())):
        with pytest.raises(UserError, match="run is in use by another training; wait until"):
            second()
    other_process.kill()  # a kill leaves the file, but not the lock
    other_process.wait()
    make_trainer().train()


def test_the_folder_is_held_while_it_is_trained_in_and_the_lock_leaves_no_file(
    make_trainer, folder
) -> None:
    found = []

    class Look(TrainerCallback):
        def on_step_end(self, *_, **__):
            command = [sys.executable, "-c", HOLD, str(folder)]
            if not found:
                found.append(subprocess.run(command, capture_output=True, text=True, input=""))

    make_trainer(Look()).train()
    (second,) = found
    assert second.returncode != 0 and "is in use by another training" in second.stderr
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def test_the_lock_is_given_back_after_an_error(folder) -> None:
    with pytest.raises(RuntimeError), locked(folder):
        raise RuntimeError
    assert not (folder / LOCK_NAME).exists()
    with locked(folder):
        pass


def test_rotation_keeps_what_the_run_has_just_written(tmp_path) -> None:
    """A damaged checkpoint of a higher number was passed over when the run resumed."""
    for step in (1, 2, 3, 10):
        (tmp_path / f"checkpoint-{step}").mkdir()
    three = tmp_path / "checkpoint-3"
    rotate_checkpoints(tmp_path, None, newest=three, best=None)
    assert len(names(tmp_path)) == 4
    rotate_checkpoints(tmp_path, 3, newest=three, best=None)
    assert names(tmp_path) == ["checkpoint-3", "checkpoint-2", "checkpoint-1"]
    rotate_checkpoints(tmp_path, 1, newest=three, best=tmp_path / "checkpoint-1")
    assert names(tmp_path) == ["checkpoint-3", "checkpoint-1"]
    rotate_checkpoints(tmp_path, 1, newest=three, best=None)
    assert names(tmp_path) == ["checkpoint-3"]


def test_a_run_that_passed_over_a_damaged_checkpoint_keeps_a_whole_one(
    make_trainer, folder
) -> None:
    make_trainer(max_steps=6).train()
    weights = folder / "checkpoint-6" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])

    class Stop(TrainerCallback):
        def on_save(self, args, state, control, **kwargs):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_trainer(Stop(), max_steps=6, save_total_limit=1, save_steps=1).train(
            resume_from_checkpoint=True
        )
    assert [damage(path) for path in checkpoints.checkpoints(folder)] == [None]
