import pytest
import torch

from itrd_nlp.errors import UserError
from itrd_nlp.training_args import ITRDTrainingArguments


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("w_task", -1.0, "w_task is -1.0, but must be a finite number >= 0"),
        ("w_kd", float("nan"), "w_kd is nan"),
        ("beta_corr", -0.1, "beta_corr is -0.1"),
        ("beta_mi", float("inf"), "beta_mi is inf"),
        ("temperature", 0.0, "temperature is 0.0, but must be a finite number > 0"),
        ("alpha", -1.01, "alpha is -1.01"),
        ("corr_view", "words", "corr_view is 'words', but must be one of tokens, sequence, pooled"),
        ("mi_view", "", "mi_view is ''"),
        ("layer_reduction", "max", "layer_reduction is 'max', but must be one of sum, mean"),
        ("projection_init", "zero", "projection_init is 'zero'"),
        ("teacher_dtype", "int8", "teacher_dtype is 'int8'"),
        ("mi_max_samples", 1, "mi_max_samples is 1, but must be at least 2"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused_by_name(tmp_path, field, value, sentence):
    with pytest.raises(UserError, match=sentence):
        ITRDTrainingArguments(output_dir=str(tmp_path), **{field: value})


def test_an_objective_without_a_term_is_refused(tmp_path):
    with pytest.raises(UserError, match="are all 0, but one must be > 0"):
        ITRDTrainingArguments(output_dir=str(tmp_path), w_task=0, w_kd=0, beta_corr=0, beta_mi=0)


@pytest.mark.parametrize(
    ("weights", "teacher", "hidden_states"),
    [
        ({}, True, True),
        ({"beta_corr": 0, "beta_mi": 0}, True, False),
        ({"w_kd": 0, "beta_corr": 0}, True, True),
        ({"w_kd": 0, "beta_corr": 0, "beta_mi": 0}, False, False),
    ],
)
def test_what_the_objective_needs_follows_from_its_weights(
    tmp_path, weights, teacher, hidden_states
):
    args = ITRDTrainingArguments(output_dir=str(tmp_path), **weights)
    assert (args.needs_teacher, args.needs_hidden_states) == (teacher, hidden_states)


def test_the_teacher_runs_in_the_precision_of_the_training_unless_told_otherwise(tmp_path):
    def dtype(**kwargs):
        return ITRDTrainingArguments(output_dir=str(tmp_path), **kwargs).resolved_teacher_dtype()

    assert dtype() == torch.float32
    assert dtype(bf16=True) == torch.bfloat16
    assert dtype(bf16=True, teacher_dtype="float32") == torch.float32
