"""An exported graph computes the same as its model, whatever the head reads and however many bits the weights have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    BartConfig,
    BartForSequenceClassification,
    BertForSequenceClassification,
    BertModel,
    BertTokenizerFast,
    MobileBertConfig,
    MobileBertForSequenceClassification,
    NystromformerConfig,
    NystromformerForSequenceClassification,
    PreTrainedModel,
    RobertaConfig,
    RobertaForSequenceClassification,
    T5Config,
    T5ForSequenceClassification,
)

from itrd_nlp.errors import UserError
from itrd_nlp.models.low_bits import prepare_qat
from itrd_nlp.models.onnx_export import _random_inputs, export_onnx, quantize_int8
from itrd_nlp.models.onnx_model import OnnxModel

END = 3
SMALL = {"vocab_size": 64, "d_model": 16, "pad_token_id": 0, "eos_token_id": END, "num_labels": 3}


def bart() -> PreTrainedModel:
    return BartForSequenceClassification(
        BartConfig(
            **SMALL,
            encoder_layers=1,
            decoder_layers=1,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=16,
            decoder_ffn_dim=16,
            max_position_embeddings=32,
            decoder_start_token_id=END,
            init_std=0.5,
        )
    )


def t5() -> PreTrainedModel:
    sizes = {"d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}
    return T5ForSequenceClassification(T5Config(**SMALL, **sizes, decoder_start_token_id=0))


def tokenizer() -> BertTokenizerFast:
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{i}" for i in range(59))]
    return BertTokenizerFast(vocab={token: i for i, token in enumerate(tokens)})


def batch(lengths: tuple[int, ...]) -> dict[str, torch.Tensor]:
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    ids = torch.randint(5, 64, mask.shape, generator=torch.Generator().manual_seed(2)) * mask
    ids[torch.arange(len(lengths)), torch.tensor(lengths) - 1] = END
    return {"input_ids": ids, "attention_mask": mask}


@pytest.fixture(params=[bart, t5])
def with_a_decoder(request: Any) -> PreTrainedModel:
    torch.manual_seed(0)
    model: PreTrainedModel = request.param()
    return model.eval()


@pytest.mark.parametrize("shape", [(1, 1), (1, 32), (2, 8), (3, 16), (5, 2)])
def test_each_text_of_an_encoder_with_a_decoder_ends_once(with_a_decoder: Any, shape: Any) -> None:
    inputs = _random_inputs(with_a_decoder, {"input_ids", "attention_mask"}, *shape)
    ends = inputs["input_ids"] == END
    assert torch.equal(ends.sum(1), torch.ones(shape[0], dtype=torch.long))
    assert torch.equal(ends.int().argmax(1), inputs["attention_mask"].sum(1) - 1)
    with torch.no_grad():
        assert with_a_decoder(**inputs).logits.shape == (shape[0], 3)


@pytest.mark.slow
def test_its_graph_computes_what_it_computes(with_a_decoder: Any, tmp_path: Path) -> None:
    export_onnx(with_a_decoder, tokenizer(), tmp_path / "onnx")
    inputs = batch((9, 4, 1))
    with torch.no_grad():
        expected = with_a_decoder(**inputs).logits
    found = OnnxModel.from_pretrained(tmp_path / "onnx")(**inputs).logits
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_a_model_that_cannot_read_random_tokens_is_one_sentence(tmp_path: Path) -> None:
    """Nystromformer takes texts of one length alone, and eight tokens are none."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "intermediate_size": 16}
    config = NystromformerConfig(
        vocab_size=64,
        **sizes,
        num_attention_heads=2,
        segment_means_seq_len=4,
        num_landmarks=2,
    )
    model = NystromformerForSequenceClassification(config)
    sentence = r"^Nystromformer\w+ does not run on random tokens of the shape \(2, 8\), so .*\.$"
    with pytest.raises(UserError, match=sentence):
        export_onnx(model, tokenizer(), tmp_path / "onnx")
    assert not (tmp_path / "onnx").exists()


def test_a_model_in_few_bits_is_exported_as_it_computes(make_config: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = BertForSequenceClassification(make_config(1)).eval()
    inputs = batch((9, 4))
    with torch.no_grad():
        whole = model(**inputs).logits
        prepare_qat(model, 1)
        expected = model(**inputs).logits
    assert (expected - whole).abs().max() > 0.01
    export_onnx(model, tokenizer(), tmp_path / "onnx")
    found = OnnxModel.from_pretrained(tmp_path / "onnx")(**inputs).logits
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def with_lora(model: BertForSequenceClassification) -> Any:
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(r=2, target_modules=["query", "value"], init_lora_weights=False)
    return peft.get_peft_model(model, config).eval()


@pytest.mark.slow
def test_adapters_are_merged_into_what_is_exported(make_config: Any, tmp_path: Path) -> None:
    adapted, inputs = with_lora(BertForSequenceClassification(make_config(1))), batch((9, 4))
    with torch.no_grad():
        expected = adapted(**inputs).logits
    export_onnx(adapted, tokenizer(), tmp_path / "onnx")
    found = OnnxModel.from_pretrained(tmp_path / "onnx")(**inputs).logits
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert torch.equal(adapted(**inputs).logits, expected)


def given_one(model: BertForSequenceClassification) -> Any:
    peft = pytest.importorskip("peft")
    model.add_adapter(peft.LoraConfig(r=2, target_modules=["query", "value"]))
    return model


def with_a_prompt(model: BertForSequenceClassification) -> Any:
    peft = pytest.importorskip("peft")
    config = peft.PromptTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=3)
    return peft.get_peft_model(model, config)


def in_integers(model: BertForSequenceClassification) -> Any:
    torchao = pytest.importorskip("torchao.quantization")
    torchao.quantize_(model, torchao.Int8WeightOnlyConfig())
    return model


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (given_one, "adapters of add_adapter, which cannot be merged"),
        (with_a_prompt, "has learned PROMPT_TUNING, which cannot be merged"),
        (in_integers, "is quantised already; export the model that it was made from"),
    ],
)
def test_weights_that_are_not_those_of_its_class_are_refused(
    make_config: Any, tmp_path: Path, change: Any, sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        export_onnx(
            change(BertForSequenceClassification(make_config(1))), tokenizer(), tmp_path / "onnx"
        )
    assert not (tmp_path / "onnx").exists()


def test_a_model_whose_configuration_names_no_end_of_a_text_is_exported(tmp_path: Path) -> None:
    sizes = {"hidden_size": 16, "intermediate_size": 16, "embedding_size": 16}
    config = MobileBertConfig(
        **sizes,
        vocab_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        true_hidden_size=16,
        intra_bottleneck_size=16,
        num_feedforward_networks=1,
    )
    assert "eos_token_id" not in config.to_dict()
    model = MobileBertForSequenceClassification(config).eval()
    export_onnx(model, tokenizer(), tmp_path / "onnx")
    found = OnnxModel.from_pretrained(str(tmp_path / "onnx"))(**batch((7, 4))).logits
    torch.testing.assert_close(found, model(**batch((7, 4))).logits, atol=1e-4, rtol=0)


def test_a_model_of_one_token_type_is_exported_with_a_tokenizer_of_two(tmp_path: Path) -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = RobertaConfig(
        vocab_size=64, **sizes, intermediate_size=16, type_vocab_size=1, pad_token_id=0
    )
    model = RobertaForSequenceClassification(config).eval()
    export_onnx(model, tokenizer(), tmp_path / "onnx")
    found = OnnxModel.from_pretrained(tmp_path / "onnx")(**batch((7, 4))).logits
    torch.testing.assert_close(found, model(**batch((7, 4))).logits, atol=1e-4, rtol=0)


def test_a_model_without_a_head_is_not_exported(make_config: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^BertModel returns no logits, so it has no head to exp"):
        export_onnx(BertModel(make_config(1)).eval(), tokenizer(), tmp_path / "onnx")
    assert not (tmp_path / "onnx").exists()


def test_a_folder_of_something_else_is_refused_before_the_model_is_read(tmp_path: Path) -> None:
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx" / "thesis.tex").touch()
    with pytest.raises(UserError, match=r"onnx holds thesis\.tex, which is no part of an export"):
        export_onnx(None, tokenizer(), tmp_path / "onnx")  # type: ignore[arg-type]


def test_an_export_replaces_one_of_another_tokenizer_and_is_quantized_beside_it(
    make_config: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "onnx"
    folder.mkdir()
    for name in ("model.onnx", "spiece.model", "merges.txt", "vocab.txt", "chat_template.jinja"):
        (folder / name).touch()
    export_onnx(BertForSequenceClassification(make_config(1)).eval(), tokenizer(), folder)
    kept = {"model.onnx", "config.json", "tokenizer.json", "tokenizer_config.json"}
    assert {path.name for path in folder.iterdir()} == kept
    (folder / "notes").mkdir()
    quantize_int8(folder, tmp_path / "int8")
    assert {path.name for path in (tmp_path / "int8").iterdir()} == {
        *(kept - {"model.onnx"}),
        "model_int8.onnx",
    }
    for inside in (folder, folder / "int8"):
        with pytest.raises(UserError, match=r"^out .* is .*onnx or lies in it, but must be a fold"):
            quantize_int8(folder, inside)
