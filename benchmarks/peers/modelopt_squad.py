"""A distillation step on SQuAD with NVIDIA ModelOpt's `modelopt.torch.distill`, layer by layer and on the logits.

`mtd.convert` wraps the student, runs the teacher in its forward pass, catches the outputs of the named layers with
hooks, and adds their losses, as the guide of ModelOpt 0.47 shows it. Its own trainer for transformers knows only the
logits, so `transformers.Trainer` trains the wrapped student. Batches, precision, optimizer, dropout and the teacher's
dtype are those of this package.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
import warnings
from typing import Any

from datasets import Dataset
from torch import Tensor, nn
from transformers import PreTrainedModel, Trainer, TrainingArguments

from benchmarks.training import Clock, device
from itrd_nlp.tasks.question_answering import QuestionAnsweringCollator


def train(
    teacher: PreTrainedModel,
    student: PreTrainedModel,
    rows: Dataset,
    collator: QuestionAnsweringCollator,
    *,
    bf16: bool,
    warm_up: int = 0,
    **arguments: Any,
) -> Clock:
    """Distil the student on some windows.

    Args:
        teacher: the teacher, a BERT with a span head.
        student: the student, a shallower BERT with a span head.
        rows: windows with answers.
        collator: pads the windows.
        bf16: train under bf16 autocast, with the teacher's weights in bf16.
        warm_up: see `Clock`. ModelOpt keeps a model that it has wrapped, so one training has both kinds of steps.
        **arguments: arguments of `TrainingArguments`.

    Returns:
        The times of the training.
    """
    clock = Clock(wait_each_step=False, warm_up=warm_up)
    if bf16:
        teacher.bfloat16()
    with tempfile.TemporaryDirectory() as folder, _quietly():
        _trainer_class()(
            model=_wrapped(student, teacher),
            args=TrainingArguments(
                output_dir=folder,
                bf16=bf16,
                use_cpu=device().type == "cpu",
                save_strategy="no",
                logging_strategy="no",
                report_to="none",
                disable_tqdm=True,
                **arguments,
            ),
            train_dataset=rows,
            data_collator=collator,
            callbacks=[clock],
        ).train()
    return clock


@contextlib.contextmanager
def _quietly() -> Any:
    """Keep ModelOpt's notes on versions and weights out of the figures."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def _wrapped(student: PreTrainedModel, teacher: PreTrainedModel) -> nn.Module:
    """Wrap the student with the mean squared error of mapped layers, the KL of the logits, and the task loss."""
    from modelopt.torch import distill

    class SpanLoss(nn.modules.loss._Loss):  # ModelOpt takes no other class
        """The KL of start and end, by ModelOpt's own loss of logits."""

        def __init__(self) -> None:
            super().__init__()
            self.loss = distill.LogitsDistillationLoss(temperature=2.0, reduction="batchmean")

        def forward(self, student: Any, teacher: Any) -> Tensor:
            start = self.loss(student.start_logits, teacher.start_logits)
            end: Tensor = self.loss(student.end_logits, teacher.end_logits)
            return (start + end) / 2

    layers = student.config.num_hidden_layers
    step = teacher.config.num_hidden_layers // layers
    criterion: dict[tuple[str, str], nn.Module] = {
        (f"bert.encoder.layer.{i}", f"bert.encoder.layer.{step * (i + 1) - 1}"): nn.MSELoss()
        for i in range(layers)
    }
    criterion["", ""] = SpanLoss()
    weight = 1 / (len(criterion) + 1)
    config = {
        "teacher_model": teacher,
        "criterion": criterion,
        "loss_balancer": distill.StaticLossBalancer([weight] * len(criterion)),
    }
    wrapped: nn.Module = distill.convert(student, mode=[("kd_loss", config)])
    return wrapped


def _trainer_class() -> type[Trainer]:
    class DistillingTrainer(Trainer):
        """A trainer whose loss is the one of ModelOpt's wrapper."""

        def compute_loss(
            self, model: nn.Module, inputs: dict[str, Tensor], *args: Any, **kwargs: Any
        ) -> Any:
            wrapper: Any = model
            output = model(**inputs)
            return wrapper.compute_kd_loss(student_loss=output.loss)

    return DistillingTrainer
