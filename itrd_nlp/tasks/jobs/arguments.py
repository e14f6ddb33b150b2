"""Arguments of the jobs that say which models they work with."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class TeacherArguments:
    """The encoder to fine-tune."""

    model_name_or_path: str = field(metadata={"help": "Folder or model id of the encoder."})
    dropout: float | None = field(
        default=None,
        metadata={"help": "Dropout of hidden states and attention; default: the configuration's."},
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
        default=3, metadata={"help": "Layers of the student, where it is made from the teacher."}
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
        metadata={"help": "Dropout of the student; default: the configuration's."},
    )
