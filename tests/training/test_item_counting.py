"""The share of a micro-batch is found without waiting for the device."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from transformers import Trainer

from itrd_nlp.training.item_counting import ItemCountingTrainer


@pytest.fixture
def loss_of(monkeypatch):
    """Return a function that computes the loss of a micro-batch whose mean is 6, on a device."""

    def run(num_items_in_batch, device="cpu"):
        def mean(*_, **__):
            return torch.tensor(6.0, device=device), {}

        monkeypatch.setattr(Trainer, "compute_loss", mean)
        trainer = ItemCountingTrainer.__new__(ItemCountingTrainer)
        trainer.compute_loss_func = None
        trainer.args = SimpleNamespace(world_size=1, average_tokens_across_devices=True)
        labels = torch.tensor([[1, 2, -100]], device=device)
        return trainer.compute_loss(None, {"labels": labels}, False, num_items_in_batch)

    return run


@pytest.mark.parametrize("as_number", [int, torch.tensor])
def test_a_micro_batch_has_the_share_of_its_labels(loss_of, as_number):
    assert loss_of(as_number(8)).item() == pytest.approx(6 * 2 / 8)
    assert loss_of(as_number(0)).item() == pytest.approx(6 * 2)


def test_no_number_is_read_from_the_device(loss_of):
    """Reading a number from the meta device is impossible."""
    assert loss_of(torch.tensor(8, device="meta"), "meta").is_meta


@pytest.fixture
def counting_trainer():
    """A trainer of a model that counts how often its parameters are counted."""
    trainer = ItemCountingTrainer.__new__(ItemCountingTrainer)
    counts = []
    trainer.model = SimpleNamespace(
        main_input_name="input_ids", num_parameters=lambda **_: counts.append(1) or 1_000_003
    )
    return trainer, counts


def test_the_operations_of_each_batch_are_those_that_transformers_counts(counting_trainer):
    trainer, counts = counting_trainer
    batches = [{"input_ids": torch.ones(*size)} for size in ((4, 7), (2, 384), (32, 170), (4, 7))]
    found = [trainer.floating_point_ops(batch) for batch in batches]
    assert len(counts) == 1
    assert found == [Trainer.floating_point_ops(trainer, batch) for batch in batches]
    assert all(isinstance(count, int) for count in found)


def test_another_model_is_counted_anew(counting_trainer):
    """Such as that of the next trial of a search."""
    trainer, _ = counting_trainer
    batch = {"input_ids": torch.ones(4, 7)}
    trainer.floating_point_ops(batch)
    trainer.model = SimpleNamespace(main_input_name="input_ids", num_parameters=lambda **_: 10)
    assert trainer.floating_point_ops(batch) == 6 * 28 * 10


def test_the_model_of_an_earlier_trial_is_not_kept(counting_trainer, monkeypatch):
    trainer, _ = counting_trainer
    trainer.floating_point_ops({"input_ids": torch.ones(4, 7)})
    trainer.model_init = None
    trainer.prepare()
    assert trainer._flos is None


def test_a_batch_without_the_main_input_is_counted_as_transformers_does(counting_trainer):
    trainer, _ = counting_trainer
    for batch in ({}, {"input_ids": torch.ones(0)}):
        assert trainer.floating_point_ops(batch) == 0
