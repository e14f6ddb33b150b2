"""Every argument of `TrainingArguments` and of `Trainer` works in a distillation, or is refused. None is left out.

The two tables name the test that shows it. An argument that a new release of transformers brings fails the test until
somebody has decided.
"""

from __future__ import annotations

import ast
import inspect
import os
import sys
from dataclasses import fields
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import datasets
import pytest
import torch
from transformers import (
    EarlyStoppingCallback,
    Trainer,
    TrainingArguments,
    default_data_collator,
    training_args,
)
from transformers.integrations import integration_utils

from itrd_nlp.distillation.arguments import ITRDTrainingArguments
from itrd_nlp.distillation.trainer import ITRDTrainer
from itrd_nlp.errors import TrainingDiverged, UserError
from itrd_nlp.publish import hub_trainer

ROOT = Path(__file__).parents[2]
HERE, EFFECT = (
    f"tests/distillation/{name}.py" for name in ("test_every_argument", "test_effect_of_arguments")
)
MODEL, STUDENTS = (f"tests/distillation/test_trainer_{name}.py" for name in ("model", "students"))
EFFECTS = f"{EFFECT}::test_an_argument_does_in_a_distillation_what_it_does_in_transformers"
REFUSALS = f"{HERE}::test_an_argument_that_would_do_nothing_is_refused_before_any_work"
HUB = "tests/hub/test_hub_trainer.py"
TRACKING = "tests/training/test_tracking.py"
CHECKPOINTING = f"{MODEL}::test_activation_checkpointing_gives_the_same_loss_and_gradients"

# A value that is refused, the kind of the error, and a part of the sentence.
REFUSED: dict[str, tuple[Any, type[Exception], str]] = {
    "label_smoothing_factor": (0.1, UserError, "label_smoothing_factor is 0.1, but the task loss"),
    "average_tokens_across_devices": (False, UserError, "counts the labels of a step over all"),
    "use_liger_kernel": (True, UserError, "Liger has no kernels for a student"),
    "liger_kernel_config": ({"rope": True}, UserError, "Liger has no kernels for a student"),
    "parallelism_config": (object(), UserError, "the losses need whole models"),
    "optim_target_modules": (["query"], UserError, "optim is adamw_torch, which reads none"),
    "enable_jit_checkpoint": (True, UserError, "SIGTERM saves a checkpoint"),
    "do_train": (True, UserError, "do_train is true, but only scripts of transformers"),
    "do_predict": (True, UserError, "do_predict is true, but only scripts of transformers"),
    "fsdp_config": (
        {"activation_checkpointing": True},
        UserError,
        "fsdp_config is given, but fsdp is not",
    ),
    "fsdp": (True, UserError, "fsdp is given, but there is one process"),
}

TABLE: dict[str, str] = {
    **dict.fromkeys(
        (
            *("per_device_train_batch_size", "num_train_epochs", "max_steps", "learning_rate"),
            *("lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps", "optim", "optim_args"),
            *("weight_decay", "adam_beta1", "adam_beta2", "adam_epsilon"),
            *("gradient_accumulation_steps", "max_grad_norm", "bf16_full_eval", "fp16_full_eval"),
            *("use_cache", "neftune_noise_alpha", "torch_empty_cache_steps"),
            *("torch_compile_backend", "logging_strategy", "logging_steps", "logging_first_step"),
            *("include_num_input_tokens_seen", "log_level", "disable_tqdm", "eval_strategy"),
            *("eval_steps", "eval_delay", "eval_on_start", "per_device_eval_batch_size"),
            *("prediction_loss_only", "eval_do_concat_batches", "eval_accumulation_steps"),
            *("include_for_metrics", "batch_eval_metrics", "save_strategy", "save_steps"),
            *("save_total_limit", "save_only_model", "load_best_model_at_end"),
            *("metric_for_best_model", "greater_is_better", "seed", "data_seed"),
            *("dataloader_drop_last", "dataloader_num_workers", "dataloader_persistent_workers"),
            *("dataloader_prefetch_factor", "dataloader_multiprocessing_context"),
            *("dataloader_in_order", "train_sampling_strategy", "accelerator_config"),
            *("ddp_bucket_cap_mb", "ddp_broadcast_buffers", "ddp_static_graph"),
            "skip_memory_metrics",
        ),
        EFFECTS,
    ),
    **dict.fromkeys(REFUSED, REFUSALS),
    **dict.fromkeys(
        ("activation_checkpointing", "activation_checkpointing_kwargs", "gradient_checkpointing"),
        CHECKPOINTING,
    ),
    "gradient_checkpointing_kwargs": f"{HERE}::test_the_old_names_of_checkpointing_mean_the_new_ones",
    "output_dir": "tests/training/test_checkpoints.py::run",
    "bf16": "tests/training/test_precision.py::test_a_run_is_not_resumed_in_another_precision",
    "fp16": "tests/distributed/test_gpu.py::test_mixed_precision_gives_nearly_the_losses_of_fp32",
    "tf32": f"{HERE}::test_a_gpu_that_is_not_there_is_refused",
    "torch_compile": f"{HERE}::test_a_compiled_student_learns_the_same",
    "torch_compile_mode": f"{HERE}::test_a_compiled_student_learns_the_same",
    "auto_find_batch_size": f"{HERE}::test_a_batch_that_does_not_fit_into_memory_is_halved",
    "log_on_each_node": f"{HERE}::test_another_node_logs_and_saves_if_it_is_told_to",
    "save_on_each_node": f"{HERE}::test_another_node_logs_and_saves_if_it_is_told_to",
    "log_level_replica": f"{HERE}::test_another_node_logs_and_saves_if_it_is_told_to",
    "logging_nan_inf_filter": f"{HERE}::test_an_infinite_loss_of_an_evaluation_is_left_out_if_asked_for",
    "report_to": f"{TRACKING}::trained",
    "run_name": f"{TRACKING}::trained",
    "project": f"{TRACKING}::trained",
    "trackio_space_id": f"{HERE}::test_trackio_gets_its_space_and_bucket",
    "trackio_bucket_id": f"{HERE}::test_trackio_gets_its_space_and_bucket",
    "trackio_static_space_id": "tests/distillation/test_arguments.py::"
    "test_a_tracker_gets_the_name_of_the_run_and_publishes_nothing",
    "eval_use_gather_object": f"{HERE}::test_objects_can_be_gathered_in_an_evaluation",
    "push_to_hub": f"{HUB}::make_trainer",
    "hub_token": f"{HUB}::test_a_token_of_the_arguments_is_used_and_not_sent_on",
    "hub_private_repo": f"{HUB}::test_the_student_alone_is_pushed",
    "hub_model_id": f"{HUB}::make_trainer",
    "hub_strategy": f"{HUB}::test_checkpoints_on_the_hub_are_refused_before_anything_is_sent",
    "hub_always_push": f"{HUB}::test_each_save_pushes_the_student_and_never_a_checkpoint",
    "hub_revision": f"{HERE}::test_a_push_goes_to_the_revision_of_the_arguments",
    "ignore_data_skip": f"{HERE}::test_a_run_that_skips_no_data_begins_its_rows_anew",
    "restore_callback_states_from_checkpoint": f"{HERE}::"
    "test_callbacks_go_on_where_they_were_if_asked_for",
    "full_determinism": f"{HERE}::test_full_determinism_reaches_torch",
    "use_cpu": f"{HERE}::test_the_device_is_the_cpu_if_asked_for",
    "local_rank": f"{HERE}::test_the_device_is_the_cpu_if_asked_for",
    "dataloader_pin_memory": f"{HERE}::test_memory_is_pinned_if_asked_for",
    "remove_unused_columns": f"{HERE}::test_columns_that_no_model_reads_reach_the_collator_if_asked_for",
    "label_names": f"{HERE}::test_a_misnamed_label_column_is_refused_before_the_first_step",
    "length_column_name": f"{HERE}::test_lengths_are_read_from_the_column_that_is_named",
    "ddp_find_unused_parameters": "tests/distributed/worker.py::main",
    "ddp_backend": f"{HERE}::test_backend_and_timeout_reach_the_process_group",
    "ddp_timeout": f"{HERE}::test_backend_and_timeout_reach_the_process_group",
    "deepspeed": f"{HERE}::test_deepspeed_that_is_not_installed_is_refused",
    "debug": f"{HERE}::test_debugging_names_the_module_that_overflows",
    "do_eval": f"{HERE}::test_an_evaluation_is_what_its_strategy_says",
    "resume_from_checkpoint": f"{HERE}::test_the_checkpoint_of_the_arguments_is_taken_up",
}

INIT: dict[str, str] = {
    "model": f"{MODEL}::test_the_state_is_that_of_student_and_objective",
    "args": f"{HERE}::test_arguments_of_another_kind_are_refused",
    "data_collator": f"{HERE}::test_columns_that_no_model_reads_reach_the_collator_if_asked_for",
    "train_dataset": f"{HERE}::test_without_training_data_a_student_can_be_evaluated",
    "eval_dataset": f"{HERE}::test_each_of_several_evaluation_sets_has_its_own_scores",
    "processing_class": f"{HERE}::test_a_tokenizer_is_saved_with_the_student",
    "model_init": "tests/distillation/test_trainer_model_init.py::"
    "test_a_function_makes_the_student_that_is_trained",
    "compute_loss_func": f"{HERE}::test_arguments_of_another_kind_are_refused",
    "compute_metrics": f"{MODEL}::test_an_evaluation_gathers_predictions_alone",
    "callbacks": f"{MODEL}::test_what_callbacks_of_ones_own_ask_for",
    "optimizers": f"{HERE}::test_an_optimizer_without_the_projections_is_refused",
    "optimizer_cls_and_kwargs": f"{HERE}::test_a_class_of_optimizers_trains_student_and_projections",
    "preprocess_logits_for_metrics": f"{HERE}::test_logits_are_made_smaller_before_they_are_gathered",
}


# ---- the tables ----


def test_every_argument_of_the_training_is_decided() -> None:
    names = {f.name for f in fields(TrainingArguments)}
    assert not (names - TABLE.keys()), (
        f"transformers has new arguments: {sorted(names - TABLE.keys())}. Decide for each whether it works in a "
        "distillation or is refused, write the test, and name it in TABLE."
    )
    assert not (TABLE.keys() - names), f"take {sorted(TABLE.keys() - names)} out of TABLE"


def test_every_argument_of_the_trainer_is_decided() -> None:
    names = inspect.signature(Trainer.__init__).parameters.keys() - {"self"}
    assert not (names ^ INIT.keys()), (
        f"INIT and the arguments of Trainer differ in {sorted(names ^ INIT.keys())}. Decide for each whether it works "
        "in a distillation or is refused, write the test, and name it in INIT."
    )


@pytest.mark.parametrize("proof", sorted({*TABLE.values(), *INIT.values()}))
def test_a_test_that_a_table_names_exists_and_names_the_arguments(proof: str) -> None:
    path, _, name = proof.partition("::")
    source = (ROOT / path).read_text(encoding="utf-8")
    functions = {n.name: n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef)}
    assert name in functions, f"{path} has no {name}"
    for argument in (a for table in (TABLE, INIT) for a, where in table.items() if where == proof):
        assert argument in source, f"{path} never names {argument}"


def test_the_cases_of_effects_are_those_of_the_table() -> None:
    tree = ast.parse((ROOT / EFFECT).read_text(encoding="utf-8"))
    (cases,) = (
        node.value
        for node in tree.body
        if isinstance(node, ast.AnnAssign) and getattr(node.target, "id", "") == "CASES"
    )
    assert isinstance(cases, ast.Dict)
    found = {key.value for key in cases.keys if isinstance(key, ast.Constant)}
    assert found == {name for name, where in TABLE.items() if where == EFFECTS}


# ---- refused ----


@pytest.mark.parametrize("name", REFUSED)
def test_an_argument_that_would_do_nothing_is_refused_before_any_work(name: str, tmp_path: Path):
    value, kind, sentence = REFUSED[name]
    with pytest.raises(kind) as caught:
        ITRDTrainingArguments(
            output_dir=str(tmp_path / "run"), **{"optim": "adamw_torch", name: value}
        )
    assert sentence in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_an_optimizer_whose_package_is_missing_is_refused(make_itrd, student) -> None:
    if find_spec("galore_torch"):
        pytest.skip("galore_torch is installed")
    trainer = make_itrd(student, optim="galore_adamw", optim_target_modules=["query"])
    with pytest.raises(UserError, match="optim is galore_adamw, but: "):
        trainer.train()
    assert trainer.state.global_step == 0


def test_a_gpu_that_is_not_there_is_refused(tmp_path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ValueError, match="tf32 requires Ampere"):
        ITRDTrainingArguments(output_dir=str(tmp_path), tf32=True)
    assert ITRDTrainingArguments(output_dir=str(tmp_path), tf32=False).tf32 is False


def test_deepspeed_that_is_not_installed_is_refused(tmp_path) -> None:
    if find_spec("deepspeed"):
        pytest.skip("deepspeed is installed")
    with pytest.raises((ImportError, ValueError), match=r"(?i)deepspeed"):
        ITRDTrainingArguments(output_dir=str(tmp_path), deepspeed={"train_batch_size": "auto"})


# ---- one by one ----


def losses(trainer: Any) -> list[float]:
    return [row["loss"] for row in trainer.state.log_history if "loss" in row]


def test_the_old_names_of_checkpointing_mean_the_new_ones(make_itrd, student) -> None:
    kwargs = {"use_reentrant": False}
    trainer = make_itrd(student, gradient_checkpointing=True, gradient_checkpointing_kwargs=kwargs)
    assert trainer.args.activation_checkpointing_kwargs == kwargs
    trainer.train()
    assert trainer.student.is_gradient_checkpointing


@pytest.mark.slow  # the compiler of the inductor
def test_a_compiled_student_learns_the_same(make_itrd, make_bert) -> None:
    plain = make_itrd(make_bert(2, seed=1))
    plain.train()
    compiled = make_itrd(make_bert(2, seed=1), torch_compile=True, torch_compile_mode="default")
    assert compiled.accelerator.state.dynamo_plugin.mode == "default"
    compiled.train()
    assert losses(compiled) == pytest.approx(losses(plain), rel=1e-4)


def test_a_batch_that_does_not_fit_into_memory_is_halved(make_itrd, make_bert, monkeypatch) -> None:
    """The log counts the terms of the second try alone, and the handlers of signals are given back."""
    sizes = []
    original = ITRDTrainer.compute_loss

    def compute_loss(self: Any, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        sizes.append(len(inputs["input_ids"]))
        found = original(self, model, inputs, *args, **kwargs)
        if len(sizes) == 1:
            raise RuntimeError("CUDA out of memory.")
        return found

    monkeypatch.setattr(ITRDTrainer, "compute_loss", compute_loss)
    fixed = {"train_sampling_strategy": "sequential", "max_steps": 2, "logging_steps": 2}
    found = make_itrd(
        make_bert(2, seed=1), per_device_train_batch_size=8, auto_find_batch_size=True, **fixed
    )
    found.train()
    smaller = sizes[-1]
    assert sizes == [8, smaller, smaller] and smaller < 8
    given = make_itrd(make_bert(2, seed=1), per_device_train_batch_size=smaller, **fixed)
    given.train()
    for name in ("loss", "task", "kd", "corr", "mi"):
        ours, expected = (t.state.log_history[0][name] for t in (found, given))
        assert ours == pytest.approx(expected, rel=1e-4), name


def test_another_node_logs_and_saves_if_it_is_told_to(tmp_path, monkeypatch) -> None:
    """The first process of a second node."""
    monkeypatch.setattr(ITRDTrainingArguments, "process_index", 2)
    monkeypatch.setattr(ITRDTrainingArguments, "local_process_index", 0)

    def told(**kwargs: Any) -> tuple[bool, bool, int]:
        args = ITRDTrainingArguments(
            output_dir=str(tmp_path), log_level="error", log_level_replica="debug", **kwargs
        )
        return args.should_log, args.should_save, args.get_process_log_level()

    assert told() == (True, False, 40)
    assert told(log_on_each_node=False) == (False, False, 10)
    assert told(save_on_each_node=True) == (True, True, 40)


def test_an_infinite_loss_of_an_evaluation_is_left_out_if_asked_for(
    make_itrd, make_bert, make_rows
) -> None:
    found = []
    for filtered in (False, True):
        trainer = make_itrd(
            make_bert(2, seed=1),
            eval_rows=make_rows(4, seed=3),
            per_device_eval_batch_size=2,
            logging_nan_inf_filter=filtered,
        )
        original, calls = trainer.compute_loss, []

        def compute_loss(*args: Any, original=original, calls=calls, **kwargs: Any) -> Any:
            loss, outputs = original(*args, **kwargs)
            calls.append(1)
            return (loss * float("inf") if len(calls) == 1 else loss), outputs

        trainer.compute_loss = compute_loss
        found.append(trainer.evaluate()["eval_loss"])
    assert found[0] == float("inf") and 0 < found[1] < 100


def test_a_loss_that_is_nan_ends_a_training_with_or_without_the_filter(make_itrd, make_bert):
    for filtered in (False, True):
        student = make_bert(2, seed=1)
        torch.nn.init.constant_(student.qa_outputs.bias, float("nan"))
        with pytest.raises(TrainingDiverged):
            make_itrd(student, logging_nan_inf_filter=filtered).train()


def test_trackio_gets_its_space_and_bucket(make_itrd, student, monkeypatch) -> None:
    trackio = MagicMock(__version__="1.0", __spec__=ModuleSpec("trackio", None))
    pytest.importorskip("trackio")
    monkeypatch.setitem(sys.modules, "trackio", trackio)
    trainer = make_itrd(
        student,
        max_steps=1,
        trackio_space_id="me/space",
        trackio_bucket_id="me/bucket",
        given={"callbacks": [integration_utils.TrackioCallback()]},
    )
    trainer.train()
    (call,) = trackio.init.call_args_list
    assert "me/space" in call.kwargs.values() and "me/bucket" in call.kwargs.values()


def test_objects_can_be_gathered_in_an_evaluation(make_itrd, student, make_rows) -> None:
    rows = make_rows(4, seed=3)
    predictions = []
    for objects in (False, True):
        trainer = make_itrd(student, eval_rows=rows, eval_use_gather_object=objects)
        assert trainer.gather_function.keywords == {"use_gather_object": objects}
        predictions.append(trainer.predict(trainer.eval_dataset).predictions[0])
    assert (predictions[0] == predictions[1]).all()


def test_a_push_goes_to_the_revision_of_the_arguments(make_itrd, student, monkeypatch) -> None:
    seen = []
    monkeypatch.setattr(hub_trainer, "push_files", lambda *_, revision, **__: seen.append(revision))
    monkeypatch.setattr(hub_trainer, "open_repo", lambda *_, **__: "me/student")
    trainer = make_itrd(student, hub_revision="second-try", max_steps=1)
    trainer.train()
    trainer.push_to_hub()
    assert seen == ["second-try"]


SAVED = {"save_strategy": "steps", "save_steps": 1, "max_steps": 3}


def rows_of(trainer: Any) -> list[list[int]]:
    """The rows of each batch that the training reads, as their first tokens."""
    seen: list[list[int]] = []
    original = trainer.compute_loss

    def compute_loss(model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append(inputs["input_ids"][:, 0].tolist())
        return original(model, inputs, *args, **kwargs)

    trainer.compute_loss = compute_loss
    return seen


def test_a_run_that_skips_no_data_begins_its_rows_anew(make_itrd, make_bert) -> None:
    fixed = SAVED | {"train_sampling_strategy": "sequential"}
    found = {}
    for ignore in (False, True):
        whole = make_itrd(
            make_bert(2, seed=1), ignore_data_skip=ignore, overwrite_output_dir=True, **fixed
        )
        batches = rows_of(whole)
        whole.train()
        again = make_itrd(make_bert(2, seed=1), ignore_data_skip=ignore, **fixed)
        read = rows_of(again)
        again.train(resume_from_checkpoint=str(Path(whole.args.output_dir) / "checkpoint-2"))
        found[ignore] = read
    assert found == {False: [batches[2]], True: [batches[0]]}


def test_callbacks_go_on_where_they_were_if_asked_for(make_itrd, make_bert, make_rows) -> None:
    fixed = SAVED | {
        "eval_strategy": "steps",
        "eval_steps": 1,
        "metric_for_best_model": "loss",
        "greater_is_better": True,
        "load_best_model_at_end": True,
        "learning_rate": 1e-2,
    }

    def make(patience: int, **kwargs: Any) -> Any:
        stop = EarlyStoppingCallback(early_stopping_patience=patience)
        return make_itrd(
            make_bert(2, seed=1),
            eval_rows=make_rows(4, seed=3),
            given={"callbacks": [stop]},
            **fixed,
            **kwargs,
        )

    whole = make(9)
    whole.train()
    checkpoint = str(Path(whole.args.output_dir) / "checkpoint-2")
    patience = {}
    for restore in (False, True):
        again = make(5, restore_callback_states_from_checkpoint=restore)
        again.train(resume_from_checkpoint=checkpoint)
        (stop,) = (
            c for c in again.callback_handler.callbacks if isinstance(c, EarlyStoppingCallback)
        )
        patience[restore] = stop.early_stopping_patience
    assert patience == {False: 5, True: 9}


def test_full_determinism_reaches_torch(make_itrd, student, monkeypatch) -> None:
    for name in ("CUDA_LAUNCH_BLOCKING", "CUBLAS_WORKSPACE_CONFIG", "ASCEND_LAUNCH_BLOCKING"):
        monkeypatch.setenv(name, os.environ.get(name, ""))
    for name in ("HCCL_DETERMINISTIC", "FLASH_ATTENTION_DETERMINISTIC"):
        monkeypatch.setenv(name, os.environ.get(name, ""))
    try:
        trainer = make_itrd(student, full_determinism=True, max_steps=1)
        assert torch.are_deterministic_algorithms_enabled()
        trainer.train()
    finally:
        torch.use_deterministic_algorithms(False)


def test_the_device_is_the_cpu_if_asked_for(tmp_path) -> None:
    """local_rank comes from old launchers. transformers takes the rank of the environment in its place."""
    args = ITRDTrainingArguments(output_dir=str(tmp_path), use_cpu=True, local_rank=3)
    assert args.device == torch.device("cpu")
    assert (args.process_index, args.world_size) == (0, 1)


@pytest.mark.parametrize("pinned", [True, False])
def test_memory_is_pinned_if_asked_for(make_itrd, student, pinned) -> None:
    trainer = make_itrd(student)
    trainer.args.dataloader_pin_memory = pinned  # the arguments set it to false on a CPU
    loader = trainer.get_train_dataloader()
    assert getattr(loader, "base_dataloader", loader).pin_memory is pinned


def test_columns_that_no_model_reads_reach_the_collator_if_asked_for(
    make_itrd, make_bert, make_rows, collate
) -> None:
    found = {}
    for removed in (True, False):
        seen: set[str] = set()

        def collator(rows: Any, seen: set[str] = seen) -> Any:
            seen |= set(rows[0])
            return collate(rows)

        trainer = make_itrd(
            make_bert(2, seed=1),
            remove_unused_columns=removed,
            given={"data_collator": collator},
        )
        trainer.train()
        found[removed] = (seen, losses(trainer))
    assert found[False][0] - found[True][0] == {"length"}
    assert found[False][1] == found[True][1]


@pytest.mark.parametrize(
    ("old", "new", "label_names"),
    [
        ("start_positions", "start", None),
        ("end_positions", "ends", None),
        ("start_positions", "start", ["start", "end_positions"]),
    ],
)
def test_a_misnamed_label_column_is_refused_before_the_first_step(
    make_itrd, make_bert, make_rows, old, new, label_names
) -> None:
    rows = [{new if k == old else k: v for k, v in row.items()} for row in make_rows(8)]
    trainer = make_itrd(make_bert(2, seed=1), rows=rows, label_names=label_names)
    with pytest.raises(UserError, match=r"w_task is 1\.0, but the batch holds .*label"):
        trainer.train()
    assert trainer.state.global_step == 0
    assert not [p for p in Path(trainer.args.output_dir).iterdir() if "checkpoint" in p.name]


def test_lengths_are_read_from_the_column_that_is_named(make_itrd, student, make_rows) -> None:
    rows = [{**row, "tokens": 17 - row["length"]} for row in make_rows(16)]
    orders = []
    for column in ("length", "tokens"):
        trainer = make_itrd(
            student, rows=rows, train_sampling_strategy="group_by_length", length_column_name=column
        )
        orders.append(trainer._get_train_sampler().lengths)
    assert orders == [[row["length"] for row in rows], [row["tokens"] for row in rows]]


def test_backend_and_timeout_reach_the_process_group(tmp_path, monkeypatch) -> None:
    """On a CPU transformers gives no timeout on; elsewhere it gives this one."""
    seen: list[dict[str, Any]] = []
    original = training_args.PartialState

    def state(**kwargs: Any) -> Any:
        seen.append(kwargs)
        return original(cpu=True)

    monkeypatch.setattr(training_args, "PartialState", state)
    args = ITRDTrainingArguments(output_dir=str(tmp_path), ddp_backend="gloo", ddp_timeout=60)
    assert seen[0]["backend"] == "gloo"
    assert args.ddp_timeout_delta.total_seconds() == 60


def test_debugging_names_the_module_that_overflows(make_itrd, make_bert, make_rows, capsys) -> None:
    # transformers cannot look at the mask of padding, in a plain training neither.
    rows = [row for row in make_rows(200) if row["length"] == 10]
    debugged = {"debug": "underflow_overflow", "max_steps": 1, "rows": rows}
    make_itrd(make_bert(2, seed=1), **debugged).train()
    broken = make_bert(2, seed=1)
    torch.nn.init.constant_(broken.bert.encoder.layer[1].output.dense.bias, float("inf"))
    with pytest.raises(ValueError, match="inf/nan"):
        make_itrd(broken, **debugged).train()
    assert "bert.encoder.layer.1.output.dense" in capsys.readouterr().out


def test_an_evaluation_is_what_its_strategy_says(tmp_path) -> None:
    """transformers sets do_eval by itself, so it says nothing that eval_strategy does not say."""
    args = ITRDTrainingArguments(output_dir=str(tmp_path), eval_strategy="epoch")
    assert args.do_eval is True


def test_the_checkpoint_of_the_arguments_is_taken_up(make_itrd, make_bert) -> None:
    """transformers leaves it to scripts, so that `train()` would begin anew without a word."""
    whole = make_itrd(make_bert(2, seed=1), **SAVED)
    whole.train()
    half = str(Path(whole.args.output_dir) / "checkpoint-2")
    again = make_itrd(make_bert(2, seed=1), resume_from_checkpoint=half, **SAVED)
    again.train()
    assert again._initial_global_step == 2
    for (name, one), other in zip(
        whole.model.named_parameters(), again.model.parameters(), strict=True
    ):
        assert torch.equal(one, other), name


# ---- arguments of the trainer ----


def test_arguments_of_another_kind_are_refused(make_itrd, student, teacher, tmp_path) -> None:
    for args, name in ((None, "NoneType"), (TrainingArguments(str(tmp_path)), "TrainingArguments")):
        with pytest.raises(UserError, match=f"args is {name}, but must be ITRDTrainingArguments"):
            ITRDTrainer(model=student, teacher=teacher, args=args)
    with pytest.raises(UserError, match="compute_loss_func is given, but the objective makes"):
        make_itrd(student, given={"compute_loss_func": lambda *_, **__: 0})


def test_without_training_data_a_student_can_be_evaluated(make_itrd, student, make_rows) -> None:
    trainer = make_itrd(student, eval_rows=make_rows(4), given={"train_dataset": None})
    assert trainer.evaluate()["eval_loss"] > 0


def test_each_of_several_evaluation_sets_has_its_own_scores(make_itrd, student, make_rows) -> None:
    sets = {name: datasets.Dataset.from_list(make_rows(4, seed=i)) for i, name in enumerate("ab")}
    trainer = make_itrd(student, eval_strategy="steps", eval_steps=3, given={"eval_dataset": sets})
    trainer.train()
    logged = {k for row in trainer.state.log_history for k in row if k.endswith("_loss")}
    assert {"eval_a_loss", "eval_b_loss"} <= logged


@pytest.mark.parametrize("by", ["processing_class", "data_collator"])
def test_a_tokenizer_is_saved_with_the_student(
    make_itrd, make_bert, make_reader, collate, tmp_path, by
) -> None:
    _, tokenizer = make_reader(["a"], 1)

    class Collator:
        def __init__(self) -> None:
            self.tokenizer = tokenizer

        def __call__(self, rows: Any) -> Any:
            return collate(rows)

    given = {by: tokenizer if by == "processing_class" else Collator()}
    trainer = make_itrd(make_bert(2, seed=1), given=given, max_steps=1)
    trainer.save_model(str(tmp_path / "saved"))
    assert (tmp_path / "saved" / "tokenizer.json").is_file()


def test_an_optimizer_without_the_projections_is_refused(make_itrd, make_bert) -> None:
    """It was made before the trainer made them, so they would stay as they began."""
    student = make_bert(2, seed=1)
    pair = (torch.optim.SGD(student.parameters(), lr=0.1), None)
    with pytest.raises(UserError, match="optimizers holds an optimizer without the parameters of"):
        make_itrd(student, given={"optimizers": pair})
    before = student.qa_outputs.weight.detach().clone()
    make_itrd(student, given={"optimizers": pair}, beta_corr=0.0).train()  # has no projections
    assert not torch.equal(student.qa_outputs.weight, before)


def test_a_class_of_optimizers_trains_student_and_projections(make_itrd, student) -> None:
    given = {"optimizer_cls_and_kwargs": (torch.optim.SGD, {"lr": 0.05})}
    trainer = make_itrd(student, given=given)
    before = {n: p.detach().clone() for n, p in trainer.model.named_parameters()}
    trainer.train()
    assert isinstance(trainer.optimizer.optimizer, torch.optim.SGD)
    moved = {
        n.partition(".")[0] for n, p in trainer.model.named_parameters() if (p != before[n]).any()
    }
    assert moved == {"student", "objective"}


def test_logits_are_made_smaller_before_they_are_gathered(make_itrd, student, make_rows) -> None:
    trainer = make_itrd(
        student,
        eval_rows=make_rows(4),
        given={"preprocess_logits_for_metrics": lambda logits, labels: logits[0].argmax(-1)},
    )
    assert trainer.predict(trainer.eval_dataset).predictions.shape == (4,)


def test_the_collator_of_transformers_is_the_default(make_itrd, student) -> None:
    trainer = make_itrd(student, given={"data_collator": None})
    assert trainer.data_collator is default_data_collator
