from typing import Any

import pytest
import torch
from transformers import (
    AlbertConfig,
    AlbertForQuestionAnswering,
    CvtConfig,
    DebertaV2Config,
    DebertaV2Model,
    DistilBertConfig,
    DistilBertForQuestionAnswering,
    EsmConfig,
    EsmForSequenceClassification,
    Gemma3Config,
    Gemma3nTextConfig,
    MPNetConfig,
    MPNetForQuestionAnswering,
    MptConfig,
    Qwen2MoeConfig,
    Qwen2MoeModel,
    ResNetConfig,
    ResNetModel,
    RobertaConfig,
    RobertaForSequenceClassification,
    T5Config,
    T5ForTokenClassification,
    UMT5Config,
    UMT5ForTokenClassification,
    ViTConfig,
    ViTModel,
)

from itrd_nlp.errors import UserError
from itrd_nlp.models.loading import set_dropout
from itrd_nlp.models.students import _cut_layer_lists, build_student, student_layers


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("uniform", [4, 8, 12]),
        ("first", [1, 2, 3]),
        ("last", [10, 11, 12]),
        ("random", None),
        ([12, 1, 5], [12, 1, 5]),
        (["2", "4", "6"], [2, 4, 6]),
        (["uniform"], [4, 8, 12]),
    ],
)
def test_choices_of_teacher_layers(choice, expected):
    assert student_layers(choice, 3, 12) == expected


@pytest.mark.parametrize(
    ("choice", "num_layers", "sentence"),
    [
        ("middle", 3, "student_init is 'middle', but must be one of uniform, first, last, random"),
        ([1, 2], 3, "names 2 teacher layers"),
        ([1, 2, 13], 3, "names teacher layer 13, but the teacher has layers 1 to 12"),
        ([0, 1, 2], 3, "names teacher layer 0"),
        ("uniform", 13, "num_layers is 13, but a student of this teacher can have 1 to 12 layers"),
        ("uniform", 0, "num_layers is 0"),
    ],
)
def test_a_choice_that_makes_no_sense_is_refused(choice, num_layers, sentence):
    with pytest.raises(UserError, match=sentence):
        student_layers(choice, num_layers, 12)


def test_embeddings_chosen_layers_and_head_are_the_teachers(teacher):
    student = build_student(teacher, 2, init=[2, 4])
    for name, value in student.state_dict().items():
        source = name.replace("layer.1.", "layer.3.").replace("layer.0.", "layer.1.")
        assert torch.equal(value, teacher.state_dict()[source]), name
    assert student.config.num_hidden_layers == 2
    assert teacher.config.num_hidden_layers == 4


def test_it_starts_from_the_first_layers_where_nothing_else_is_said(teacher):
    student = build_student(teacher, 2).state_dict()
    expected = build_student(teacher, 2, init=[1, 2]).state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in student.items())


def test_a_student_of_all_layers_computes_what_the_teacher_does(teacher, span_batch):
    student = build_student(teacher, 4).eval()
    expected = teacher.eval()(**span_batch)
    output = student(**span_batch)
    assert torch.equal(output.start_logits, expected.start_logits)


def test_student_and_teacher_share_no_memory(teacher):
    student = build_student(teacher, 4)
    before = teacher.qa_outputs.weight.clone()
    with torch.no_grad():
        student.qa_outputs.weight += 1
    assert torch.equal(teacher.qa_outputs.weight, before)


def test_random_copies_nothing(teacher):
    student = build_student(teacher, 2, init="random")
    assert not torch.equal(
        student.bert.embeddings.word_embeddings.weight,
        teacher.bert.embeddings.word_embeddings.weight,
    )


def test_a_half_precision_teacher_gives_a_student_in_fp32(teacher):
    student = build_student(teacher.half(), 2)
    assert {p.dtype for p in student.parameters()} == {torch.float32}


def test_dropout_of_the_student_leaves_the_teachers_alone(teacher):
    student = build_student(teacher, 2, dropout=0.25)
    assert student.config.hidden_dropout_prob == student.config.attention_probs_dropout_prob == 0.25
    assert student.bert.encoder.layer[0].output.dropout.p == 0.25
    assert teacher.config.hidden_dropout_prob == 0.0


@pytest.mark.parametrize(
    ("model_class", "config"),
    [
        (
            DistilBertForQuestionAnswering,
            DistilBertConfig(dim=32, n_heads=2, n_layers=4, hidden_dim=64),
        ),
        (RobertaForSequenceClassification, RobertaConfig()),
        (MPNetForQuestionAnswering, MPNetConfig()),
    ],
)
def test_other_encoders_work_too(model_class, config):
    if not isinstance(config, DistilBertConfig):
        config.update(
            {
                "hidden_size": 32,
                "num_attention_heads": 2,
                "num_hidden_layers": 4,
                "intermediate_size": 64,
            }
        )
    config.vocab_size = 60
    model = model_class(config)
    student = build_student(model, 2, init="last")
    assert student.config.num_hidden_layers == 2
    ids = torch.randint(5, 60, (2, 7))
    states = student(ids, output_hidden_states=True).hidden_states
    assert len(states) == 3


def test_a_student_of_layers_that_share_their_weights_repeats_them_less_often():
    """ALBERT runs one layer again and again, so that all starts are one student: the teacher's first layers."""
    config = AlbertConfig(
        vocab_size=60,
        hidden_size=32,
        embedding_size=16,
        num_attention_heads=2,
        num_hidden_layers=4,
        intermediate_size=64,
    )
    torch.manual_seed(0)
    teacher = AlbertForQuestionAnswering(config).eval()
    ids = torch.randint(5, 60, (2, 7))
    expected = teacher(ids, output_hidden_states=True).hidden_states
    for init in ("first", "uniform", "last"):
        found = build_student(teacher, 2, init=init).eval()(ids, output_hidden_states=True)
        assert len(found.hidden_states) == 3
        torch.testing.assert_close(found.hidden_states[2], expected[2])


def test_t5_keeps_the_bias_that_its_first_layer_computes_for_all():
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=60, d_model=32, d_kv=16, d_ff=64, num_layers=4, num_heads=2, num_labels=3
    )
    teacher = T5ForTokenClassification(config).eval()
    block = "transformer.encoder.block"
    student = build_student(teacher, 2, init="uniform")
    theirs, ours = teacher.state_dict(), student.state_dict()
    bias = f"{block}.0.layer.0.SelfAttention.relative_attention_bias.weight"
    assert torch.equal(ours[bias], theirs[bias])
    for place, layer in ((0, 1), (1, 3)):
        name = "layer.0.SelfAttention.q.weight"
        assert torch.equal(ours[f"{block}.{place}.{name}"], theirs[f"{block}.{layer}.{name}"])


def test_where_each_layer_has_a_bias_it_goes_with_its_layer():
    torch.manual_seed(0)
    config = UMT5Config(
        vocab_size=60, d_model=32, d_kv=16, d_ff=64, num_layers=4, num_heads=2, num_labels=3
    )
    teacher = UMT5ForTokenClassification(config)
    for parameter in teacher.parameters():  # each layer starts with other values
        torch.nn.init.normal_(parameter)
    student = build_student(teacher, 2, init="last")
    name = "layer.0.SelfAttention.relative_attention_bias.weight"
    block = "transformer.encoder.block"
    assert torch.equal(
        student.state_dict()[f"{block}.0.{name}"], teacher.state_dict()[f"{block}.2.{name}"]
    )


def test_a_part_whose_size_follows_the_layers_starts_anew(caplog):
    """ESM predicts contacts by the attention of all layers."""
    config = EsmConfig(
        vocab_size=60,
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=64,
        pad_token_id=1,
        mask_token_id=2,
    )
    student = build_student(EsmForSequenceClassification(config), 2, init="last")
    assert student.esm.contact_head.regression.weight.shape == (1, 4)
    assert "contact_head.regression.weight of the student starts anew" in caplog.text


def test_a_network_of_stages_is_refused():
    with pytest.raises(UserError, match="configuration of ResNetModel names no number of layers"):
        build_student(ResNetModel(ResNetConfig(hidden_sizes=[4], depths=[1], embedding_size=4)), 1)


def test_a_student_of_a_rounded_teacher_is_named(make_bert, caplog) -> None:
    teacher = make_bert(2, seed=0)
    build_student(teacher, 1)
    assert not caplog.records
    build_student(teacher.bfloat16(), 1)
    (record,) = caplog.records
    assert "has weights in bfloat16, so the student starts from rounded ones" in record.getMessage()


# ---- lists of a configuration ----


def tiny(config_class: Any, **changes: Any) -> Any:
    sizes = {"vocab_size": 60, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}
    torch.manual_seed(0)
    return config_class(**(sizes | {"num_hidden_layers": 2} | changes))


def test_a_list_of_something_else_stays_whole_where_its_length_is_the_number_of_layers() -> None:
    """DeBERTa has two kinds of relative positions, and would lose one with a layer."""
    positions = {"relative_attention": True, "pos_att_type": "c2p|p2c", "position_buckets": 8}
    teacher = DebertaV2Model(tiny(DebertaV2Config, **positions, initializer_range=0.5)).eval()
    student = build_student(teacher, 1).eval()
    assert student.config.pos_att_type == teacher.config.pos_att_type == ["c2p", "p2c"]
    ids = torch.randint(5, 60, (2, 7))
    ours, theirs = (m(ids, output_hidden_states=True).hidden_states for m in (student, teacher))
    torch.testing.assert_close(ours[1], theirs[1])


def test_height_and_width_of_an_image_are_no_layers() -> None:
    teacher = ViTModel(tiny(ViTConfig, image_size=[16, 32], patch_size=[8, 8])).eval()
    student = build_student(teacher, 1).eval()
    assert (student.config.image_size, student.config.patch_size) == ([16, 32], [8, 8])
    pixels = torch.randn(1, 3, 16, 32)
    ours, theirs = (m(pixels, output_hidden_states=True).hidden_states for m in (student, teacher))
    torch.testing.assert_close(ours[1], theirs[1])


def test_numbers_of_layers_are_those_of_the_student() -> None:
    """There are as many of them as layers, so that they look like a list with an entry for each."""
    config = tiny(Qwen2MoeConfig, num_key_value_heads=2, mlp_only_layers=[0, 1])
    student = build_student(Qwen2MoeModel(config), 1, init="last")
    assert student.config.mlp_only_layers == [0]


def test_kinds_and_sizes_of_layers_go_with_their_layers() -> None:
    config = tiny(Gemma3nTextConfig, num_hidden_layers=4)
    config.layer_types, config.intermediate_size = ["a", "b", "c", "d"], [10, 20, 30, 40]
    _cut_layer_lists(config, [2, 4])
    assert (config.layer_types, config.intermediate_size) == (["b", "d"], [20, 40])


@pytest.mark.parametrize(
    ("config", "nested"),
    [
        (Gemma3Config(), lambda c: c.text_config.attention_dropout),
        (CvtConfig(), lambda c: c.drop_rate[-1]),
        (CvtConfig(), lambda c: c.attention_drop_rate[0]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_dropout_reaches_parts_and_stages_of_a_configuration(config: Any, nested: Any) -> None:
    for dropout in (0.25, 0.0):
        set_dropout(config, dropout)
        assert nested(config) == dropout


def test_a_dropout_of_whole_numbers_is_switched_off_and_takes_no_other() -> None:
    config = MptConfig(attn_config={"attn_pdrop": 1})
    with pytest.raises(UserError, match=r"dropout is 0\.25, but attn_pdrop of Mpt.* whole numbers"):
        set_dropout(config, 0.25)
    set_dropout(config, 0.0)
    assert config.attn_config.attn_pdrop == 0
