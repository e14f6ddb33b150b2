"""What an argument of transformers changes in a training, it changes in a distillation as well, and alike.

`Reference` is `transformers.Trainer` with the KD loss written into it. A case is one argument. Its plain run must
differ from the plain run without it, so the argument does something; the distillation must come out as the plain run.
"""

from __future__ import annotations

import copy
import functools
import math
from collections import Counter
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
import transformers.trainer
from torch.nn import functional as F
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    ProgressCallback,
    Trainer,
    TrainingArguments,
    logging,
)
from transformers.trainer_pt_utils import EvalLoopContainer

from itrd_nlp.distillation.arguments import ITRDTrainingArguments
from itrd_nlp.distillation.trainer import ITRDTrainer

EVALUATED = {"eval_strategy": "steps", "eval_steps": 1}
SAVED = {"save_strategy": "steps", "save_steps": 1}
BEST = EVALUATED | SAVED | {"load_best_model_at_end": True}
WORKERS = {"dataloader_num_workers": 1}

# From an argument to a value that changes something, and to the arguments without which it would not.
CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "per_device_train_batch_size": (3, {}),
    "num_train_epochs": (2, {"max_steps": -1, "warmup_steps": 1}),
    "max_steps": (2, {}),
    "learning_rate": (5e-2, {}),
    "lr_scheduler_type": ("cosine", {}),
    "lr_scheduler_kwargs": ({"num_cycles": 2.0}, {"lr_scheduler_type": "cosine"}),
    "warmup_steps": (2, {}),
    "optim": ("sgd", {}),
    "optim_args": ("momentum=0.9", {"optim": "sgd"}),
    "weight_decay": (0.5, {}),
    "adam_beta1": (0.5, {}),
    "adam_beta2": (0.5, {}),
    "adam_epsilon": (1.0, {}),
    "gradient_accumulation_steps": (2, {}),
    "max_grad_norm": (1e-3, {}),
    "bf16_full_eval": (True, {}),
    "fp16_full_eval": (True, {}),
    "use_cache": (True, {}),
    "neftune_noise_alpha": (5.0, {}),
    "torch_empty_cache_steps": (1, {}),
    "torch_compile_backend": ("eager", {}),
    "logging_strategy": ("epoch", {}),
    "logging_steps": (2, {}),
    "logging_first_step": (True, {"logging_steps": 3}),
    "include_num_input_tokens_seen": ("all", {}),
    "log_level": ("error", {}),
    "disable_tqdm": (False, {}),
    "eval_strategy": ("steps", {}),
    "eval_steps": (2, {"eval_strategy": "steps"}),
    "eval_delay": (3, EVALUATED),
    "eval_on_start": (True, EVALUATED),
    "per_device_eval_batch_size": (2, {}),
    "prediction_loss_only": (True, {}),
    "eval_do_concat_batches": (False, {}),
    "eval_accumulation_steps": (1, {}),
    "include_for_metrics": (["inputs", "loss"], {}),
    "batch_eval_metrics": (True, {"per_device_eval_batch_size": 2}),
    "save_strategy": ("steps", {"save_steps": 2}),
    "save_steps": (2, {"save_strategy": "steps"}),
    "save_total_limit": (1, SAVED),
    "save_only_model": (True, SAVED),
    "load_best_model_at_end": (True, EVALUATED | SAVED),
    "metric_for_best_model": ("score", BEST | {"greater_is_better": False}),
    "greater_is_better": (True, BEST),
    "seed": (7, {}),
    "data_seed": (7, {}),
    # Batches of 2 leave no row over: an evaluation of transformers would drop it, and one of ours takes all rows.
    "dataloader_drop_last": (True, {"per_device_eval_batch_size": 2}),
    "dataloader_num_workers": (1, {}),
    "dataloader_persistent_workers": (True, WORKERS),
    "dataloader_prefetch_factor": (3, WORKERS),
    "dataloader_multiprocessing_context": ("fork", WORKERS),
    "dataloader_in_order": (False, WORKERS),
    "train_sampling_strategy": ("sequential", {}),
    "accelerator_config": ({"use_seedable_sampler": False}, {}),
    "ddp_bucket_cap_mb": (3, {}),
    "ddp_broadcast_buffers": (False, {}),
    "ddp_static_graph": (True, {}),
    "skip_memory_metrics": (False, {}),
}
# Further values of some of them.
MORE = [
    ("train_sampling_strategy", "batch_rebalance", {}),
    ("lr_scheduler_type", "reduce_lr_on_plateau", EVALUATED),
    ("include_num_input_tokens_seen", "non_padding", {}),
    ("save_strategy", "best", EVALUATED | {"metric_for_best_model": "loss"}),
    ("save_strategy", "epoch", {}),
    ("eval_strategy", "epoch", {}),
    ("optim", "adafactor", {}),
    ("accelerator_config", {"gradient_accumulation_kwargs": {"num_steps": 2}}, {}),
]


def classifier(layers: int, seed: int) -> BertForSequenceClassification:
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=30,
        hidden_size=16,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=16,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        initializer_range=0.3,
        num_labels=3,
    )
    return BertForSequenceClassification(config)


def rows(count: int, seed: int) -> datasets.Dataset:
    """Rows of one length, so that the collator of transformers takes them and no token is padding."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(1, 30, (count, 6), generator=generator)
    return datasets.Dataset.from_dict(
        {
            "input_ids": ids.tolist(),
            "attention_mask": torch.ones_like(ids).tolist(),
            "labels": torch.randint(0, 3, (count,), generator=generator).tolist(),
        }
    )


class Reference(Trainer):
    """Task loss and KD at the temperature 2, as the paper of KD has them."""

    loss_is_scaled_for_ga = False

    def __init__(self, teacher: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.teacher = teacher.eval()

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        outputs = model(**inputs)
        loss = outputs.loss
        if model.training:
            labels = inputs.pop("labels")
            assert len(labels)
            with torch.no_grad():
                p = F.softmax(self.teacher(**inputs).logits / 2, dim=-1)
            log_q = F.log_softmax(outputs.logits / 2, dim=-1)
            loss = loss + 4 * (p * (p.log() - log_q)).sum(dim=-1).mean()
        return (loss, outputs) if return_outputs else loss


def metrics(outputs: Any, compute_result: bool = True) -> dict[str, float]:
    """Numbers that depend on everything an evaluation hands over."""
    logits = outputs.predictions
    if isinstance(logits, list):
        return {"score": float(len(logits))}
    found = {"score": float(logits.sum()), "rows": float(len(logits))}
    for name in ("inputs", "losses"):
        value = getattr(outputs, name, None)
        if value is not None:
            found[name] = float(np.asarray(value).sum())
    return found if compute_result else {}


def loader_of(trainer: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for kind in ("train", "eval"):
        prepared = getattr(trainer, f"get_{kind}_dataloader")()
        loader = getattr(prepared, "base_dataloader", prepared)
        names = ("num_workers", "prefetch_factor", "persistent_workers", "drop_last", "in_order")
        found |= {f"{kind}.{name}": getattr(loader, name) for name in names}
        found[f"{kind}.batch_size"] = getattr(prepared, "total_batch_size", None)
        found[f"{kind}.context"] = str(loader.multiprocessing_context)
    del found["eval.drop_last"]  # ours is False in any case
    return found


def files_of(folder: Path) -> list[str]:
    """Checkpoints, and whether they hold an optimizer. Both trainers have further files of their own."""
    return sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.name in ("model.safetensors", "optimizer.pt", "scheduler.pt")
    )


def log_of(trainer: Any) -> list[dict[str, float]]:
    """The rows of the log, without times, memory and the terms that only a distillation has."""
    names = ("loss", "grad_norm", "learning_rate", "epoch", "step", "train_loss", "eval_loss")
    names += ("eval_score", "eval_rows", "eval_inputs", "eval_losses", "num_input_tokens_seen")
    history = trainer.state.log_history
    return [{k: v for k, v in row.items() if k in names} for row in history]


def outcome(
    kind: str, folder: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any
) -> dict[str, Any]:
    """Train and evaluate, and return all that an argument may change."""
    defaults: dict[str, Any] = {
        "output_dir": str(folder),
        "per_device_train_batch_size": 4,
        "max_steps": 4,
        "learning_rate": 1e-2,
        "save_strategy": "no",
        "logging_steps": 1,
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        "ddp_find_unused_parameters": False,
    }
    settings = copy.deepcopy(defaults | settings)  # transformers changes them in place
    parts = {
        "model": classifier(1, seed=1),
        "teacher": classifier(2, seed=0),
        "train_dataset": rows(10, seed=1),
        "eval_dataset": rows(6, seed=2),
        "compute_metrics": metrics,
    }
    if kind == "distillation":
        args = ITRDTrainingArguments(**settings, beta_corr=0.0, beta_mi=0.0)
        trainer: Any = ITRDTrainer(args=args, **parts)
    else:
        trainer = Reference(args=TrainingArguments(**settings), **parts)
    counted: Counter[str] = Counter()

    def count(owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def counting(*args: Any, **kwargs: Any) -> Any:
            counted[name] += 1
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, counting)

    count(transformers.trainer, "clear_device_cache")
    count(EvalLoopContainer, "to_cpu_and_numpy")
    trainer.train()
    student = trainer.student if kind == "distillation" else trainer.model
    # Adam makes steps out of the rounding errors of the biases of keys, whose gradients are zero.
    weights = {
        n: p.detach().clone() for n, p in student.named_parameters() if not n.endswith("key.bias")
    }
    evaluated = trainer.evaluate()
    predictions = trainer.predict(trainer.eval_dataset).predictions
    handler = trainer.accelerator.ddp_handler
    found = {
        "weights": weights,
        "log": log_of(trainer),
        "metrics": sorted(
            n for n in {**evaluated, **trainer.state.log_history[-2]} if "time" not in n
        ),
        "dtype": str(student.dtype),
        "predictions": None if predictions is None else predictions,
        "files": files_of(folder),
        "loader": loader_of(trainer),
        "counted": dict(counted),
        "optimizer": type(trainer.optimizer.optimizer).__name__,
        "use_cache": student.config.use_cache,
        "verbosity": logging.get_verbosity(),
        "progress": any(
            isinstance(c, ProgressCallback) for c in trainer.callback_handler.callbacks
        ),
        "ddp": (handler.bucket_cap_mb, handler.broadcast_buffers, handler.static_graph),
        "compiled": trainer.model_wrapped is not trainer.model,
    }
    monkeypatch.undo()
    logging.set_verbosity_warning()
    return found


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Outcomes of the reference, each computed once."""

    @functools.cache
    def run(settings: str) -> dict[str, Any]:
        folder = tmp_path_factory.mktemp("plain") / "run"
        return outcome("plain", folder, pytest.MonkeyPatch(), **SETTINGS[settings])

    def plain(**settings: Any) -> dict[str, Any]:
        SETTINGS[repr(settings)] = settings
        return run(repr(settings))

    return plain


SETTINGS: dict[str, dict[str, Any]] = {}


def same(one: Any, other: Any, tolerance: float = 0.0) -> bool:
    """Whether two outcomes agree, numbers to a relative tolerance."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k], tolerance) for k in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(
            same(a, b, tolerance) for a, b in zip(one, other, strict=True)
        )
    if isinstance(one, torch.Tensor | np.ndarray) and isinstance(other, type(one)):
        a, b = torch.as_tensor(one), torch.as_tensor(other)
        return a.shape == b.shape and torch.allclose(a, b, rtol=tolerance, atol=tolerance)
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=tolerance, abs_tol=tolerance)
    return bool(one == other)


ALL = [(name, value, needed) for name, (value, needed) in CASES.items()] + MORE
# `make test` runs these, one of each kind. The others are slow together.
QUICK = ("gradient_accumulation_steps", "include_num_input_tokens_seen", "batch_eval_metrics")
QUICK += ("metric_for_best_model", "dataloader_drop_last", "save_only_model")


@pytest.mark.parametrize(
    ("name", "value", "needed"),
    [
        pytest.param(
            *case, id=f"{case[0]}={case[1]}", marks=[] if case[0] in QUICK else pytest.mark.slow
        )
        for case in ALL
    ],
)
def test_an_argument_does_in_a_distillation_what_it_does_in_transformers(
    plain: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: Any, needed: Any
) -> None:
    without, with_it = plain(**needed), plain(**needed, **{name: value})
    tolerance = 0.05 if name.endswith("_full_eval") else 2e-3  # 8 or 11 bits
    # Else an argument that is ignored would pass: what it changes must be more than what may differ.
    assert not same(without, with_it, tolerance), "the argument changes nothing that this test sees"
    ours = outcome("distillation", tmp_path / "run", monkeypatch, **needed, **{name: value})
    for part, expected in with_it.items():
        if part == "dtype" and name.endswith("_full_eval"):
            assert ours[part] == without[part]  # our weights come back as they were
            continue
        assert same(ours[part], expected, tolerance), part
