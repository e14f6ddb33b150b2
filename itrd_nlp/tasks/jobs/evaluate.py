"""Judge a model."""

from __future__ import annotations

import contextlib
import copy
import tempfile
from collections.abc import Iterator
from typing import Any

import torch
from transformers import PreTrainedModel, Trainer

from itrd_nlp.models.anatomy import layers_of
from itrd_nlp.models.loading import load_model_and_tokenizer
from itrd_nlp.models.options import LoadingArguments, check_dtype
from itrd_nlp.models.placing import keeps_dtype
from itrd_nlp.tasks.answers import check_scores
from itrd_nlp.tasks.jobs.runs import check_lengths
from itrd_nlp.tasks.task import Answers, Task, TaskData
from itrd_nlp.training.arguments import FineTuningArguments
from itrd_nlp.training.record import VERSION, RunRecord, counted
from itrd_nlp.training.results import size
from itrd_nlp.training.trainer import BaseTrainer


def evaluate(
    task: Task,
    name: str,
    loading: LoadingArguments,
    *,
    batch_size: int = 64,
    bf16: bool = False,
    dtype: str = "float32",
) -> tuple[RunRecord, Answers]:
    """The scores of a model from a folder or the Hub.

    Args:
        task: with the examples.
        name: folder or model id.
        loading: how it is loaded.
        batch_size: features a process and step.
        bf16: run under bf16 autocast.
        dtype: of the weights, one of `DTYPES`; a teacher runs in bfloat16 weights in a bf16 training.

    Returns:
        The scores, and the answers.

    Raises:
        UserError: the model or the data cannot be used.
    """
    check_dtype(dtype)
    model, tokenizer = load_model_and_tokenizer(name, role="model", args=loading, head=task.head)
    if not keeps_dtype(model):
        model.to(getattr(torch, dtype))
    with tempfile.TemporaryDirectory() as scratch:  # a trainer makes its output folder at once
        args = FineTuningArguments(
            output_dir=scratch, per_device_eval_batch_size=batch_size, bf16=bf16, report_to="none"
        )
        with args.main_process_first(desc="tokenising"):
            data = task.load(tokenizer, model, training=False)
        check_lengths(model, data)
        record = judge(task, model, data, args)
    return record, data.judge.predictions


def judge(
    task: Task, model: PreTrainedModel, data: TaskData, args: FineTuningArguments
) -> RunRecord:
    """The scores of a model in memory, which is left as it was.

    Args:
        task: the task.
        model: with the task's head.
        data: the examples.
        args: batch size, precision and device.
    """
    arguments = data.trainer_kwargs() | {"train_dataset": None}
    args = copy.copy(args)
    args.push_to_hub = False  # a trainer would create the repository
    args.report_to = []  # a tracker would take these scores for those of the training
    trainer = answering_trainer(model, args, **arguments)
    record = evaluate_trainer(task, trainer, model, data)
    # accelerate has put an autocast with fp32 outputs around this model's forward, which would stay there: a teacher
    # would hand on hidden states of twice the size. (Its own unwrap_model strips the decorators of transformers, too.)
    for name in ("forward", "_original_forward"):
        vars(model).pop(name, None)
    return record


def answering_trainer(
    model: PreTrainedModel, args: FineTuningArguments, **arguments: Any
) -> BaseTrainer:
    """A trainer that answers and never trains. Each process holds the whole model, also under FSDP and DeepSpeed.

    Without an optimizer neither of the two takes a model.

    Args:
        model: the model.
        args: batch size, precision and device.
        arguments: those of the trainer that follow from the data.
    """
    with _answering(model):
        trainer = BaseTrainer(model=model, args=args, **arguments)
    trainer.is_fsdp_enabled = trainer.is_deepspeed_enabled = False
    trainer.network.to(args.device)
    return trainer


@contextlib.contextmanager
def _answering(model: PreTrainedModel) -> Iterator[None]:
    """Let a trainer take a quantised model, which it refuses because it could not train it. Here it answers alone."""
    quantised = vars(model).pop("is_quantized", None)
    try:
        yield
    finally:
        if quantised is not None:
            vars(model)["is_quantized"] = quantised


def evaluate_trainer(
    task: Task,
    trainer: Trainer,
    model: PreTrainedModel,
    data: TaskData,
    *,
    trained: bool = False,
) -> RunRecord:
    """Return the record of the scores of the model in a trainer.

    Args:
        task: the task.
        trainer: runs the model.
        model: the model.
        data: the examples.
        trained: whether the trainer has just trained the model, see `Task.calibrate`.

    Raises:
        UserError: the judge refuses the outputs of the model, or a score is no finite number.
    """
    uncalibrated = dict(vars(data.judge))
    settings = task.calibrate(
        data, model.config, lambda rows: trainer.predict(rows).predictions, trained=trained
    )
    changed = {n: old for n, old in uncalibrated.items() if vars(data.judge)[n] is not old}
    found = trainer.evaluate(data.evaluation)
    if not trained:
        # A student is judged alike, whether its teacher was judged before it or earlier.
        vars(data.judge).update(changed)
    metrics = task.metrics_of(data)
    scores = {name: found[f"eval_{name}"] for name in metrics}
    check_scores(scores)
    counts: dict[str, Any] = counted(task.page.unit, len(data.examples))
    return RunRecord(
        version=VERSION,
        task=task.name,
        metrics=dict(metrics),
        scores=scores,
        perplexity=found.get("eval_perplexity"),
        decoding=settings or None,
        **counts,
        eval_seconds=round(found["eval_runtime"], 1),
        signature=data.signature,
        data_digest=data.digest,
        layers=layers_of(model),
        **size(model),
    )
