"""Arguments of the jobs that say which models they work with."""

from __future__ import annotations

from dataclasses import dataclass, field

from itrd_nlp.training.ranges import Range
from itrd_nlp.training.roles import Metadata

_DROPOUT = Range(least=0, most=1)


@dataclass
class TeacherArguments:
    """The encoder to fine-tune."""

    model_name_or_path: str = field(metadata={"help": "Folder or model id of the encoder."})
    dropout: float | None = field(
        default=None,
        metadata=Metadata(
            help="Dropout of hidden states and attention. Default: that of the configuration.",
            range=_DROPOUT,
        ),
    )


@dataclass
class StudentArguments:
    """Teacher and student."""

    teacher: str = field(metadata={"help": "Folder or model id of the fine-tuned teacher."})
    student: str | None = field(
        default=None,
        metadata={
            "help": "Folder or model id to start the student from, in place of layers of the teacher."
        },
    )
    more_teachers: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Further teachers: logit KD learns from the mean of all predictions. Hidden states are those of "
            "teacher."
        },
    )
    num_layers: int = field(
        default=3,
        metadata=Metadata(
            help="Layers of the student, where it is made from the teacher.",
            range=Range(least=1, whole=True),
        ),
    )
    student_init: list[str] = field(
        default_factory=lambda: ["first"],
        metadata={
            "help": "Teacher layers that the student starts from: first, uniform (3 of 12: 4 8 12), last, random "
            "(fresh weights), or the layers themselves."
        },
    )
    dropout: float | None = field(
        default=None,
        metadata=Metadata(
            help="Dropout of the student. Default: that of the configuration.", range=_DROPOUT
        ),
    )
