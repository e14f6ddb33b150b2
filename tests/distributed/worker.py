"""One process of the runs that the tests compare. Usage: `accelerate launch ... worker.py FOLDER`.

Every process writes all it found to `FOLDER/WORLD.RANK.pt`; the tests read and judge.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
import torch.distributed as dist
import torch.distributed.nn.functional as differentiable
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.state import PartialState
from accelerate.utils import DistributedType
from accelerate.utils.launch import prepare_multi_gpu_env
from torch import Tensor
from transformers import (
    AutoModelForQuestionAnswering,
    AutoModelForTokenClassification,
    EarlyStoppingCallback,
    TrainerCallback,
)
from transformers.models.bert.modeling_bert import BertPooler

from itrd_nlp.distillation.arguments import ITRDTrainingArguments
from itrd_nlp.distillation.distributed import gather_samples, sum_over_ranks, world_size
from itrd_nlp.distillation.trainer import ITRDTrainer
from itrd_nlp.errors import TrainingInterrupted
from itrd_nlp.losses import correlation_loss, mutual_information_loss
from itrd_nlp.tasks.jobs.evaluate import answering_trainer
from itrd_nlp.training.arguments import FineTuningArguments
from itrd_nlp.training.results import size
from itrd_nlp.training.trainer import BaseTrainer

ROOT = Path(__file__).parents[2]
_spec = importlib.util.spec_from_file_location("tests_conftest", ROOT / "tests" / "conftest.py")
tiny = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(tiny)

BATCH = 16
NONE = {"w_task": 0.0, "w_kd": 0.0, "beta_corr": 0.0, "beta_mi": 0.0}
ONE_STEP: dict[str, dict[str, Any]] = {
    "task": NONE | {"w_task": 1.0},
    "kd": NONE | {"w_kd": 1.0},
    "corr": NONE | {"beta_corr": 1.0},
    "mi": NONE | {"beta_mi": 1.0},
    "all": {},
}
# In float64, where rounding hides nothing.
EXACT: dict[str, dict[str, Any]] = {
    "corr": ONE_STEP["corr"],
    "corr, narrow student": ONE_STEP["corr"] | {"narrow": True},
    "corr, pooled": ONE_STEP["corr"] | {"corr_view": "pooled"},
    "corr, sequence": ONE_STEP["corr"] | {"corr_view": "sequence"},
    "corr, unbiased": ONE_STEP["corr"] | {"unbiased_std": True},
    "corr, no log": ONE_STEP["corr"] | {"corr_log": False},
    "mi": ONE_STEP["mi"],
    "mi, log": ONE_STEP["mi"] | {"mi_log": True},
    "mi, narrow student": ONE_STEP["mi"] | {"narrow": True},
    "mi, pooled": ONE_STEP["mi"] | {"mi_view": "pooled"},
    "mi, pooled, two texts a row": ONE_STEP["mi"] | {"mi_view": "pooled", "texts": 2},
}

# Samples and how many of them count, of each rank.
SAMPLES = {
    "uneven": [(11, 7), (8, 8), (3, 1), (6, 5)],
    "a rank without a valid sample": [(11, 7), (5, 0), (8, 8), (3, 0)],
    "a rank without a row": [(0, 0), (9, 6), (4, 4), (2, 1)],
}
ROWS = 12


# Ways to bring the same batches to the processes, and to average the same gradients.
WAYS: dict[str, dict[str, Any]] = {
    "split_batches": {
        "accelerator_config": {"split_batches": True},
        "per_device_train_batch_size": BATCH,
    },
    "even_batches": {"accelerator_config": {"even_batches": False}, "dataloader_drop_last": True},
    "ddp": {"ddp_bucket_cap_mb": 1, "ddp_broadcast_buffers": False, "ddp_static_graph": True},
    "stream": {"stream": True, "max_steps": 5},  # two passes and a half
}


def samples(name: str) -> list[dict[str, Tensor]]:
    """The values of each of four ranks in float64, with garbage where the mask is 0."""
    generator = torch.Generator().manual_seed(len(name))
    parts = []
    for count, valid in SAMPLES[name]:
        order = torch.randperm(count, generator=generator)
        student, teacher = torch.randn(2, count, 6, dtype=torch.float64, generator=generator)
        mask = order < valid
        parts.append(
            {
                "student": student.masked_fill(~mask[:, None], float("nan")),
                "teacher": teacher + 2,
                "mask": mask,
            }
        )
    return parts


def on_samples(rank: int) -> dict[str, Any]:
    """Losses and gradients of the functions themselves."""

    def by_torch(tensor: Tensor) -> Tensor:
        return differentiable.all_reduce(tensor.clone())

    found: dict[str, Any] = {}
    for name in SAMPLES:
        part = samples(name)[rank]

        def run(loss: Any, part: dict[str, Tensor] = part) -> tuple[Tensor, Tensor]:
            student = part["student"].clone().requires_grad_()
            value = loss(student, part["teacher"], part["mask"])
            value.backward()
            return value.detach(), student.grad

        found[name] = {
            "samples": part,
            "corr": run(lambda s, t, m: correlation_loss(s, t, mask=m, reduce=sum_over_ranks)),
            "corr by torch": run(lambda s, t, m: correlation_loss(s, t, mask=m, reduce=by_torch)),
            "mi": run(gathered_mi),
        }
    half = torch.full((2, 3), float(rank), dtype=torch.bfloat16)
    return {"losses": found, "bf16": gather_samples(half, torch.tensor([True, False]), 2)}


def gathered_mi(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    teacher, _ = gather_samples(teacher, mask, ROWS)
    student, mask = gather_samples(student, mask, ROWS)
    return mutual_information_loss(student, teacher, mask=mask)


class Keep(TrainerCallback):
    """The gradients of the first step."""

    def on_pre_optimizer_step(self, args, state, control, model, **kwargs):
        if state.global_step == 0:
            self.gradients = {n: whole(p.grad) for n, p in model.named_parameters()}


def whole(tensor: Tensor | None) -> Tensor | None:
    """A copy, put together where it is in shards."""
    if tensor is not None and hasattr(tensor, "full_tensor"):
        tensor = tensor.full_tensor()
    return None if tensor is None else tensor.detach().clone()


class TellToStop(TrainerCallback):
    """The last process is told to stop in a step after which no tenth step comes."""

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step + 1 == 12 and dist.get_rank() == world_size() - 1:
            os.kill(os.getpid(), signal.SIGTERM)


def stopped(folder: Path) -> dict[str, Any]:
    """A run of 15 steps of which one process is told to stop in step 12."""
    trainer = make_trainer(folder, output_dir=str(folder / "stopped"), max_steps=15)
    trainer.add_callback(TellToStop())
    try:
        trainer.train()
    except TrainingInterrupted as stop:
        return {"signal": stop.signum, "checkpoint": stop.checkpoint}
    return {}


def several(texts: int) -> Any:
    """A collator of rows that hold several texts each, as those of rankers. One is the other, backwards."""

    def collate(rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        kinds = [rows, [row | {"input_ids": row["input_ids"][::-1]} for row in rows]]
        return tiny.pad([row for kind in kinds[:texts] for row in kind])

    return collate


def make_trainer(
    folder: Path,
    *,
    texts: int = 1,
    narrow: bool = False,
    double: bool = False,
    pooled: bool = False,
    stream: bool = False,
    **kwargs: Any,
) -> ITRDTrainer:
    defaults = {
        "output_dir": str(folder / "run"),
        "per_device_train_batch_size": BATCH // world_size(),
        "per_device_eval_batch_size": 2,
        "max_steps": 1,
        "learning_rate": 1e-2,
        "lr_scheduler_type": "constant",
        "optim": "sgd",  # Adam makes steps out of the rounding errors of gradients that are zero
        "max_grad_norm": 0.0,
        "train_sampling_strategy": "sequential",
        "save_strategy": "no",
        "logging_steps": 1,
        "report_to": "none",
        "disable_tqdm": True,
        "mi_max_samples": 512,  # more than the batch has, so that every token is taken
        "mi_gather": True,
    }
    student = tiny.tiny_bert(2, seed=1, hidden_size=16 if narrow else 32)
    if pooled:  # as heads that are loaded with the layer of another head
        student.bert.pooler = BertPooler(student.config)
    rows: Any = datasets.Dataset.from_list(tiny.span_rows(96))
    if stream:
        rows = rows.select(range(2 * BATCH)).to_iterable_dataset()
    trainer = ITRDTrainer(
        model=student,
        teacher=tiny.tiny_bert(4, seed=0),
        args=ITRDTrainingArguments(**(defaults | kwargs)),
        train_dataset=rows,
        eval_dataset=datasets.Dataset.from_list(tiny.span_rows(11, seed=3)),
        data_collator=several(texts),
    )
    if double:
        trainer.model.double()
        trainer.teacher.double()
    return trainer


def train(folder: Path, save: Path | None = None, **kwargs: Any) -> dict[str, Any]:
    trainer = make_trainer(folder, **kwargs)
    keep = Keep()
    trainer.add_callback(keep)
    trainer.train()
    if save is not None:
        trainer.save_model(str(save))
    return {
        "logs": trainer.state.log_history[:-1],
        "gradients": keep.gradients,
        "weights": {n: whole(p) for n, p in trainer.model.named_parameters()},
        "wrapper": type(trainer.model_wrapped).__name__,
        "student's size": size(trainer.student),
        "shards": sum(type(m).__name__.startswith("FSDP") for m in trainer.model.modules()),
        "find_unused": getattr(trainer.model_wrapped, "find_unused_parameters", None),
    }


@contextmanager
def exchanged() -> Iterator[dict[str, list[int]]]:
    """Bytes that this process gives into every collective of the losses."""
    record: dict[str, list[int]] = {"all_reduce": [], "all_gather": []}
    originals = {name: getattr(dist, name) for name in record}

    def all_reduce(tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
        if "op" not in kwargs:  # sums; the watch on the loss terms takes a minimum, once a log
            record["all_reduce"].append(tensor.nbytes)
        return originals["all_reduce"](tensor, *args, **kwargs)

    def all_gather(tensors: list[Tensor], tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
        record["all_gather"].append(tensor.nbytes)
        return originals["all_gather"](tensors, tensor, *args, **kwargs)

    dist.all_reduce, dist.all_gather = all_reduce, all_gather
    try:
        yield record
    finally:
        for name, original in originals.items():
            setattr(dist, name, original)


def evaluated(folder: Path) -> dict[str, Any]:
    """Predictions on 11 rows, and a run that stops early by a metric of them."""
    trainer = make_trainer(
        folder,
        max_steps=20,
        learning_rate=0.5,
        eval_strategy="steps",
        eval_steps=1,
        metric_for_best_model="eval_start",
        greater_is_better=True,
    )
    predictions = trainer.predict(trainer.eval_dataset).predictions
    trainer.compute_metrics = lambda outputs: {"start": float(np.mean(outputs.predictions[0]))}
    trainer.add_callback(EarlyStoppingCallback(early_stopping_patience=2))
    trainer.train()
    state = trainer.state
    return {"predictions": predictions, "stopped": (state.global_step, state.best_metric)}


def sharded(folder: Path) -> dict[str, Any]:
    """A run under FSDP2, and the student it saves as transformers loads it.

    accelerate has FSDP for accelerators alone and would run DDP here without a word: it is told that the CPU is one.
    """
    config = str(ROOT / "configs" / "accelerate" / "fsdp2.yaml")
    command = ["--config_file", config, "--mixed_precision", "no", __file__]
    args, *_ = _validate_launch_command(launch_command_parser().parse_args(command))
    names = ("FSDP_", "ACCELERATE_USE_FSDP")
    os.environ |= {k: v for k, v in prepare_multi_gpu_env(args).items() if k.startswith(names)}
    os.environ["ACCELERATE_TORCH_DEVICE"] = "cpu"
    PartialState._prepare_backend = lambda *_, **__: ("gloo", DistributedType.MULTI_GPU)
    saved = folder / "sharded"
    before = judged(folder)
    found = train(folder, save=saved)
    dist.barrier()
    loaded = AutoModelForQuestionAnswering.from_pretrained(saved)
    found |= {"saved": loaded.state_dict(), "files": sorted(p.name for p in saved.iterdir())}
    return found | {"size of the saved": size(loaded), "judged": before}


def judged(folder: Path) -> float:
    """The loss of a teacher, which answers and does not train."""
    rows = datasets.Dataset.from_list(tiny.span_rows(8, seed=3))
    args = FineTuningArguments(
        str(folder / "judged"),
        per_device_eval_batch_size=8 // world_size(),
        report_to="none",
        disable_tqdm=True,
    )
    teacher = tiny.tiny_bert(4, seed=0)
    trainer = answering_trainer(teacher, args, data_collator=tiny.pad)
    return float(trainer.evaluate(rows)["eval_loss"])


def fine_tuned(folder: Path) -> dict[str, float]:
    """The loss of a step and of an evaluation of a token classifier, which has its own loss, and the gradient's norm.

    The rows have unlike numbers of labels.
    """
    torch.manual_seed(0)
    model = AutoModelForTokenClassification.from_config(tiny.tiny_config(1))
    rows = [
        {
            "input_ids": [1, 2, 3, 4 + i],
            "attention_mask": [1] * 4,
            "labels": [-100, *(j % 2 if j <= i % 3 else -100 for j in range(3))],
        }
        for i in range(BATCH)
    ]
    args = FineTuningArguments(
        str(folder / "fine_tuned"),
        per_device_train_batch_size=BATCH // world_size(),
        per_device_eval_batch_size=BATCH // world_size(),
        max_steps=1,
        logging_steps=1,
        optim="sgd",
        max_grad_norm=1e9,
        save_strategy="no",
        disable_tqdm=True,
        use_cpu=True,
    )
    data = datasets.Dataset.from_list(rows)
    trainer = BaseTrainer(model=model, args=args, train_dataset=data, eval_dataset=data)
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    log = next(row for row in trainer.state.log_history if "grad_norm" in row)
    return {"eval_loss": before, "loss": log["loss"], "grad_norm": log["grad_norm"]}


def unlogged(folder: Path) -> float:
    """The mean loss of three steps of a span head without a teacher. The log of none of them has the losses before."""
    args = FineTuningArguments(
        str(folder / "unlogged"),
        per_device_train_batch_size=8 // world_size(),
        max_steps=3,
        logging_steps=100,
        train_sampling_strategy="sequential",
        save_strategy="no",
        disable_tqdm=True,
        use_cpu=True,
    )
    rows = datasets.Dataset.from_list(
        [
            {"input_ids": [1, 2, 3, 4 + i], "attention_mask": [1] * 4}
            | {"start_positions": i % 3, "end_positions": i % 4}
            for i in range(24)  # of one length: a head of transformers predicts padding, too
        ]
    )
    trainer = BaseTrainer(model=tiny.tiny_bert(1, seed=0), args=args, train_dataset=rows)
    return float(trainer.train().training_loss)


def main(folder: Path) -> None:
    make_trainer(folder)  # which starts the process group
    rank, processes = (dist.get_rank(), world_size()) if world_size() > 1 else (0, 1)
    found: dict[str, Any] = {
        "one step": {name: train(folder, **kwargs) for name, kwargs in ONE_STEP.items()},
        "exact": {name: train(folder, double=True, **kwargs) for name, kwargs in EXACT.items()},
        "20 steps": train(folder, max_steps=20, max_grad_norm=1.0, narrow=True),
        "an unused layer": train(folder, max_steps=3, pooled=True),
        "ways": {n: train(folder, **({"max_steps": 2} | way)) for n, way in WAYS.items()},
        "evaluated": evaluated(folder),
        "fine-tuned": fine_tuned(folder),
        "unlogged": unlogged(folder),
        "judged": judged(folder),
    }
    if processes > 1:
        with exchanged() as found["exchanged"]:
            train(folder, ddp_find_unused_parameters=False)  # without the step that finds out
        found["on samples"] = on_samples(rank)
    if processes == 2:
        found["stopped"] = stopped(folder)
        found["sharded"] = sharded(folder)
    torch.save(found, folder / f"{processes}.{rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
