"""Models with a prompt that PEFT has learned: its positions stand in front of the tokens, or in no state at all."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import (
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
)

from itrd_nlp.errors import UserError
from itrd_nlp.models.early_exit import hidden_states_up_to
from itrd_nlp.models.encode import encode
from itrd_nlp.models.lengths import longest_input
from itrd_nlp.models.peft_adapters import check_adapters
from itrd_nlp.models.students import build_student

peft = pytest.importorskip("peft")

KINDS = ("PromptTuningConfig", "PromptEncoderConfig", "PrefixTuningConfig")
kinds = pytest.mark.parametrize("kind", KINDS)
VIRTUAL = 3


@pytest.fixture
def prompted(make_config: Any) -> Any:
    """Make a classifier of 64 positions with a prompt of three."""

    def prompted(kind: str) -> Any:
        torch.manual_seed(0)
        model = BertForSequenceClassification(make_config(2))
        config = getattr(peft, kind)(task_type="SEQ_CLS", num_virtual_tokens=VIRTUAL)
        return peft.get_peft_model(model, config).eval()

    return prompted


def tokens(length: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    mask = torch.ones(2, length, dtype=torch.long)
    mask[1, length - 2 :] = 0
    return {
        "input_ids": torch.randint(5, 60, (2, length), generator=generator),
        "attention_mask": mask,
    }


@kinds
def test_each_token_has_its_own_state(prompted: Any, kind: str) -> None:
    model, inputs = prompted(kind), tokens(8)
    with torch.no_grad():
        output, found = encode(model, inputs, [0, 1, 2])
        early = hidden_states_up_to(model, inputs, [0, 1])
    for layer, states in found.hidden_states.items():
        assert torch.equal(states, output.hidden_states[layer][:, -8:])
        assert layer == 2 or torch.equal(states, early[layer])
    assert len(output.hidden_states[0][0]) == (8 if kind == "PrefixTuningConfig" else 8 + VIRTUAL)
    if kind == "PrefixTuningConfig":
        return
    embeddings = model.base_model.bert.embeddings
    plain = embeddings(inputs["input_ids"], position_ids=torch.arange(VIRTUAL, VIRTUAL + 8)[None])
    torch.testing.assert_close(found.hidden_states[0], plain)


@kinds
def test_the_prompt_takes_positions_from_the_tokens(prompted: Any, kind: str) -> None:
    model = prompted(kind)
    longest = longest_input(model)
    assert longest == 64 - VIRTUAL
    with torch.no_grad():
        model(**tokens(longest))
        with pytest.raises(RuntimeError):
            model(**tokens(longest + 1))


@kinds
def test_a_prompt_is_in_no_weights_that_a_student_could_copy(prompted: Any, kind: str) -> None:
    with pytest.raises(UserError, match=r"has learned P\w*_TUNING, which cannot be merged"):
        build_student(prompted(kind), 1)


@pytest.mark.parametrize(
    ("head", "task"),
    [(BertForTokenClassification, "TOKEN_CLS"), (BertForQuestionAnswering, "QUESTION_ANS")],
)
@pytest.mark.parametrize("kind", ["PromptTuningConfig", "PrefixTuningConfig"])
def test_logits_of_a_prompt_are_refused(make_config: Any, head: Any, task: str, kind: str) -> None:
    config = getattr(peft, kind)(task_type=task, num_virtual_tokens=VIRTUAL)
    model = peft.get_peft_model(head(make_config(2)), config).eval()
    if kind == "PrefixTuningConfig":
        assert all(x.shape[1] == 8 for x in encode(model, tokens(8), [])[1].logits.values())
        return
    with pytest.raises(UserError, match="has logits of each token and 3 more of the prompt"):
        encode(model, tokens(8), [])
    _, read = encode(model, tokens(8), [2], reads_logits=False)  # a teacher without KD
    assert read.hidden_states[2].shape[1] == 8


@kinds
def test_a_student_that_learns_a_prompt_is_told_what_to_take(prompted: Any, kind: str) -> None:
    with pytest.raises(UserError, match=r"learns a prompt \(P\w*_TUNING\).* such as LoRA"):
        check_adapters(prompted(kind))
