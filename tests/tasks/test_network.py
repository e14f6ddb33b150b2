"""Models that answer: those whose outputs are no numbers are refused.

A model that a library has quantised answers in the dtype of its loading, which transformers lets nobody change.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import BertForQuestionAnswering
from transformers.utils.quantization_config import QuantizationMethod

from itrd_nlp.errors import UserError
from itrd_nlp.models.options import LoadingArguments, Running
from itrd_nlp.tasks import network
from itrd_nlp.tasks.jobs import evaluate, similarity
from itrd_nlp.tasks.question_answering import load_pipeline

METHODS = [QuantizationMethod.BITS_AND_BYTES, QuantizationMethod.GPTQ, QuantizationMethod.QUARK]


@pytest.fixture(params=METHODS)
def model(
    request: Any, make_bert: Any, monkeypatch: pytest.MonkeyPatch
) -> BertForQuestionAnswering:
    """A model that transformers takes for one of the library, and that every loader gives."""
    model: BertForQuestionAnswering = make_bert(2, seed=0)
    model.quantization_method = request.param
    with pytest.raises(ValueError, match="dtype"):
        model.to(dtype=model.dtype)
    monkeypatch.setattr(network, "load_model", lambda *_, **__: model)
    monkeypatch.setattr(network, "load_tokenizer", lambda *_, **__: None)
    monkeypatch.setattr(network, "fit_tokenizer", lambda *_, **__: None)
    monkeypatch.setattr(evaluate, "load_model_and_tokenizer", lambda *_, **__: (model, None))
    return model


def test_it_answers(model: BertForQuestionAnswering) -> None:
    found, _ = network.answering_network(
        "folder", BertForQuestionAnswering, Running(LoadingArguments())
    )
    assert found is model
    assert not model.training


def test_another_dtype_is_one_sentence(model: BertForQuestionAnswering) -> None:
    with pytest.raises(UserError, match=r"folder is quantised by [a-z]+, which computes"):
        network.answering_network(
            "folder", BertForQuestionAnswering, Running(LoadingArguments(), dtype="bfloat16")
        )


def test_a_dtype_that_nothing_can_be_cast_to_is_one_sentence() -> None:
    task: Any = None  # the sentence comes before the model is loaded
    sentence = "dtype is 'bf16', but must be one of float32, bfloat16, float16"
    with pytest.raises(UserError, match=sentence):
        load_pipeline("folder", dtype="bf16")
    with pytest.raises(UserError, match=sentence):
        evaluate.evaluate(task, "folder", LoadingArguments(), dtype="bf16")


def test_it_is_judged(model: BertForQuestionAnswering, monkeypatch: pytest.MonkeyPatch) -> None:
    data = SimpleNamespace(judge=SimpleNamespace(predictions={"a": "b"}))
    task: Any = SimpleNamespace(head=BertForQuestionAnswering, load=lambda *_, **__: data)
    judged = []
    monkeypatch.setattr(evaluate, "check_lengths", lambda *_: None)
    monkeypatch.setattr(evaluate, "judge", lambda _, found, *__: judged.append(found))
    loading: Any = None
    _, answers = evaluate.evaluate(task, "folder", loading, batch_size=2)
    assert (judged, answers) == ([model], {"a": "b"})


def test_its_layers_are_compared(
    model: BertForQuestionAnswering, make_bert: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr(similarity, "similarity_bytes", lambda *_: 0)
    monkeypatch.setattr(similarity, "layer_similarity", lambda *models: seen.append(models))
    monkeypatch.setattr(similarity, "_batches", lambda _: [])
    data: Any = None
    student = make_bert(1, seed=1)
    similarity.layers_alike(student, model, data, model.device, when="after")
    assert seen == [(student, model, [])]


def giving(logits: Tensor) -> Any:
    """A network with these logits."""

    class Network:
        device = torch.device("cpu")

        def forward(self, input_ids: Tensor) -> Any: ...

        def __call__(self, **inputs: Tensor) -> Any:
            return SimpleNamespace(logits=logits)

    return Network()


@pytest.mark.parametrize("shape", [(2, 3), (2, 4, 3)], ids=["texts", "tokens"])
def test_outputs_that_are_no_numbers_are_refused(shape: tuple[int, ...]) -> None:
    encoded = {
        "input_ids": torch.zeros(2, 4, dtype=torch.long),
        "attention_mask": torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]]),
    }
    logits = torch.zeros(shape)
    logits[0, 0] = float("-inf")  # a label that a model rules out
    assert torch.equal(network.logits_of(giving(logits), encoded), logits)
    logits[1, 1] = float("nan")
    with pytest.raises(UserError, match=r"^the model gives 1 of 2 texts outputs with NaN"):
        network.logits_of(giving(logits), encoded)


def test_outputs_of_padding_say_nothing() -> None:
    encoded = {
        "input_ids": torch.zeros(1, 3, dtype=torch.long),
        "attention_mask": torch.tensor([[0, 1, 1]]),
    }
    logits = torch.zeros(1, 3, 2)
    logits[0, 0] = float("nan")
    assert network.logits_of(giving(logits), encoded).shape == (1, 3, 2)
