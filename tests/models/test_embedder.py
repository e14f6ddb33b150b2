"""Embedders: what sentence-transformers and transformers read of them."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from transformers import AutoConfig, AutoModel, AutoTokenizer, BertModel, MPNetConfig, MPNetModel

from itrd_nlp.errors import UserError
from itrd_nlp.models.embedder import (
    AutoModelForSentenceEmbedding,
    embedder_class,
    pooled,
    pooling_of,
    write_sentence_files,
)
from itrd_nlp.models.loading import load_model
from itrd_nlp.models.options import LoadingArguments
from itrd_nlp.models.students import build_student

WORDS = ["rhine", "flows", "past", "bonn"]
TEXTS = ["rhine flows past bonn", "bonn", "past rhine"]
HEAD = AutoModelForSentenceEmbedding


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, make_reader: Any) -> Path:
    """An encoder as others save it, with the tokenizer."""
    path = tmp_path_factory.mktemp("encoder")
    model, tokenizer = make_reader(WORDS, 3)
    model.bert.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def loaded(path: Path | str) -> Any:
    return load_model(str(path), role="teacher", args=LoadingArguments(), head=HEAD).eval()


def encoded(path: Path) -> Any:
    return AutoTokenizer.from_pretrained(path)(TEXTS, padding=True, return_tensors="pt")


@pytest.mark.parametrize("how", ["mean", "cls"])
def test_the_vectors_are_those_of_sentence_transformers(
    folder: Path, tmp_path: Path, how: Any
) -> None:
    path = tmp_path / "theirs"
    SentenceTransformer(
        modules=[Transformer(str(folder)), Pooling(64 // 2, pooling_mode=how)], device="cpu"
    ).save(str(path))
    assert pooling_of(str(path)) == how
    model = loaded(path)
    with torch.no_grad():
        found = model(**encoded(folder)).logits
    expected = SentenceTransformer(str(path), device="cpu").encode(TEXTS, normalize_embeddings=True)
    assert torch.allclose(found, torch.tensor(expected), atol=1e-6)


def test_what_is_saved_loads_in_sentence_transformers_and_as_an_ordinary_encoder(
    folder: Path, tmp_path: Path
) -> None:
    student = build_student(loaded(folder), 2).eval()
    student.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path)
    with torch.no_grad():
        found = student(**encoded(folder)).logits
    model = SentenceTransformer(str(tmp_path), device="cpu")
    assert torch.allclose(torch.tensor(model.encode(TEXTS)), found, atol=1e-6)
    plain = AutoModel.from_pretrained(tmp_path).eval()
    assert type(plain) is BertModel and plain.config.num_hidden_layers == 2
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == ["BertModel"]
    with torch.no_grad():
        states = plain(**encoded(folder)).last_hidden_state
    assert torch.allclose(
        pooled(states, encoded(folder)["attention_mask"], "mean"), found, atol=1e-6
    )


def test_padding_changes_no_vector(folder: Path) -> None:
    model, tokenizer = loaded(folder), AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        alone = [model(**tokenizer(text, return_tensors="pt")).logits[0] for text in TEXTS]
        together = model(**encoded(folder)).logits
    assert torch.allclose(torch.stack(alone), together, atol=1e-6)
    assert together.norm(dim=1).tolist() == pytest.approx([1.0] * 3)


def test_the_forward_names_what_the_architecture_reads_and_the_labels(folder: Path) -> None:
    names = inspect.signature(loaded(folder).forward).parameters
    assert {"input_ids", "attention_mask", "token_type_ids", "labels"} <= names.keys()
    config = MPNetConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2)
    made = embedder_class(MPNetModel)
    assert made.__name__ == "MPNetModel" and issubclass(made, MPNetModel)
    assert "token_type_ids" not in inspect.signature(made.forward).parameters
    model = made(config).eval()
    ids = torch.tensor([[0, 5, 7, 2]])
    with torch.no_grad():
        states = MPNetModel.forward(model, input_ids=ids).last_hidden_state
        assert torch.allclose(model(ids).logits, pooled(states, torch.ones(1, 4), "mean"))


def test_a_checkpoint_with_another_head_gives_its_encoder(make_reader: Any, tmp_path: Path) -> None:
    reader, tokenizer = make_reader(WORDS, 2)
    reader.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    model = loaded(tmp_path)
    for name, value in reader.bert.state_dict().items():
        assert torch.equal(model.state_dict()[name], value)


def test_a_checkpoint_of_another_architecture_is_still_refused(
    folder: Path, tmp_path: Path
) -> None:
    model = AutoModel.from_pretrained(folder)
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text()) | {"num_hidden_layers": 2}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"has a checkpoint with encoder\.layer\.2"):
        loaded(tmp_path)


@pytest.mark.parametrize(
    ("modules", "pooling", "sentence"),
    [
        (
            ["Transformer", "Pooling", "Dense"],
            "mean",
            "has the modules Transformer, Pooling, Dense",
        ),
        (["Transformer"], "mean", "has the modules Transformer in modules.json"),
        (["Transformer", "Pooling"], "max", "has the pooling max, but must have one of mean, cls"),
    ],
)
def test_a_model_that_does_something_else_with_its_states_is_refused(
    folder: Path, tmp_path: Path, modules: list[str], pooling: str, sentence: str
) -> None:
    AutoModel.from_pretrained(folder).save_pretrained(tmp_path)
    write_sentence_files(tmp_path, 32, pooling)
    named = [{"type": f"sentence_transformers.models.{m}", "path": "1_Pooling"} for m in modules]
    (tmp_path / "modules.json").write_text(json.dumps(named))
    with pytest.raises(UserError) as error:
        loaded(tmp_path)
    assert sentence in str(error.value)


def test_an_encoder_without_files_of_sentence_transformers_is_pooled_by_its_mean(
    folder: Path,
) -> None:
    assert pooling_of(str(folder)) is None
    assert loaded(folder).config.sentence_pooling == "mean"
    assert AutoConfig.from_pretrained(folder).to_dict().get("sentence_pooling") is None
