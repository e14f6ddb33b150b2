"""Checkpoints: whole or not there, recognised when damaged, resumed by their own run only."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import traceback
from pathlib import Path

import datasets
import pytest
from safetensors import SafetensorError

from itrd_nlp.distillation.arguments import ITRDTrainingArguments
from itrd_nlp.distillation.trainer import ITRDTrainer
from itrd_nlp.errors import UserError
from itrd_nlp.files import replace_folder, sha256, writing
from itrd_nlp.training import checkpoints
from itrd_nlp.training import trainer as base_trainer
from itrd_nlp.training.checkpoints import (
    MANIFEST_NAME,
    damage,
    last_good_checkpoint,
    seal,
)


@pytest.fixture
def make_trainer(tmp_path, teacher, make_bert, make_rows, collate):
    def make_trainer(rows=None, teacher_model=None, eval_rows=None, **kwargs):
        defaults = {
            "output_dir": str(tmp_path / "run"),
            "per_device_train_batch_size": 4,
            "max_steps": 3,
            "save_strategy": "steps",
            "save_steps": 1,
            "logging_steps": 1,
            "report_to": "none",
            "disable_tqdm": True,
        }
        return ITRDTrainer(
            model=make_bert(2, seed=1),
            teacher=teacher_model or teacher,
            args=ITRDTrainingArguments(**(defaults | kwargs)),
            train_dataset=datasets.Dataset.from_list(rows or make_rows(12)),
            eval_dataset=datasets.Dataset.from_list(eval_rows) if eval_rows else None,
            data_collator=collate,
        )

    return make_trainer


@pytest.fixture
def run(make_trainer):
    """The folder of a finished run with checkpoints 1 to 3."""
    trainer = make_trainer()
    trainer.train()
    return Path(trainer.args.output_dir)


def names(folder: Path) -> list[str]:
    return [path.name for path in checkpoints.checkpoints(folder)]


def test_checkpoints_are_listed_newest_first_by_number_not_by_name(tmp_path):
    for step in (2, 10, 9):
        (tmp_path / f"checkpoint-{step}").mkdir()
    (tmp_path / "checkpoint-best").mkdir()
    assert names(tmp_path) == ["checkpoint-10", "checkpoint-9", "checkpoint-2"]


def test_a_sealed_folder_is_whole(run):
    assert names(run) == ["checkpoint-3", "checkpoint-2", "checkpoint-1"]
    assert [damage(path) for path in checkpoints.checkpoints(run)] == [None] * 3
    assert last_good_checkpoint(run) == run / "checkpoint-3"
    assert not [p.name for p in run.iterdir() if p.name.startswith(".")]


def truncate(path):
    path.write_bytes(path.read_bytes()[:-10])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def empty(path):
    path.write_bytes(b"")


DAMAGES = [
    ("model.safetensors", truncate, "model.safetensors has .* bytes, not"),
    ("model.safetensors", flip, "model.safetensors does not have the contents"),
    ("objective.safetensors", Path.unlink, "objective.safetensors is missing"),
    ("optimizer.pt", Path.unlink, "optimizer.pt is missing"),
    ("trainer_state.json", empty, "trainer_state.json has 0 bytes"),
    ("rng_state.pth", truncate, "rng_state.pth has"),
    (MANIFEST_NAME, Path.unlink, "was not written to its end"),
    (MANIFEST_NAME, empty, "manifest.json cannot be read"),
]


@pytest.mark.parametrize(("name", "spoil", "reason"), DAMAGES)
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_taken(
    run, make_trainer, caplog, name, spoil, reason
):
    spoil(run / "checkpoint-3" / name)
    with pytest.raises(UserError, match=f"checkpoint-3 is damaged: .*{reason}"):
        make_trainer().train(resume_from_checkpoint=str(run / "checkpoint-3"))
    before = {p: p.read_bytes() for p in (run / "checkpoint-2").iterdir()}
    trainer = make_trainer()
    trainer.train(resume_from_checkpoint="true")
    assert any("checkpoint-3 is damaged" in message for message in caplog.messages)
    assert trainer.state.global_step == 3
    assert damage(run / "checkpoint-3") is None  # written again
    assert {p: p.read_bytes() for p in (run / "checkpoint-2").iterdir()} == before


def test_where_every_checkpoint_is_damaged_the_run_is_refused(run, make_trainer):
    for path in checkpoints.checkpoints(run):
        truncate(path / "model.safetensors")
    with pytest.raises(UserError, match="holds no checkpoint that is whole"):
        make_trainer().train(resume_from_checkpoint=True)
    assert len(names(run)) == 3


def test_where_there_is_no_checkpoint_the_run_starts_anew(make_trainer, caplog):
    trainer = make_trainer()
    trainer.train(resume_from_checkpoint=True)
    assert trainer.state.global_step == 3
    assert any("holds no checkpoint to resume from" in message for message in caplog.messages)


def test_a_checkpoint_that_does_not_exist_is_refused(make_trainer):
    with pytest.raises(UserError, match="nowhere does not exist"):
        make_trainer().train(resume_from_checkpoint="nowhere")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"beta_corr": 3.0}, r"beta_corr is 3.0 now and was 2.0"),
        (
            {"temperature": 4.0, "seed": 5},
            r"seed is 5 now and was 42; temperature is 4.0 now and was 2.0",
        ),
        ({"layer_map": ["2:4"]}, r"layer_pairs is \['2:4'\] now and was \['1:2', '2:4'\]"),
        ({"per_device_train_batch_size": 2}, "per_device_train_batch_size is 2 now and was 4"),
        ({"rows": 7}, "train_dataset is"),
        ({"teacher_model": 9}, "teacher is"),
        # More steps have another schedule.
        ({"max_steps": 5}, "max_steps is 5 now and was 3"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused_with_what_differs(
    run, make_trainer, make_rows, make_bert, change, named
):
    if "rows" in change:
        change = {"rows": make_rows(12, seed=change["rows"])}
    if "teacher_model" in change:
        change = {"teacher_model": make_bert(4, seed=change["teacher_model"])}
    with pytest.raises(UserError, match=f"checkpoint-3 belongs to another run: .*{named}"):
        make_trainer(**change).train(resume_from_checkpoint=True)


def test_old_checkpoints_are_removed_but_not_the_best(make_trainer, make_rows):
    trainer = make_trainer(
        eval_rows=make_rows(8, seed=3),
        max_steps=5,
        save_total_limit=2,
        eval_strategy="steps",
        eval_steps=1,
        load_best_model_at_end=True,
        metric_for_best_model="loss",
        greater_is_better=True,  # the untrained student has the largest loss
        learning_rate=1e-2,
    )
    trainer.train()
    output = Path(trainer.args.output_dir)
    assert Path(trainer.state.best_model_checkpoint) == output / "checkpoint-1"
    assert names(output) == ["checkpoint-5", "checkpoint-1"]


@pytest.fixture
def child():
    """Run a function in a forked process; return its exit code, or minus the signal that ended it."""

    def child(function):
        pid = os.fork()
        if pid == 0:
            code = 99
            try:
                code = function() or 0
            except UserError as error:
                print(f"error: {error}", flush=True)
                code = 2
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        status = os.waitpid(pid, 0)[1]
        return os.waitstatus_to_exitcode(status)

    return child


@pytest.mark.parametrize(
    ("name", "call"),
    [("seal", 2), ("replace_folder", 2), ("write_identity", 3), ("rotate_checkpoints", 2)],
)
def test_a_kill_while_a_checkpoint_is_written_leaves_the_one_before(
    make_trainer, child, name, call
):
    output = Path(make_trainer().args.output_dir)

    def killed():
        genuine, calls = getattr(base_trainer, name), []

        def deadly(*args, **kwargs):
            calls.append(1)
            if len(calls) == call:
                os.kill(os.getpid(), signal.SIGKILL)
            return genuine(*args, **kwargs)

        setattr(base_trainer, name, deadly)
        make_trainer().train()

    assert child(killed) == -signal.SIGKILL
    written = call if name == "rotate_checkpoints" else call - 1
    assert last_good_checkpoint(output) == output / f"checkpoint-{written}"
    resumed = make_trainer()
    resumed.train(resume_from_checkpoint=True)
    assert names(output) == ["checkpoint-3", "checkpoint-2", "checkpoint-1"]
    assert not (output / checkpoints.STAGING_NAME).exists()


def test_a_disk_that_takes_no_more_ends_the_run_with_one_sentence(make_trainer, child, capfd):
    output = Path(make_trainer().args.output_dir)

    def limited():
        trainer = make_trainer()
        genuine = trainer._save_optimizer_and_scheduler

        def fill(folder):
            if "checkpoint-2" in folder:
                resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
            genuine(folder)

        trainer._save_optimizer_and_scheduler = fill
        trainer.train()

    assert child(limited) == 2
    printed = capfd.readouterr().out
    sentence = next(line for line in printed.splitlines() if line.startswith("error: "))
    assert "checkpoint-2 cannot be written" in sentence
    assert "Checkpoints written before are as they were." in sentence
    assert names(output) == ["checkpoint-1"]
    assert damage(output / "checkpoint-1") is None
    assert not (output / checkpoints.STAGING_NAME).exists()


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            OSError(errno.ENOSPC, "full"),
            "x cannot be written: No space left on device. All is well.",
        ),
        (
            RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed"),
            "x cannot be written: torch.save could not write its file, as on a full disk. All is well.",
        ),
        (SafetensorError("I/O error."), "x cannot be written: I/O error. All is well."),
    ],
)
def test_what_a_full_disk_raises_becomes_one_sentence(error, sentence):
    with pytest.raises(UserError) as raised, writing(Path("x"), "All is well."):
        raise error
    assert str(raised.value) == sentence


def test_other_errors_stay_what_they_are():
    with pytest.raises(RuntimeError, match="something else"), writing(Path("x")):
        raise RuntimeError("something else")


def test_publishing_replaces_what_was_there(tmp_path):
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    seal(tmp_path / "new")
    replace_folder(tmp_path / "new", tmp_path / "old")
    assert (tmp_path / "old" / "file").read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["old"]


def test_whoever_may_read_a_checkpoint_may_read_its_weights(make_trainer, tmp_path):
    before = os.umask(0o022)
    try:
        trainer = make_trainer()
        trainer.train()
        trainer.save_model()
    finally:
        os.umask(before)
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {"model.safetensors", "objective.safetensors"}
    assert {path.name: path.stat().st_mode & 0o777 for path in files} == {
        path.name: 0o644 for path in files
    }


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "a/../../outside", ""])
def test_a_manifest_names_files_of_its_own_folder_alone(name, tmp_path):
    folder = tmp_path / "checkpoint-1"
    folder.mkdir()
    (tmp_path / "outside").write_text("x")
    entry = {"size": 1, "sha256": sha256(tmp_path / "outside")}
    (folder / "manifest.json").write_text(json.dumps({name: entry}))
    assert damage(folder) == f"its manifest.json names {name!r}, which is no file in it"


@pytest.mark.parametrize("content", ["[" * 100_000, "[1]", "{", '{"a": 5}', "\ud800"])
def test_a_manifest_that_is_none_is_damage(content, tmp_path):
    (tmp_path / "manifest.json").write_text(content, encoding="utf-8", errors="surrogatepass")
    assert damage(tmp_path) == "its manifest.json cannot be read"
