"""The names of a model's inputs are found once, and are those of the method that the model has at the time."""

from __future__ import annotations

import gc
import inspect
import weakref
from types import MethodType

import pytest
from torch import nn

from itrd_nlp.models import encode
from itrd_nlp.models.encode import input_names


class Reader(nn.Module):
    def forward(self, input_ids, attention_mask=None): ...


class Other(nn.Module):
    def forward(self, *pixels, **further): ...


@pytest.fixture
def signatures(monkeypatch):
    """Return the list of what inspect was asked for."""
    asked = []
    signature = inspect.signature
    monkeypatch.setattr(
        encode.inspect, "signature", lambda what: asked.append(what) or signature(what)
    )
    return asked


def test_a_signature_is_found_once_for_all_models_of_a_class(signatures):
    class Fresh(Reader):
        def forward(self, input_ids, token_type_ids=None): ...

    for model in (Fresh(), Fresh()):
        assert input_names(model) == ["input_ids", "token_type_ids"]
    assert len(signatures) == 1
    assert input_names(Reader()) == ["input_ids", "attention_mask"]
    assert input_names(Other()) == ["pixels", "further"]


def test_a_method_of_one_model_counts_for_this_model_and_is_found_once(signatures):
    """accelerate gives a model such a method."""

    def forward(self, input_ids, position_ids): ...

    model = Reader()
    assert input_names(model) == ["input_ids", "attention_mask"]
    model.forward = MethodType(forward, model)
    found = len(signatures)
    for _ in range(3):
        assert input_names(model) == ["input_ids", "position_ids"]
    assert len(signatures) == found + 1
    assert input_names(Reader()) == ["input_ids", "attention_mask"]


def test_a_plain_function_is_no_method():
    model = Reader()
    model.forward = lambda input_ids, labels: None
    assert input_names(model) == ["input_ids", "labels"]


def read_by_a_method_that_holds_it() -> weakref.ref[nn.Module]:
    model = Reader()
    held = model.forward

    def forward(self, input_ids):
        return held(input_ids)

    model.forward = MethodType(forward, model)
    assert input_names(model) == ["input_ids"]
    return weakref.ref(model)


def test_no_model_is_kept_alive():
    model = read_by_a_method_that_holds_it()
    gc.collect()
    assert model() is None
