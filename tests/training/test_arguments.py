"""Arguments of transformers that make no sense are refused before anything is loaded."""

from __future__ import annotations

import math
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from itrd_nlp.distillation.arguments import ITRDTrainingArguments
from itrd_nlp.distillation.textbrewer_trainer import TextBrewerArguments
from itrd_nlp.errors import UserError
from itrd_nlp.training.arguments import OF_TRANSFORMERS, FineTuningArguments

KINDS = [FineTuningArguments, ITRDTrainingArguments, TextBrewerArguments]


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("learning_rate", -1e-4, "a finite number >= 0"),
        ("learning_rate", math.nan, "a finite number >= 0"),
        ("learning_rate", math.inf, "a finite number >= 0"),
        ("num_train_epochs", -1.0, "a finite number >= 0"),
        ("num_train_epochs", math.nan, "a finite number >= 0"),
        ("weight_decay", -0.1, "a finite number >= 0"),
        ("max_grad_norm", math.nan, "a finite number >= 0"),
        ("warmup_steps", -1, "a finite number >= 0"),
        ("adam_beta2", 1.0, "at least 0 and below 1"),
        ("label_smoothing_factor", 1.5, "at least 0 and below 1"),
        ("seed", -1, "from 0 to 4294967295"),
        ("seed", 2**32, "from 0 to 4294967295"),
        ("seed", 10**400, "from 0 to 4294967295"),
        ("data_seed", -1, "from 0 to 4294967295"),
        ("per_device_train_batch_size", 0, "from 1 to 1048576"),
        ("per_device_eval_batch_size", -8, "from 1 to 1048576"),
        ("gradient_accumulation_steps", 0, "at least 1"),
        ("dataloader_num_workers", -1, "from 0 to 1024"),
        ("max_steps", -2, "at least -1"),
        ("logging_steps", 0, "a finite number > 0"),
        ("save_steps", -1, "a finite number > 0"),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_a_number_outside_of_its_range_is_refused(
    kind: type, name: str, value: Any, allowed: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as caught:
        kind(output_dir=str(tmp_path), **{name: value})
    assert str(caught.value) == f"{name} is {value}, but must be {allowed}."


def test_every_range_is_of_an_argument_whose_default_lies_in_it() -> None:
    defaults = {f.name: f.default for f in fields(FineTuningArguments)}
    assert OF_TRANSFORMERS.keys() <= defaults.keys()
    for name, allowed in OF_TRANSFORMERS.items():
        assert defaults[name] is None or defaults[name] in allowed, name


@pytest.mark.parametrize(
    ("tracker", "says"),
    [
        ("tensorbord", "'tensorbord', which is no tracker; did you mean tensorboard"),
        ("zzz", "'zzz', which is no tracker; choose of none, all, "),
        ("neptune", "'neptune', but the package of this tracker is not installed"),
    ],
)
def test_a_tracker_that_cannot_be_used_is_refused(tracker: str, says: str, tmp_path: Path) -> None:
    for value in (tracker, [tracker]):
        with pytest.raises(UserError) as caught:
            FineTuningArguments(output_dir=str(tmp_path), report_to=value)
        assert says in str(caught.value)


@pytest.mark.parametrize("tracker", ["none", "all", [], "tensorboard"])
def test_trackers_that_are_there_are_taken(tracker: Any, tmp_path: Path) -> None:
    FineTuningArguments(output_dir=str(tmp_path), report_to=tracker)


@pytest.mark.parametrize("kind", [FineTuningArguments, ITRDTrainingArguments])
def test_batches_of_one_process_for_all_are_refused(
    kind: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """accelerate joins them, and fails at the first two that are padded to different lengths."""
    dispatching = {"accelerator_config": {"dispatch_batches": True}}
    kind(output_dir=str(tmp_path), **dispatching)  # one process alone may
    monkeypatch.setattr(FineTuningArguments, "world_size", property(lambda self: 2))
    with pytest.raises(UserError, match="sets dispatch_batches to true, but one process can send"):
        kind(output_dir=str(tmp_path), **dispatching)
    kind(output_dir=str(tmp_path))


def test_no_arguments_take_a_check_of_their_base_away() -> None:
    """A method of the same name would, without a word."""
    for kind in KINDS:
        base, *_ = kind.__bases__
        for name in (name for name in vars(kind) if name.startswith("_check")):
            assert not hasattr(base, name), f"{kind.__name__}.{name}"


@pytest.mark.parametrize("kind", [FineTuningArguments, ITRDTrainingArguments])
@pytest.mark.parametrize(
    ("refused", "allowed", "sentence"),
    [
        (
            {"accelerator_config": {"even_batches": False}},
            {"dataloader_drop_last": True},
            "sets even_batches to false, but processes with more batches .* set dataloader_drop_last",
        ),
        (
            {"auto_find_batch_size": True},
            {"auto_find_batch_size": False},
            "auto_find_batch_size is true, but several processes must take one size",
        ),
    ],
)
def test_processes_that_would_wait_for_each_other_are_refused(
    kind: type,
    refused: dict[str, Any],
    allowed: dict[str, Any],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kind(str(tmp_path), **refused)  # one process alone may
    monkeypatch.setattr(FineTuningArguments, "world_size", property(lambda self: 2))
    with pytest.raises(UserError, match=sentence):
        kind(str(tmp_path), **refused)
    kind(str(tmp_path), **(refused | allowed))


@pytest.mark.parametrize("kind", KINDS)
def test_no_steps_at_all_are_refused(kind: type, tmp_path: Path) -> None:
    assert kind(str(tmp_path), max_steps=-1).max_steps == -1
    with pytest.raises(UserError, match="max_steps is 0, but must be -1, for as many steps as"):
        kind(str(tmp_path), max_steps=0)


@pytest.mark.parametrize("value", [None, "1"])
@pytest.mark.parametrize("name", ["temperature", "w_kd", "beta_corr", "corr_max_samples"])
def test_a_weight_that_is_no_number_is_refused(name: str, value: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"{name} is {value!r}, but must be"):
        ITRDTrainingArguments(str(tmp_path), **{name: value})
