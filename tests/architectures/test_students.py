"""Students of architectures whose layers are of several kinds, and of the common ones."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES

from itrd_nlp.errors import UserError
from itrd_nlp.models.students import build_student

HEADS = {
    name: found if isinstance(found, str) else found[0]
    for name, found in MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES.items()
}
# Every layer of these is of one kind, or may stand in any place.
COMMON = ("bert", "roberta", "distilbert", "electra", "mpnet", "deberta-v2", "xlm-roberta", "gpt2")
# The families whose dropouts have names of their own.
DROPOUTS = ("bert", "distilbert", "gpt2", "rembert", "xlnet", "flaubert", "t5", "modernbert")


@pytest.fixture
def make_tiny(architectures: Any) -> Any:
    return architectures.tiny_model


def tokens() -> dict[str, torch.Tensor]:
    """Two rows of eight tokens, one of them padded."""
    generator = torch.Generator().manual_seed(1)
    mask = torch.tensor([[1] * 8, [1] * 6 + [0] * 2])
    return {"input_ids": torch.randint(5, 60, (2, 8), generator=generator), "attention_mask": mask}


@pytest.mark.parametrize("name", DROPOUTS)
def test_no_dropout_is_left_where_it_is_0(make_tiny: Any, name: str) -> None:
    teacher: PreTrainedModel = make_tiny(name, HEADS[name])
    try:
        student = build_student(teacher, 2, init="first", dropout=0.0)
    except UserError:  # the layers of FlauBERT lie in four lists
        assert name == "flaubert"
        return
    left = [
        path
        for path, module in student.named_modules()
        if isinstance(module, torch.nn.Dropout) and module.p > 0
    ]
    assert left == []


@pytest.mark.parametrize("name", COMMON)
@pytest.mark.parametrize("init", ["first", "uniform", "last"])
def test_a_common_architecture_is_built_whatever_the_start(make_tiny, name, init):
    student = build_student(make_tiny(name, HEADS[name]), 2, init=init)
    assert student.config.num_hidden_layers == 2


def test_layers_of_several_kinds_keep_their_kind(make_tiny):
    """ModernBERT alternates full and sliding attention, which its configuration lists layer by layer."""
    teacher = make_tiny("modernbert", "ModernBertForQuestionAnswering")
    kinds = teacher.config.layer_types
    assert len(set(kinds)) == 2
    student = build_student(teacher, 3, init=["1", "3", "4"])
    assert student.config.layer_types == [kinds[0], kinds[2], kinds[3]]
    assert [layer.attention_type for layer in student.model.layers] == student.config.layer_types


def test_a_layer_that_does_not_fit_into_its_place_is_refused(make_tiny):
    """The first layer of ModernBERT has no norm before its attention, so that another one would lose its own there."""
    teacher = make_tiny("modernbert", "ModernBertForQuestionAnswering")
    with pytest.raises(
        UserError, match=r"puts layer 2 of ModernBert.* differ in attn_norm\.weight"
    ):
        build_student(teacher, 2, init="uniform")


def test_a_window_of_each_layer_goes_with_it(make_tiny):
    teacher = make_tiny("longformer", "LongformerForQuestionAnswering")
    teacher.config.attention_window = [4, 8, 12, 16]
    assert build_student(teacher, 2, init="last").config.attention_window == [12, 16]


def test_linear_attention_alone_is_refused(make_tiny: Any) -> None:
    teacher = make_tiny("qwen3_next", "Qwen3NextForQuestionAnswering")
    with pytest.raises(UserError, match="layers of linear attention alone"):
        build_student(teacher, 2, init="first")


def test_layers_in_blocks_are_refused(make_tiny: Any) -> None:
    with pytest.raises(UserError, match="the layers of FunnelForQuestionAnswering lie in blocks"):
        build_student(make_tiny("funnel", "FunnelForQuestionAnswering"), 2)


def test_a_configuration_that_counts_its_layers_otherwise_is_refused(make_tiny: Any) -> None:
    """LXMERT has layers of language, of pictures and of both."""
    with pytest.raises(UserError, match="load or configure a student of your own"):
        build_student(make_tiny("lxmert", "LxmertForQuestionAnswering"), 2)


@pytest.mark.parametrize("name", ["bert", "modernbert", "distilbert"])
def test_a_student_of_the_first_layers_computes_what_the_teacher_does_there(
    make_tiny: Any, name: str
) -> None:
    teacher = make_tiny(name, HEADS[name])
    student = build_student(teacher, 2, init="first").eval()
    inputs = tokens()
    with torch.no_grad():
        theirs = teacher(**inputs, output_hidden_states=True).hidden_states
        ours = student(**inputs, output_hidden_states=True).hidden_states
    torch.testing.assert_close(ours[1], theirs[1])
