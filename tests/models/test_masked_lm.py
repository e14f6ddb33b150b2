"""Logits of some positions alone are those of the whole model, whatever its architecture."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    PreTrainedModel,
)

from itrd_nlp.distillation.step import StepTotals, counts_of
from itrd_nlp.errors import UserError
from itrd_nlp.losses.outputs import IGNORED
from itrd_nlp.models.embedder import AutoModelForSentenceEmbedding as Embedder
from itrd_nlp.models.encode import encode
from itrd_nlp.models.masked_lm import (
    POSITIONS,
    at_labels,
    masked_lm_class,
    states_class,
)
from itrd_nlp.models.masked_lm import AutoModelForMaskedLM as Ours
from itrd_nlp.models.masked_lm import AutoModelForStates as States
from itrd_nlp.models.students import build_student

TINY = {
    "vocab_size": 40,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 40,
}
OTHERS: dict[str, dict[str, Any]] = {
    "distilbert": {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24},
    "electra": {"embedding_size": 16},
    "albert": {"embedding_size": 8},
    "modernbert": {"pad_token_id": 0, "cls_token_id": 1, "sep_token_id": 2, "bos_token_id": 1}
    | {"eos_token_id": 2, "global_attn_every_n_layers": 2},
}
KINDS = ["bert", "roberta", "mpnet", "deberta-v2", "camembert", *OTHERS]


def tiny(kind: str) -> PreTrainedModel:
    own = OTHERS.get(kind, {})
    config = AutoConfig.for_model(kind, **(own if kind == "distilbert" else TINY | own))
    if kind == "distilbert":
        config.vocab_size, config.max_position_embeddings = 40, 40
    torch.manual_seed(0)
    model: PreTrainedModel = AutoModelForMaskedLM.from_config(config)
    return model.eval()


def batch() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    mask = torch.ones(3, 9, dtype=torch.long)
    mask[1, 6:] = 0
    return {"input_ids": torch.randint(5, 40, (3, 9), generator=generator), "attention_mask": mask}


@pytest.mark.parametrize("kind", KINDS)
def test_logits_of_positions_are_those_of_the_plain_model(kind: str) -> None:
    plain = tiny(kind)
    ours = masked_lm_class(type(plain))(plain.config).eval()
    ours.load_state_dict(plain.state_dict())
    positions = torch.tensor([1, 7, 10, 26])
    with torch.inference_mode():
        output = plain(**batch(), output_hidden_states=True)
        found, read = encode(ours, batch() | {POSITIONS: positions}, [0, 1, 2])
        whole = ours(**batch()).logits
    expected = output.logits.flatten(0, 1)[positions]
    assert found.logits.shape == (4, output.logits.shape[-1])
    assert torch.allclose(found.logits, expected, atol=1e-5)
    assert torch.allclose(whole, output.logits, atol=1e-5)
    for layer, states in enumerate(output.hidden_states):
        assert torch.allclose(read.hidden_states[layer], states, atol=1e-5)
    assert not ours.base_model._forward_hooks  # nothing stays behind


def test_a_failed_forward_leaves_no_hook() -> None:
    plain = tiny("bert")
    ours = masked_lm_class(type(plain))(plain.config)
    with pytest.raises(IndexError):
        ours(**batch(), masked_positions=torch.tensor([999]))
    assert not ours.base_model._forward_hooks


def test_the_head_is_trained_through_the_positions_alone() -> None:
    plain = tiny("bert")
    ours: Any = masked_lm_class(type(plain))(plain.config)
    ours.load_state_dict(plain.state_dict())
    positions = torch.tensor([4, 20])
    ours.eval()(**batch(), masked_positions=positions).logits.square().sum().backward()
    plain(**batch()).logits.flatten(0, 1)[positions].square().sum().backward()
    theirs = dict(plain.named_parameters())
    for name, parameter in ours.named_parameters():
        if theirs[name].grad is not None:
            assert torch.allclose(parameter.grad, theirs[name].grad, atol=1e-5), name


def test_the_classes_have_the_names_of_transformers_and_say_what_they_read(tmp_path: Path) -> None:
    plain = tiny("bert")
    ours = masked_lm_class(type(plain))
    assert ours.__name__ == "BertForMaskedLM" and ours is masked_lm_class(type(plain))
    names = inspect.signature(ours.forward).parameters
    assert POSITIONS in names and "labels" in names and "kwargs" not in names
    student = build_student(ours(plain.config), 1)
    student.save_pretrained(tmp_path)
    assert AutoModelForMaskedLM.from_pretrained(tmp_path).config.num_hidden_layers == 1
    loaded = Ours.from_pretrained(str(tmp_path), config=plain.config, ignore_mismatched_sizes=True)
    assert type(loaded) is ours


def test_states_are_the_last_hidden_states_of_the_encoder(tmp_path: Path) -> None:
    plain = tiny("bert")
    plain.save_pretrained(tmp_path)
    ours = States.from_pretrained(str(tmp_path), config=plain.config).eval()
    assert type(ours) is states_class(type(AutoModel.from_config(plain.config)))
    with torch.inference_mode():
        found = ours(**batch(), labels=torch.zeros(3), output_hidden_states=True)
        expected = AutoModel.from_pretrained(tmp_path).eval()(**batch()).last_hidden_state
    assert torch.allclose(found.logits, expected, atol=1e-6)
    assert torch.equal(found.hidden_states[-1], found.logits)


@pytest.mark.parametrize(
    ("loader", "kind", "said"),
    [(Ours, "gpt2", "has no masked-LM head"), (States, "encoder-decoder", "has no encoder")],
)
def test_an_architecture_that_cannot_do_it_is_refused(loader: Any, kind: str, said: str) -> None:
    class Config:
        model_type = kind

    with pytest.raises(UserError, match=said):
        loader.from_pretrained("model", config=Config())


@pytest.mark.parametrize("loader", [States, Embedder])
@pytest.mark.parametrize("kind", ["bart", "t5"])
def test_states_of_a_decoder_are_no_states_of_a_text(
    loader: Any, kind: str, tmp_path: Path
) -> None:
    """BART would give those of its decoder, and T5 asks for a second text."""
    with pytest.raises(UserError, match=f"is a {kind}, which writes text by a decoder"):
        loader.from_pretrained(str(tmp_path), config=CONFIG_MAPPING[kind]())


def test_logits_of_all_and_of_masked_tokens_are_told_apart() -> None:
    labels = torch.tensor([[IGNORED, 3], [4, IGNORED]])
    logits = torch.randn(2, 2, 7, dtype=torch.bfloat16)
    all_of_them, true = at_labels(logits, labels, IGNORED)
    chosen, again = at_labels(logits[labels.ne(IGNORED)], labels, IGNORED)
    assert torch.equal(all_of_them, chosen) and chosen.dtype == torch.float32
    assert true.tolist() == again.tolist() == [3, 4]


def test_kd_of_masked_tokens_has_their_share_of_a_step() -> None:
    """Micro-batches with 1 and 3 masked tokens: means times shares add up to the mean of all four."""

    def micro_batch(masked: int) -> dict[str, Any]:
        labels = torch.full((2, 5), IGNORED)
        labels[0, :masked] = 7
        ids = torch.ones(2, 5, dtype=torch.long)
        return {"input_ids": ids, "attention_mask": ids, "labels": labels, POSITIONS: ids}

    batches = [micro_batch(1), micro_batch(3)]
    totals = StepTotals(torch.stack([counts_of(b) for b in batches]).sum(0), 2, 1)
    shares = [totals.share(b) for b in batches]
    assert [float(share.logits) for share in shares] == [0.25, 0.75]
    assert [float(share.task) for share in shares] == [0.25, 0.75]
    for b in batches:
        del b[POSITIONS]
    assert float(totals.share(batches[0]).logits) == 0.5  # of a head over every token
