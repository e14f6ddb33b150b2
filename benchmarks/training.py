"""A timed training of random models, shared by the benchmarks of training steps."""

from __future__ import annotations

import gc
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from datasets import Dataset
from transformers import BertConfig, BertForQuestionAnswering, TrainerCallback, TrainerState

from itrd_nlp.distillation.arguments import ITRDTrainingArguments
from itrd_nlp.distillation.trainer import ITRDTrainer
from itrd_nlp.models.fast_attention import FAST
from itrd_nlp.models.students import build_student
from itrd_nlp.tasks.question_answering import QuestionAnsweringCollator
from itrd_nlp.training.arguments import FineTuningArguments

# Layers, width, heads, and width between the two linear layers of a feed-forward block.
SHAPES = {
    "tiny": (4, 128, 4, 512),
    "minilm": (6, 384, 12, 1536),
    "bert": (12, 768, 12, 3072),
}


@dataclass
class Clock(TrainerCallback):
    """A callback that records when the training and its steps began and when each step ended.

    Attributes:
        wait_each_step: wait for a GPU at the end of each step. Without that, only the beginning of the training and the
            end of its last step are times of the GPU, and the GPU works as it does in a training.
        warm_up: wait for a GPU after this step, too, and count its peak memory from there. Default: 0, no step.
    """

    wait_each_step: bool = True
    warm_up: int = 0
    train_began: float = 0.0
    began: list[float] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        wait_for_gpu()
        self.train_began = time.perf_counter()

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.began.append(time.perf_counter())

    def on_step_end(self, _args: Any, state: TrainerState, *_: Any, **__: Any) -> None:
        if self.wait_each_step or state.global_step in (self.warm_up, state.max_steps):
            wait_for_gpu()
        if state.global_step == self.warm_up:
            forget_warm_up()
        self.ended.append(time.perf_counter())

    def steps(self) -> list[float]:
        """Return the seconds of every step, without the time for fetching its batch."""
        return [ended - began for began, ended in zip(self.began, self.ended, strict=True)]


@dataclass
class Around(TrainerCallback):
    """A callback that calls a function where the first step begins, and one where the last step has ended.

    What a trainer does before, such as moving its models, is no part of a step.
    """

    begin: Callable[[], object]
    end: Callable[[], object]

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.begin()

    def on_train_end(self, *_: Any, **__: Any) -> None:
        self.end()


def random_models(
    shape: str, student_layers: int, dropout: float = 0.0, attention: str = FAST
) -> tuple[Any, Any]:
    """Make a teacher of random weights, and a student from its first layers."""
    layers, width, heads, intermediate = SHAPES[shape]
    config = BertConfig(
        num_hidden_layers=layers,
        hidden_size=width,
        num_attention_heads=heads,
        intermediate_size=intermediate,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        attn_implementation=attention,
    )
    torch.manual_seed(0)
    teacher = BertForQuestionAnswering(config)
    return teacher, build_student(teacher, student_layers)


def train(
    shape: str,
    student_layers: int,
    rows: Dataset,
    collator: QuestionAnsweringCollator,
    *,
    dropout: float = 0.0,
    attention: str = FAST,
    callbacks: Sequence[TrainerCallback] = (),
    wait_each_step: bool = True,
    **arguments: Any,
) -> Clock:
    """Distil a new student of random weights on some windows, in bf16 if the machine supports it.

    Args:
        shape: size of the teacher, a key of `SHAPES`.
        student_layers: number of layers of the student.
        rows: windows with answers.
        collator: collator that pads the windows.
        dropout: dropout of the student. Default: 0.
        attention: attention implementation of both models. Default: ``fast``.
        callbacks: further callbacks of the training. Default: none.
        wait_each_step: see `Clock`. Default: true.
        **arguments: arguments of `ITRDTrainingArguments`.

    Returns:
        The times of the training.
    """
    teacher, student = random_models(shape, student_layers, dropout, attention)
    clock = Clock(wait_each_step=wait_each_step)
    with tempfile.TemporaryDirectory() as folder:
        ITRDTrainer(
            model=student,
            teacher=teacher,
            args=ITRDTrainingArguments(
                output_dir=folder,
                bf16=True,
                save_strategy="no",
                logging_strategy="no",
                report_to="none",
                disable_tqdm=True,
                **arguments,
            ),
            train_dataset=rows,
            data_collator=collator,
            callbacks=[clock, *callbacks],
        ).train()
    return clock


def device() -> torch.device:
    """Return the device on which trainings run."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def wait_for_gpu() -> None:
    """Wait until a GPU, if there is one, has finished its work."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def training_dtype() -> torch.dtype:
    """Return the dtype of matrix products with ``bf16: true``: fp32 on a CPU without instructions for bf16."""
    kept = FineTuningArguments(output_dir="unused", bf16=True, report_to="none").bf16
    return torch.bfloat16 if kept else torch.float32


def training_precision() -> str:
    """Return the name of the part of `results.json` for this machine: a dtype, or ``cuda:`` and the name of the GPU."""
    if torch.cuda.is_available():
        return f"cuda: {torch.cuda.get_device_name()}"
    return str(training_dtype()).removeprefix("torch.")


def forget_warm_up() -> None:
    """Free what a training to warm up has left behind, and count the peak memory of a GPU from here on.

    A trainer and its models hold each other, so that only the garbage collector frees them.
    """
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def peak_megabytes() -> float:
    """Return the peak memory in units of 1e6 bytes: of this process, or on a GPU since `forget_warm_up`."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
