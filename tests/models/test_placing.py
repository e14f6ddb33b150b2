"""A teacher goes to the device of the training as a whole, or one sentence says why it cannot."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import accelerate
import pytest
import torch
from torch import nn

from itrd_nlp.distillation.preparing import freeze_teacher
from itrd_nlp.errors import UserError
from itrd_nlp.models.placing import put_on

META = torch.device("meta")  # another device than the CPU that every machine has


def arguments(device: torch.device = META, **changes: Any) -> Any:
    given = {"device": device, "teacher_dtype": "auto"} | changes
    return SimpleNamespace(**given, resolved_teacher_dtype=lambda: torch.bfloat16)


def places(model: nn.Module) -> set[torch.device]:
    return {value.device for value in (*model.parameters(), *model.buffers())}


def test_a_quantised_teacher_goes_along_and_keeps_its_dtypes(make_bert: Any) -> None:
    torchao = pytest.importorskip("torchao.quantization")
    model = make_bert(2, seed=0)
    torchao.quantize_(model, torchao.Int8WeightOnlyConfig())
    before = {type(p) for p in model.parameters()}
    moved = freeze_teacher(model, arguments())
    assert places(moved) == {META}
    assert {type(p) for p in moved.parameters()} == before
    assert {p.dtype for p in moved.parameters()} == {torch.float32}
    assert not any(p.requires_grad for p in moved.parameters())


def test_a_teacher_of_whole_weights_is_cast_too(make_bert: Any) -> None:
    moved = freeze_teacher(make_bert(2, seed=0), arguments())
    assert places(moved) == {META}
    assert {p.dtype for p in moved.parameters()} == {torch.bfloat16}


def test_a_teacher_that_bitsandbytes_has_placed_stays(make_bert: Any) -> None:
    model = make_bert(1, seed=0)
    model.quantization_method = "bitsandbytes"
    assert places(put_on(model, META)) == {torch.device("cpu")}


def test_weights_that_torch_packs_for_the_cpu_are_refused_elsewhere(make_bert: Any) -> None:
    packed = torch.ao.quantization.quantize_dynamic(make_bert(1, seed=0), {nn.Linear})
    assert put_on(copy.deepcopy(packed), torch.device("cpu")) is not packed
    with pytest.raises(UserError, match="quantize_dynamic of torch, which runs on the CPU alone"):
        put_on(packed, torch.device("cuda"))


@pytest.mark.parametrize("other", ["disk", "meta"])
def test_a_teacher_that_accelerate_has_spread_is_refused(
    make_bert: Any, tmp_path: Path, other: str
) -> None:
    model = make_bert(2, seed=0)
    parts = ("bert.embeddings", "bert.encoder.layer.0", "qa_outputs")
    spread = dict.fromkeys(parts, "cpu") | {"bert.encoder.layer.1": other}
    if other == "disk":
        accelerate.dispatch_model(model, spread, main_device="cpu", offload_dir=tmp_path)
    else:
        model.hf_device_map = spread
    sentence = rf"lies on cpu and {other} by its device_map.* load it without device_map"
    with pytest.raises(UserError, match=sentence):
        freeze_teacher(model, arguments(torch.device("cpu")))


def test_a_teacher_that_accelerate_has_put_on_one_device_is_fine(make_bert: Any) -> None:
    model = accelerate.dispatch_model(make_bert(2, seed=0), {"": "cpu"}, force_hooks=True)
    assert freeze_teacher(model, arguments(torch.device("cpu"))) is model


@pytest.mark.parametrize("method", ["gptq", "quark", "bitsandbytes", "awq"])
def test_a_dtype_for_a_teacher_whose_library_keeps_its_own_is_refused(
    make_bert: Any, method: str
) -> None:
    """Some hold their weights in buffers, which no parameter shows."""
    model = make_bert(1, seed=0)
    model.quantization_method = method
    with pytest.raises(UserError, match=r"teacher_dtype is .*, but the teacher is quantised"):
        freeze_teacher(model, arguments(teacher_dtype="float16"))


def test_a_device_map_that_spells_one_device_twice_names_one(make_bert: Any) -> None:
    model = make_bert(1, seed=0)
    model.hf_device_map = {"bert": "cpu", "classifier": torch.device("cpu", 0)}
    assert places(put_on(model, META)) == {META}
