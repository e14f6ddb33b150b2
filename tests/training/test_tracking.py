"""The terms of the loss reach TensorBoard and trackio by `--report_to`, on this machine alone."""

import datasets
import pytest

from itrd_nlp.distillation.arguments import ITRDTrainingArguments
from itrd_nlp.distillation.trainer import ITRDTrainer

PAIRS = ("1:2", "2:4")
TERMS = ["loss", "task", "kd", "corr", "mi"]
TERMS += [f"{term}_{pair}" for term in ("corr", "mi", "correlation") for pair in PAIRS]


@pytest.fixture
def trained(teacher, student, make_rows, collate, tmp_path, monkeypatch):
    """A trainer after three steps and an evaluation, what it logged sent to a tracker."""

    def trained(tracker):
        monkeypatch.chdir(tmp_path)
        trainer = ITRDTrainer(
            model=student,
            teacher=teacher,
            args=ITRDTrainingArguments(
                "run",
                per_device_train_batch_size=4,
                max_steps=3,
                logging_steps=1,
                eval_strategy="steps",
                eval_steps=3,
                save_strategy="no",
                report_to=tracker,
                project="itrd_nlp_test",
                run_name="three steps",
                disable_tqdm=True,
            ),
            train_dataset=datasets.Dataset.from_list(make_rows(12)),
            eval_dataset=datasets.Dataset.from_list(make_rows(4, seed=1)),
            data_collator=collate,
        )
        trainer.train()
        return trainer

    return trained


def logged(trainer, name):
    """Step and value of everything logged under a name."""
    return [(row["step"], row[name]) for row in trainer.state.log_history if name in row]


def test_tensorboard_has_every_term_of_every_step(trained, tmp_path):
    event_accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator"
    )
    trainer = trained("tensorboard")
    (file,) = (tmp_path / "run").rglob("events.out.tfevents.*")
    events = event_accumulator.EventAccumulator(str(file))
    events.Reload()
    for name in TERMS:
        written = [(event.step, event.value) for event in events.Scalars(f"train/{name}")]
        assert written == [(s, pytest.approx(v, rel=1e-6)) for s, v in logged(trainer, name)]
        assert len(written) == 3
    assert [event.step for event in events.Scalars("eval/loss")] == [3]


def test_trackio_has_every_term_of_every_step(trained):
    trackio = pytest.importorskip("trackio")
    from trackio.sqlite_storage import SQLiteStorage

    trainer = trained("trackio")
    (run,) = trackio.Api().runs("itrd_nlp_test")
    assert run.name == "three steps"
    rows = SQLiteStorage.get_logs("itrd_nlp_test", run.name, run_id=run.id)
    for name in TERMS:
        written = [
            (row["train/global_step"], row[f"train/{name}"])
            for row in rows
            if f"train/{name}" in row
        ]
        assert written == [(s, pytest.approx(v)) for s, v in logged(trainer, name)]
        assert len(written) == 3
    assert run.config["beta_corr"] == 2.0
