"""A model is loaded whole, with the tokenizer that is its own, or it is refused with one sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AlbertConfig,
    AlbertModel,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    BertConfig,
    BertForPreTraining,
    BertForSequenceClassification,
    BertModel,
    BertTokenizerFast,
    DistilBertConfig,
    DistilBertForMaskedLM,
    ElectraConfig,
    ElectraForPreTraining,
    GPT2Config,
    MPNetConfig,
    MPNetModel,
    PreTrainedModel,
    RobertaConfig,
    RobertaForMaskedLM,
)

from itrd_nlp.errors import UserError
from itrd_nlp.files import seal
from itrd_nlp.models.loading import (
    check_vocabulary,
    load_model,
    load_model_and_tokenizer,
    load_tokenizer,
)
from itrd_nlp.models.options import LoadingArguments

SHAPE: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
}
DISTILBERT = DistilBertConfig(vocab_size=64, dim=32, hidden_dim=64, n_layers=2, n_heads=2)
TRAINED = ("teacher", "model")
NEW = ("encoder", "student")


def tokenizer(tokens: int = 64) -> BertTokenizerFast:
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = [*special, *(f"w{i}" for i in range(tokens - 5))]
    return BertTokenizerFast(vocab={token: i for i, token in enumerate(words)})


def saved(model: PreTrainedModel, folder: Path) -> Path:
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def load(folder: Path, role: str, head: Any = AutoModelForQuestionAnswering) -> PreTrainedModel:
    return load_model(str(folder), role=role, args=LoadingArguments(), head=head)


def refusal(folder: Path, role: str, head: Any = AutoModelForQuestionAnswering) -> str:
    with pytest.raises(UserError) as caught:
        load_model_and_tokenizer(str(folder), role=role, args=LoadingArguments(), head=head)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def edit_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


@pytest.fixture
def trained(make_bert: Any, tmp_path: Path) -> Path:
    """A model with a span head and its tokenizer."""
    return saved(make_bert(2, seed=0), tmp_path / "trained")


# ---- weights ----


@pytest.mark.parametrize("role", [*TRAINED, *NEW])
def test_a_whole_model_has_the_weights_of_its_checkpoint(trained: Path, role: str) -> None:
    weights = load_file(trained / "model.safetensors")
    torch.testing.assert_close(dict(load(trained, role).state_dict()), weights)


@pytest.mark.parametrize("role", NEW)
@pytest.mark.parametrize(
    "model",
    [
        BertModel(BertConfig(**SHAPE)),  # with a pooler, without a prefix
        BertForPreTraining(BertConfig(**SHAPE)),  # with other heads
        DistilBertForMaskedLM(DISTILBERT),
        ElectraForPreTraining(ElectraConfig(**SHAPE, embedding_size=16)),
        MPNetModel(MPNetConfig(**SHAPE)),
        RobertaForMaskedLM(RobertaConfig(**SHAPE)),
        AlbertModel(AlbertConfig(**SHAPE, embedding_size=16)),
    ],
    ids=lambda model: type(model).__name__,
)
@pytest.mark.parametrize(
    "head", [AutoModelForQuestionAnswering, AutoModelForSequenceClassification]
)
def test_an_encoder_may_have_another_head_or_none(
    model: PreTrainedModel, head: Any, role: str, tmp_path: Path
) -> None:
    found = load(saved(model, tmp_path), role, head)
    body = {k: v for k, v in model.base_model.state_dict().items() if not k.startswith("pooler")}
    assert body
    loaded = found.base_model.state_dict()
    torch.testing.assert_close({name: loaded[name] for name in body}, body)


@pytest.mark.parametrize("role", NEW)
def test_a_pooler_that_the_new_head_reads_may_be_missing(trained: Path, role: str) -> None:
    load(trained, role, AutoModelForSequenceClassification)


@pytest.mark.parametrize("role", TRAINED)
def test_a_model_without_a_trained_head_is_refused(tmp_path: Path, role: str) -> None:
    saved(BertModel(BertConfig(**SHAPE)), tmp_path)
    sentence = refusal(tmp_path, role)
    assert f"{role} {tmp_path} is no fine-tuned model for QuestionAnswering" in sentence
    assert "itrd-nlp fine-tune makes one" in sentence


@pytest.mark.parametrize("role", TRAINED)
def test_a_model_with_another_head_is_refused(trained: Path, role: str) -> None:
    sentence = refusal(trained, role, AutoModelForSequenceClassification)
    assert f"{role} {trained} is no fine-tuned model for SequenceClassification" in sentence
    assert "itrd-nlp fine-tune makes one" in sentence


@pytest.mark.parametrize("role", [*TRAINED, *NEW])
@pytest.mark.parametrize(
    "config",
    [
        GPT2Config(vocab_size=64, n_embd=32, n_layer=2, n_head=2),
        DISTILBERT,
        MPNetConfig(**SHAPE),
        RobertaConfig(**SHAPE),
    ],
    ids=lambda config: config.model_type,
)
def test_a_checkpoint_under_the_configuration_of_another_architecture_is_refused(
    trained: Path, config: Any, role: str
) -> None:
    config.save_pretrained(trained)
    sentence = refusal(trained, role)
    assert f"{role} {trained} has a config.json of the type {config.model_type}" in sentence
    assert "its checkpoint lacks " in sentence and "do not belong together" in sentence


@pytest.mark.parametrize("role", [*TRAINED, *NEW])
def test_a_layer_that_the_checkpoint_lacks_is_refused(trained: Path, role: str) -> None:
    BertConfig(**SHAPE | {"num_hidden_layers": 3}).save_pretrained(trained)
    assert "lacks bert.encoder.layer.2.attention.output.LayerNorm.bias and 15 more" in refusal(
        trained, role
    )


@pytest.mark.parametrize("role", [*TRAINED, *NEW])
@pytest.mark.parametrize("with_prefix", [True, False])
def test_a_layer_that_would_be_left_out_is_refused(
    trained: Path, tmp_path: Path, with_prefix: bool, role: str
) -> None:
    folder = trained if with_prefix else saved(BertModel(BertConfig(**SHAPE)), tmp_path / "base")
    BertConfig(**SHAPE | {"num_hidden_layers": 1}).save_pretrained(folder)
    if not with_prefix and role in TRAINED:
        pytest.skip("it has no trained head either")
    sentence = refusal(folder, role)
    assert "encoder.layer.1.attention.output.LayerNorm.bias and 15 more" in sentence
    assert "do not belong together" in sentence


@pytest.mark.parametrize("role", [*TRAINED, *NEW])
def test_weights_of_another_shape_are_refused_with_both_shapes(trained: Path, role: str) -> None:
    BertConfig(**SHAPE | {"intermediate_size": 128}).save_pretrained(trained)
    name = "bert.encoder.layer.0.intermediate.dense.bias"
    assert f"{name} has the shape (64,) in the checkpoint, but the model needs (128,)" in refusal(
        trained, role
    )


def test_a_trained_head_of_other_labels_is_refused_with_both_shapes(tmp_path: Path) -> None:
    saved(BertForSequenceClassification(BertConfig(**SHAPE, num_labels=3)), tmp_path)
    sentence = "classifier.bias has the shape (3,) in the checkpoint, but the model needs (2,)"
    with pytest.raises(UserError) as caught:
        load_model(
            str(tmp_path),
            role="encoder",
            args=LoadingArguments(),
            head=AutoModelForSequenceClassification,
            labels=["no", "yes"],
        )
    assert sentence in str(caught.value)


def test_positions_that_older_checkpoints_hold_are_left_out(trained: Path) -> None:
    def add(weights: dict[str, torch.Tensor]) -> None:
        weights["bert.embeddings.position_ids"] = torch.arange(64)[None]

    edit_weights(trained, add)
    load(trained, "model")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        "[" * 100_000,
        "\ufeff{}",
        '{"model_type": []}',
        '{"model_type": "bert", "num_hidden_layers": "many"}',
        '{"model_type": "bert", "hidden_size": 33, "num_attention_heads": 2}',
    ],
    ids=range(9),
)
def test_a_damaged_configuration_is_one_sentence(trained: Path, text: str) -> None:
    (trained / "config.json").write_text(text)
    assert f"teacher {trained} cannot be loaded: " in refusal(trained, "teacher")


# ---- the seal of a checkpoint ----


def test_a_checkpoint_is_loaded_as_it_was_sealed(trained: Path) -> None:
    seal(trained)
    load(trained, "teacher")


@pytest.mark.parametrize("role", [*TRAINED, *NEW])
def test_a_checkpoint_that_was_changed_since_is_refused(trained: Path, role: str) -> None:
    seal(trained)

    def change(weights: dict[str, torch.Tensor]) -> None:
        weights["qa_outputs.bias"] += 1

    edit_weights(trained, change)
    assert f"{role} {trained} is a damaged checkpoint: model.safetensors " in refusal(trained, role)


# ---- the tokenizer ----


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        ("model_max_length", "512", "its model_max_length is '512', but must be a number"),
        ("name", "\ud800", "an option has half of a character"),
    ],
)
def test_an_option_of_the_tokenizer_that_cannot_be_used_is_named(
    trained: Path, option: str, value: str, sentence: str
) -> None:
    path = trained / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {option: value}))
    assert sentence in refusal(trained, "teacher")


@pytest.mark.parametrize("role", [*TRAINED, *NEW])
def test_a_folder_without_a_tokenizer_is_refused(trained: Path, role: str) -> None:
    (trained / "tokenizer.json").unlink()
    assert f"{trained} has no tokenizer, such as tokenizer.json" in refusal(trained, role)


def test_a_vocabulary_in_the_form_before_tokenizer_json_is_read(trained: Path) -> None:
    (trained / "tokenizer.json").unlink()
    words = tokenizer().get_vocab()
    (trained / "vocab.txt").write_text("\n".join(sorted(words, key=words.__getitem__)))
    assert load_tokenizer(str(trained), LoadingArguments()).get_vocab() == tokenizer().get_vocab()


@pytest.mark.parametrize("text", ["", "{", "{}", "[]", "[" * 100_000, "\ufeff{}"], ids=range(6))
def test_a_damaged_tokenizer_is_one_sentence(trained: Path, text: str) -> None:
    (trained / "tokenizer.json").write_text(text)
    assert f"the tokenizer of {trained} cannot be loaded: " in refusal(trained, "teacher")


@pytest.mark.parametrize("tokens", [65, 31, 5])
def test_a_tokenizer_of_another_model_is_refused(trained: Path, tokens: int) -> None:
    tokenizer(tokens).save_pretrained(trained)
    assert f"has {tokens} tokens with ids up to {tokens - 1} and the model 64" in refusal(
        trained, "model"
    )


@pytest.mark.parametrize("rows", [64, 65, 128])
def test_a_model_may_have_more_embeddings_than_tokens(rows: int) -> None:
    check_vocabulary(tokenizer(), rows, "model")


def test_nothing_here_knows_a_task() -> None:
    source = Path(load_model.__code__.co_filename).read_text(encoding="utf-8").lower()
    for word in ("questionanswering", "question-answering", "train_teacher", "squad"):
        assert word not in source
