"""Students of every architecture with a span head: built, or refused with one sentence. There is no third outcome."""

from __future__ import annotations

import pytest
import torch
from transformers.models.auto.modeling_auto import MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES

from itrd_nlp.errors import UserError
from itrd_nlp.models.students import build_student

HEADS = {
    name: found if isinstance(found, str) else found[0]
    for name, found in MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES.items()
}
# Every layer of these is of one kind, or may stand in any place.
COMMON = ("bert", "roberta", "distilbert", "electra", "mpnet", "deberta-v2", "xlm-roberta", "gpt2")


# The first two layers have linear attention alone, which the model in transformers cannot run without a full one.
CANNOT_RUN = {("qwen3_next", "first")}


def built(make_tiny, name, init):
    """Teacher and student, or a skip where transformers cannot make or we must not make one."""
    try:
        teacher = make_tiny(name, HEADS[name])
    except Exception as error:
        pytest.skip(str(error).splitlines()[0])
    try:
        return teacher, build_student(teacher, 2, init=init, dropout=0.0)
    except UserError as error:
        assert str(error).endswith((".", ".'"))
        pytest.skip(f"refused: {error}")


@pytest.mark.parametrize("init", ["first", "uniform", "last"])
@pytest.mark.parametrize("name", HEADS)
def test_a_student_is_saved_and_loaded_with_equal_logits(
    make_tiny, make_tokens, tmp_path, name, init
):
    teacher, student = built(make_tiny, name, init)
    if (name, init) in CANNOT_RUN:
        pytest.skip("transformers cannot run what is left")
    student.eval().save_pretrained(tmp_path)
    loaded = type(student).from_pretrained(tmp_path).eval()
    inputs = make_tokens(student)
    with torch.no_grad():
        try:
            teacher(**inputs)
        except Exception as error:
            pytest.skip(f"the teacher itself takes other inputs or sizes: {error}")
        expected, found = student(**inputs), loaded(**inputs)
    assert torch.equal(expected.start_logits, found.start_logits)


@pytest.mark.parametrize("name", HEADS)
def test_no_dropout_is_left_where_it_is_0(make_tiny, name):
    _, student = built(make_tiny, name, "first")
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


def test_a_student_of_the_first_layers_computes_what_the_teacher_does_there(make_tiny, make_tokens):
    for name in ("bert", "modernbert", "distilbert"):
        teacher = make_tiny(name, HEADS[name])
        student = build_student(teacher, 2, init="first").eval()
        inputs = make_tokens(teacher)
        with torch.no_grad():
            theirs = teacher(**inputs, output_hidden_states=True).hidden_states
            ours = student(**inputs, output_hidden_states=True).hidden_states
        torch.testing.assert_close(ours[1], theirs[1])
