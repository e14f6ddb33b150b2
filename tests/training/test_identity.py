"""A checkpoint is resumed by its own run alone: all that changes the weights belongs to the identity."""

from __future__ import annotations

import itertools
import json
import random
import shutil
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import fields
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pytest
import torch
from transformers import TrainingArguments

from itrd_nlp.distillation.arguments import ITRDTrainingArguments
from itrd_nlp.distillation.trainer import ITRDTrainer
from itrd_nlp.errors import UserError
from itrd_nlp.training.identity import IDENTITY_NAME, data_digest, write_identity
from itrd_nlp.training.roles import Role, is_experiment, names_of, role_of
from itrd_nlp.training.trainer import BaseTrainer

ROWS = [{"input_ids": [i, i + 1, i + 2], "label": i % 2, "text": f"text {i}"} for i in range(1000)]


# ---- data ----


def test_equal_rows_have_one_digest_in_whatever_chunks_order_of_columns_or_format() -> None:
    whole = datasets.Dataset.from_list(ROWS)
    chunked = datasets.concatenate_datasets(
        [datasets.Dataset.from_list(ROWS[:300]), datasets.Dataset.from_list(ROWS[300:])]
    )
    reordered = whole.select_columns(["text", "label", "input_ids"])
    shuffled = whole.select(range(999, -1, -1)).select(range(999, -1, -1))
    part = datasets.Dataset.from_list([ROWS[0], *ROWS]).select(range(1, 1001))
    formatted = whole.with_format("torch")
    same = [whole, chunked, reordered, shuffled, part, formatted]
    assert len({data_digest(dataset) for dataset in same}) == 1


@pytest.mark.parametrize("make", [datasets.Dataset.from_list, list], ids=["Dataset", "list"])
@pytest.mark.parametrize("row", [0, 1, 500, 501, 998, 999])
@pytest.mark.parametrize(
    "change", [{"input_ids": [0, 0, 7]}, {"input_ids": [7]}, {"label": 5}, {"text": "another"}]
)
def test_every_value_of_every_row_counts(make: Any, row: int, change: dict[str, Any]) -> None:
    rows = [dict(one) for one in ROWS]
    rows[row] |= change
    assert data_digest(make(rows)) != data_digest(make(ROWS))


def test_boundaries_of_lists_missing_values_and_names_count() -> None:
    variants: list[Any] = [
        {"x": [[1, 2], [3]]},
        {"x": [[1], [2, 3]]},
        {"x": [[1, 2, 3], []]},
        {"y": [[1, 2], [3]]},
        {"x": [[1, 2], None]},
        {"x": [[1, 2], [0]]},
        {"x": [[1, 2], [None]]},
        {"x": ["ab", "c"]},
        {"x": ["a", "bc"]},
        {"x": [1.5, 2.5]},
        {"x": [{"a": 1}, {"a": 2}]},
        {"x": [{"a": 1}, None]},
        {"x": [True, False]},
    ]
    digests = [data_digest(datasets.Dataset.from_dict(one)) for one in variants]
    assert len(set(digests)) == len(variants)


def test_the_middle_of_a_large_tensor_counts_too() -> None:
    rows = [{"x": torch.zeros(5000), "y": np.zeros(5000)} for _ in range(2)]
    for name in ("x", "y"):
        other = [{k: v.clone() if k == "x" else v.copy() for k, v in row.items()} for row in rows]
        other[1][name][2500] = 1
        assert data_digest(other) != data_digest(rows)


class Augmented(torch.utils.data.Dataset):
    """Rows that are other ones at each reading, as randomly cropped images are."""

    def __init__(self, rows: list[dict[str, Any]], draw: Callable[[], int]) -> None:
        self.rows, self.draw = rows, draw

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> dict[str, Any]:
        row = self.rows[i]
        return row | {"input_ids": [self.draw() for _ in row["input_ids"]]}


OWN = np.random.default_rng(0)
DRAWS: dict[str, Callable[[], int]] = {
    "torch": lambda: int(torch.randint(5, 64, ())),
    "random": lambda: random.randrange(5, 64),
    "numpy": lambda: np.random.randint(5, 64),
    "its own": lambda: int(OWN.integers(5, 64)),
}


@pytest.mark.parametrize("name", DRAWS)
def test_rows_that_are_random_are_left_out_and_no_generator_is_moved(name) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    dataset = Augmented(ROWS[:9], DRAWS[name])
    assert data_digest(dataset) == data_digest(dataset)
    assert data_digest(dataset) != data_digest(Augmented(ROWS[:8], DRAWS[name]))
    assert data_digest(dataset) != data_digest(ROWS[:9])
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before[1:]


def test_an_image_counts_by_its_pixels_and_an_object_without_its_address() -> None:
    image = pytest.importorskip("PIL.Image")

    def rows(red: int) -> list[dict[str, Any]]:
        return [{"image": image.new("RGB", (4, 4), (red, 0, 0)), "other": object()}]

    kept = rows(0), rows(0), rows(1)  # at once, so that each object has its own address
    same, again, other = map(data_digest, kept)
    assert same == again
    assert same != other


def test_all_windows_of_squad_take_about_a_second() -> None:
    windows, length = 88_000, 200
    values = pa.array(np.arange(windows * length, dtype=np.int32) % 30_000)
    column = pa.FixedSizeListArray.from_arrays(values, length).cast(pa.list_(pa.int32()))
    names = ("input_ids", "attention_mask", "token_type_ids")
    dataset = datasets.Dataset(pa.table({name: column for name in names}))
    started = time.process_time()
    data_digest(dataset)
    assert time.process_time() - started < 4


# ---- arguments ----


def test_the_roles_of_all_arguments_of_transformers_are_decided() -> None:
    """A new version of transformers may bring an argument that changes no weights: say so in roles.py."""
    changing = {
        f.name for f in fields(TrainingArguments) if f.init and role_of(f) is Role.EXPERIMENT
    }
    assert changing == {
        *("num_train_epochs", "max_steps", "seed", "data_seed", "full_determinism"),
        *("learning_rate", "lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps"),
        *("optim", "optim_args", "optim_target_modules", "weight_decay", "max_grad_norm"),
        *("adam_beta1", "adam_beta2", "adam_epsilon"),
        *("per_device_train_batch_size", "gradient_accumulation_steps", "auto_find_batch_size"),
        *("average_tokens_across_devices", "label_smoothing_factor", "neftune_noise_alpha"),
        *("bf16", "fp16", "tf32", "torch_compile", "torch_compile_backend", "torch_compile_mode"),
        *("activation_checkpointing", "activation_checkpointing_kwargs", "use_cache"),
        *("gradient_checkpointing", "gradient_checkpointing_kwargs"),
        *("use_liger_kernel", "liger_kernel_config", "accelerator_config"),
        *("train_sampling_strategy", "length_column_name", "dataloader_drop_last"),
        *("dataloader_in_order", "ignore_data_skip", "remove_unused_columns", "label_names"),
        *("load_best_model_at_end", "metric_for_best_model", "greater_is_better"),
    }


def test_what_a_finished_run_records_is_what_it_always_was() -> None:
    assert all(is_experiment(f) for f in fields(TrainingArguments) if role_of(f) is Role.WATCHING)


@pytest.fixture
def make_trainer(tmp_path, teacher, make_bert, make_rows, collate):
    def make_trainer(
        rows=None, student=None, eval_rows=None, trainer_class=ITRDTrainer, name="run", **kwargs
    ):
        defaults = {
            "output_dir": str(tmp_path / name),
            "per_device_train_batch_size": 4,
            "max_steps": 4,
            "save_strategy": "steps",
            "save_steps": 2,
            "logging_steps": 1,
            "report_to": "none",
            "disable_tqdm": True,
        }
        group = ITRDTrainingArguments
        more = {}
        if trainer_class is ITRDTrainer:
            more["teacher"] = teacher
        else:
            from itrd_nlp.training.arguments import FineTuningArguments as group
        return trainer_class(
            model=student or make_bert(2, seed=1),
            args=group(**(defaults | kwargs)),
            train_dataset=datasets.Dataset.from_list(rows or make_rows(400)),
            eval_dataset=datasets.Dataset.from_list(eval_rows or make_rows(8, seed=3)),
            data_collator=collate,
            **more,
        )

    return make_trainer


# Another value for every argument that changes the weights.
OTHER: dict[str, Any] = {
    "num_train_epochs": 2,
    "max_steps": 5,
    "seed": 7,
    "data_seed": 7,
    "full_determinism": True,
    "learning_rate": 1e-3,
    "lr_scheduler_type": "constant",
    "lr_scheduler_kwargs": {"num_cycles": 2},
    "warmup_steps": 2,
    "optim": "sgd",
    "optim_args": "momentum=0.9",
    "weight_decay": 0.1,
    "max_grad_norm": 0.5,
    "adam_beta1": 0.8,
    "adam_beta2": 0.9,
    "adam_epsilon": 1e-6,
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 2,
    "neftune_noise_alpha": 1.0,
    "train_sampling_strategy": "group_by_length",
    "dataloader_drop_last": True,
    "remove_unused_columns": False,
    "load_best_model_at_end": True,
    "accelerator_config": {"even_batches": False},
    "beta_corr": 3.0,
    "teacher_dtype": "float16",
    "peer_losses": {"itrd_nlp.losses.peers.FitNet": 1.0},
}


def test_a_run_with_another_value_of_any_argument_that_changes_the_weights_is_another_run(
    make_trainer,
) -> None:
    identity = make_trainer().identity()
    for name, value in OTHER.items():
        more = {"eval_strategy": "steps"} if name == "load_best_model_at_end" else {}
        other = make_trainer(**{name: value}, **more).identity()
        assert other[name] != identity[name], name


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"learning_rate": 1e-3}, "learning_rate is 0.001 now and was 5e-05"),
        ({"lr_scheduler_type": "constant"}, "lr_scheduler_type is 'constant' now and was 'linear'"),
        ({"num_train_epochs": 5}, "num_train_epochs is 5 now and was 3.0"),
        ({"optim": "sgd"}, "optim is 'sgd' now and was 'adamw_torch_fused'"),
        ({"weight_decay": 0.1}, "weight_decay is 0.1 now and was 0.0"),
        ({"bf16": True, "emulate_bf16": True}, "precision is 'bf16' now and was 'fp32'"),
    ],
)
def test_it_is_not_resumed_under_another_label(make_trainer, change, named) -> None:
    make_trainer().train()
    with pytest.raises(UserError, match=f"checkpoint-4 belongs to another run: {named}"):
        make_trainer(**change).train(resume_from_checkpoint=True)


def test_a_student_of_other_dropout_or_other_first_weights_is_another_run(
    make_trainer, make_bert
) -> None:
    make_trainer().train()
    dropped = make_bert(2, seed=1, hidden_dropout_prob=0.1)
    with pytest.raises(UserError, match=r"run: dropout is .*'hidden_dropout_prob': 0.1.* and was"):
        make_trainer(student=dropped).train(resume_from_checkpoint=True)
    with pytest.raises(UserError, match="run: initial_weights is '"):
        make_trainer(student=make_bert(2, seed=2)).train(resume_from_checkpoint=True)


def test_a_row_that_no_sample_of_256_would_hold_makes_another_run(make_trainer, make_rows) -> None:
    make_trainer().train()
    rows = make_rows(400)
    rows[2]["end_positions"] += 1  # of 400 rows, 256 samples leave out row 2
    with pytest.raises(UserError, match="run: train_dataset is '"):
        make_trainer(rows=rows).train(resume_from_checkpoint=True)


def test_fine_tuning_has_the_same_identity(make_trainer) -> None:
    make_trainer(trainer_class=BaseTrainer).train()
    with pytest.raises(UserError, match=r"run: learning_rate is 0.001 now and was 5e-05\. "):
        make_trainer(trainer_class=BaseTrainer, learning_rate=1e-3).train(
            resume_from_checkpoint=True
        )


def test_watching_it_in_another_way_is_the_same_run(make_trainer, tmp_path) -> None:
    make_trainer().train()
    shutil.rmtree(tmp_path / "run" / "checkpoint-4")
    (tmp_path / "run").rename(tmp_path / "moved")
    trainer = make_trainer(
        name="moved",
        logging_steps=2,
        eval_strategy="steps",
        eval_steps=1,
        per_device_eval_batch_size=2,
        save_steps=1,
        save_total_limit=3,
        dataloader_num_workers=1,
        disable_tqdm=True,
        run_name="another name",
    )
    trainer.train(resume_from_checkpoint=True)
    assert trainer._initial_global_step == 2


def test_where_the_evaluation_chooses_the_model_it_belongs_to_the_run(
    make_trainer, make_rows
) -> None:
    run = {
        "load_best_model_at_end": True,
        "eval_strategy": "steps",
        "eval_steps": 2,
        "metric_for_best_model": "loss",
    }
    make_trainer(**run).train()
    with pytest.raises(UserError, match="run: eval_steps is 1 now and was 2"):
        make_trainer(**run | {"eval_steps": 1}).train(resume_from_checkpoint=True)
    with pytest.raises(UserError, match="run: eval_dataset is '"):
        make_trainer(**run, eval_rows=make_rows(8, seed=4)).train(resume_from_checkpoint=True)


def test_a_model_that_was_interrupted_in_this_process_may_go_on(make_trainer, make_bert) -> None:
    student = make_bert(2, seed=1)
    make_trainer(student=student).train()
    again = make_trainer(student=student)
    again.train(resume_from_checkpoint=True)
    assert again._initial_global_step == 4


def test_an_argument_that_is_younger_than_the_checkpoint_had_its_default(
    make_trainer, tmp_path
) -> None:
    trainer = make_trainer()
    trainer.train()
    path = tmp_path / "run" / "checkpoint-4" / IDENTITY_NAME
    recorded = json.loads(path.read_text())
    del recorded["neftune_noise_alpha"], recorded["w_kd"]
    path.write_text(json.dumps(recorded))
    for change, named in (({}, None), ({"w_kd": 2.0}, "w_kd is 2.0 now and was 1.0")):
        other = make_trainer(**change)
        other._identity = other.identity()
        if named is None:
            other._check_identity(path.parent)
        else:
            with pytest.raises(UserError, match=named):
                other._check_identity(path.parent)


@pytest.mark.parametrize("trainer_class", [ITRDTrainer, BaseTrainer])
def test_any_argument_may_be_younger_than_the_checkpoint(
    make_trainer, trainer_class, tmp_path
) -> None:
    trainer = make_trainer(trainer_class=trainer_class, max_steps=-1)
    trainer._identity = trainer.identity()
    arguments = {f.name for f in fields(trainer.args)} & trainer._identity.keys()
    # The trainer reads it from the class of the model. transformers has always had it.
    arguments -= {"label_names"}
    given = {"per_device_train_batch_size"}  # another value than the default
    assert len(arguments) > 35
    for name in arguments:
        left = {key: value for key, value in trainer._identity.items() if key != name}
        write_identity(tmp_path, left)
        with pytest.raises(UserError, match=name) if name in given else nullcontext():
            trainer._check_identity(tmp_path)


def test_a_run_on_augmented_data_is_resumed(make_trainer, make_rows) -> None:
    def trainer() -> Any:
        made = make_trainer()
        made.train_dataset = Augmented(make_rows(40), DRAWS["torch"])
        return made

    trainer().train()
    again = trainer()
    again.train(resume_from_checkpoint=True)
    assert again._initial_global_step == 4


def test_the_names_of_the_identity_are_those_of_the_roles(make_trainer) -> None:
    identity = make_trainer().identity()
    changing = names_of(ITRDTrainingArguments, Role.EXPERIMENT, Role.OBJECTIVE)
    watching = names_of(ITRDTrainingArguments, Role.WATCHING, Role.LAUNCH, Role.CACHE, Role.SECRET)
    replaced = {"bf16", "fp16", "emulate_bf16", "layer_map", "include_embeddings"}
    assert changing - replaced <= identity.keys()
    assert not watching & identity.keys()
    assert not any(a == b for a, b in itertools.pairwise(sorted(identity)))


def test_the_identity_in_a_checkpoint_holds_no_object_of_this_process(
    make_trainer, tmp_path: Path
) -> None:
    make_trainer().train()
    text = (tmp_path / "run" / "checkpoint-4" / IDENTITY_NAME).read_text()
    assert " at 0x" not in text
    assert json.loads(text)["version"] == 2
