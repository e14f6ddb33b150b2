"""Streams: data sets without a length, over several passes, resumed in the middle of one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import pytest
import torch

from itrd_nlp.distillation.arguments import ITRDTrainingArguments
from itrd_nlp.distillation.trainer import ITRDTrainer
from itrd_nlp.errors import UserError
from itrd_nlp.training.arguments import FineTuningArguments
from itrd_nlp.training.trainer import BaseTrainer


class OwnStream(torch.utils.data.IterableDataset):
    """Not of the library `datasets`."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows

    def __iter__(self) -> Any:
        return iter(self.rows)


def of_datasets(rows: list[dict[str, Any]]) -> Any:
    return datasets.Dataset.from_list(rows).to_iterable_dataset(num_shards=2)


@pytest.fixture(params=["fine-tuning", "distillation"])
def make_trainer(request, tmp_path, teacher, make_bert, collate):
    def make_trainer(data: Any, **kwargs: Any) -> Any:
        distils = request.param == "distillation"
        defaults = {
            "output_dir": str(tmp_path / "run"),
            "per_device_train_batch_size": 4,
            "max_steps": 8,
            "learning_rate": 1e-2,
            "save_strategy": "no",
            "logging_steps": 1,
            "train_sampling_strategy": "sequential",
            "report_to": "none",
            "disable_tqdm": True,
        }
        group = ITRDTrainingArguments if distils else FineTuningArguments
        return (ITRDTrainer if distils else BaseTrainer)(
            model=make_bert(2, seed=1),
            args=group(**(defaults | kwargs)),
            train_dataset=data,
            data_collator=collate,
            **({"teacher": teacher} if distils else {}),
        )

    return make_trainer


def trained(trainer: Any, **kwargs: Any) -> tuple[list[float], dict[str, torch.Tensor]]:
    trainer.train(**kwargs)
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    return losses, {n: p.detach().clone() for n, p in trainer.model.named_parameters()}


@pytest.mark.parametrize("stream", [OwnStream, of_datasets])
def test_three_passes_over_a_stream_are_three_epochs_of_its_rows(make_trainer, make_rows, stream):
    """12 rows in batches of 4: eight steps are two passes and two thirds."""
    rows = make_rows(12)
    streamed = trained(make_trainer(stream(rows)))
    listed = trained(make_trainer(datasets.Dataset.from_list(rows)))
    assert len(streamed[0]) == 8
    assert streamed[0] == listed[0]
    for name, value in listed[1].items():
        assert torch.equal(streamed[1][name], value), name


@pytest.mark.parametrize("stream", [OwnStream, of_datasets])
@pytest.mark.parametrize("step", [3, 5])
def test_a_stream_is_taken_up_in_the_pass_and_at_the_row_of_the_checkpoint(
    make_trainer, make_rows, stream, step
) -> None:
    rows = make_rows(12)
    saved = {"save_strategy": "steps", "save_steps": 1}
    whole = make_trainer(stream(rows), **saved)
    expected = trained(whole)
    checkpoint = Path(whole.args.output_dir) / f"checkpoint-{step}"
    resumed = make_trainer(stream(rows), **saved)
    found = trained(resumed, resume_from_checkpoint=str(checkpoint))
    assert resumed._initial_global_step == step
    assert found[0] == expected[0]
    for name, value in expected[1].items():
        assert torch.equal(found[1][name], value), name


def test_a_step_that_the_end_of_a_pass_cuts_off_is_left_out(make_trainer, make_rows) -> None:
    """Five batches, two a step: the fifth is left out, and no step has more gradients than its own."""
    rows = make_rows(20)
    accumulated = {"gradient_accumulation_steps": 2, "max_steps": 4}
    ours = trained(make_trainer(OwnStream(rows), **accumulated))
    expected = trained(make_trainer(datasets.Dataset.from_list(rows[:16]), **accumulated))
    assert ours[0] == expected[0]
    for name, value in expected[1].items():
        assert torch.equal(ours[1][name], value), name


def test_a_stream_with_too_few_rows_for_a_step_is_refused(make_trainer, make_rows) -> None:
    with pytest.raises(UserError, match=r"after 1 batches, but a step takes .* = 2 of them"):
        make_trainer(OwnStream(make_rows(4)), gradient_accumulation_steps=2).train()
