import logging

import pytest
import torch

from itrd_nlp.distillation.arguments import ITRDTrainingArguments
from itrd_nlp.distillation.textbrewer_trainer import TextBrewerArguments
from itrd_nlp.errors import UserError
from itrd_nlp.training.arguments import FineTuningArguments


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
        ("corr_max_samples", 1, "corr_max_samples is 1, but must be at least 2"),
        ("mi_max_samples", 1, "mi_max_samples is 1, but must be at least 2"),
        ("warm_start_ratio", -0.1, "warm_start_ratio is -0.1, but must be at least 0 and below 1"),
        ("warm_start_ratio", 1.0, "warm_start_ratio is 1.0, but must be at least 0 and below 1"),
        ("fade_ratio", -0.1, "fade_ratio is -0.1, but must be from 0 to 1"),
        ("fade_ratio", 1.5, "fade_ratio is 1.5, but must be from 0 to 1"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused_by_name(tmp_path, field, value, sentence):
    with pytest.raises(UserError, match=sentence):
        ITRDTrainingArguments(output_dir=str(tmp_path), **{field: value})


def test_a_warm_start_without_hidden_states_is_refused(tmp_path):
    with pytest.raises(
        UserError, match=r"warm_start_ratio is 0\.5, but no term reads hidden states"
    ):
        ITRDTrainingArguments(
            output_dir=str(tmp_path), warm_start_ratio=0.5, beta_corr=0, beta_mi=0
        )


@pytest.mark.parametrize(
    ("weights", "sentence"),
    [
        ({"beta_corr": 0, "beta_mi": 0}, "no term reads hidden states, so that there is nothing"),
        ({"w_task": 0, "w_kd": 0}, "w_task and w_kd are 0, so that nothing would be learned"),
    ],
)
def test_fading_to_or_from_nothing_is_refused(tmp_path, weights, sentence):
    with pytest.raises(UserError, match=rf"fade_ratio is 0\.5, but {sentence}"):
        ITRDTrainingArguments(output_dir=str(tmp_path), fade_ratio=0.5, **weights)


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
        args = ITRDTrainingArguments(output_dir=str(tmp_path), emulate_bf16=True, **kwargs)
        return args.resolved_teacher_dtype()

    assert dtype() == torch.float32
    assert dtype(bf16=True) == torch.bfloat16
    assert dtype(bf16=True, teacher_dtype="float32") == torch.float32


def test_accumulation_warns_once_that_correlation_and_mi_belong_to_the_micro_batch(
    tmp_path, caplog
):
    def warnings(**kwargs):
        caplog.clear()
        with caplog.at_level(logging.WARNING, logger="itrd_nlp"):
            ITRDTrainingArguments(output_dir=str(tmp_path), **kwargs)
        return [record.getMessage() for record in caplog.records]

    (warning,) = warnings(gradient_accumulation_steps=4)
    assert "gradient_accumulation_steps is 4 and beta_corr and beta_mi > 0" in warning
    assert "statistics of the micro-batch" in warning
    (warning,) = warnings(gradient_accumulation_steps=2, beta_corr=0.0)
    assert "and beta_mi > 0" in warning
    assert warnings(gradient_accumulation_steps=4, beta_corr=0.0, beta_mi=0.0) == []
    assert warnings() == []


def test_samples_of_all_processes_need_a_view_that_can_be_gathered(tmp_path, monkeypatch):
    def arguments(**kwargs):
        return ITRDTrainingArguments(output_dir=str(tmp_path), mi_gather=True, **kwargs)

    with pytest.raises(UserError, match="mi_gather needs the mi_view tokens or pooled"):
        arguments(mi_view="sequence")
    assert arguments(mi_view="pooled").mi_gather
    monkeypatch.setattr(ITRDTrainingArguments, "world_size", 8)
    assert arguments(mi_max_samples=8).mi_gather
    with pytest.raises(
        UserError, match="mi_max_samples is 7, but mi_gather divides them between 8"
    ):
        arguments(mi_max_samples=7)


@pytest.mark.parametrize(
    "arguments", [FineTuningArguments, ITRDTrainingArguments, TextBrewerArguments]
)
def test_one_process_with_several_gpus_is_told_to_start_by_accelerate(
    tmp_path, monkeypatch, arguments
):
    """transformers would take DataParallel, in which no autocast is active."""
    monkeypatch.setattr(arguments, "n_gpu", 2)
    with pytest.raises(UserError, match=r"2 GPUs are in sight of one process.*accelerate launch"):
        arguments(output_dir=str(tmp_path))


def test_a_tracker_gets_the_name_of_the_run_and_publishes_nothing(tmp_path):
    args = FineTuningArguments(output_dir=str(tmp_path / "my_run"), report_to="none")
    assert args.run_name == "my_run"
    assert args.trackio_static_space_id is False
    named = FineTuningArguments(str(tmp_path), run_name="a", trackio_static_space_id="me/space")
    assert (named.run_name, named.trackio_static_space_id) == ("a", "me/space")
