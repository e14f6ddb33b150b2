"""A timed training of random models, which the benchmarks of training steps share."""

from __future__ import annotations

import resource
import tempfile
import time
from dataclasses import dataclass, field
from typing import Any

import torch
from datasets import Dataset
from transformers import BertConfig, BertForQuestionAnswering, TrainerCallback

from itrd_nlp.distillation.arguments import ITRDTrainingArguments
from itrd_nlp.distillation.trainer import ITRDTrainer
from itrd_nlp.models.fast_attention import FAST
from itrd_nlp.models.students import build_student
from itrd_nlp.tasks.question_answering import QuestionAnsweringCollator
from itrd_nlp.training.arguments import FineTuningArguments

# Layers, width, heads, width between.
SHAPES = {
    "tiny": (4, 128, 4, 512),
    "minilm": (6, 384, 12, 1536),
    "bert": (12, 768, 12, 3072),
}


@dataclass
class Clock(TrainerCallback):
    """When the training began, and when each step did and ended, its work on a GPU included."""

    train_began: float = 0.0
    began: list[float] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.train_began = time.perf_counter()

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.began.append(time.perf_counter())

    def on_step_end(self, *_: Any, **__: Any) -> None:
        wait_for_gpu()
        self.ended.append(time.perf_counter())

    def steps(self) -> list[float]:
        """Seconds of every step, without the time in which its batch was fetched."""
        return [ended - began for began, ended in zip(self.began, self.ended, strict=True)]


def random_models(
    shape: str, student_layers: int, dropout: float = 0.0, attention: str = FAST
) -> tuple[Any, Any]:
    """Teacher and student of random weights; the student's layers are the teacher's."""
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
    **arguments: Any,
) -> Clock:
    """Distil a new student of random weights over some windows, in bf16 where the machine has it.

    Args:
        shape: of the teacher, one of `SHAPES`.
        student_layers: of the student.
        rows: windows with answers.
        collator: pads them.
        dropout: of teacher and student, of which the teacher makes no use.
        attention: implementation in both.
        **arguments: of `ITRDTrainingArguments`.
    """
    teacher, student = random_models(shape, student_layers, dropout, attention)
    clock = Clock()
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
            callbacks=[clock],
        ).train()
    return clock


def device() -> torch.device:
    """What trainings run on."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def wait_for_gpu() -> None:
    """Until all is done that was asked of it, where there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def training_dtype() -> torch.dtype:
    """What a training with ``bf16: true`` multiplies matrices in: fp32 on a CPU without instructions for bf16."""
    kept = FineTuningArguments(output_dir="unused", bf16=True, report_to="none").bf16
    return torch.bfloat16 if kept else torch.float32


def training_precision() -> str:
    """The same by name, under which `results.json` keeps what was measured; `cuda` on a GPU."""
    if torch.cuda.is_available():
        return "cuda"
    return str(training_dtype()).removeprefix("torch.")


def peak_megabytes() -> float:
    """The most memory that this process had, or that it had on its GPU."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
