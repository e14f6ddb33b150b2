"""The arguments of a comparison."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from itrd_nlp.compare.tables import COLUMNS, TEACHER
from itrd_nlp.distillation.options import TEACHER_CACHES
from itrd_nlp.errors import UserError
from itrd_nlp.training.ranges import COUNT, COUNT_FROM_0, SEED, Range, check_values
from itrd_nlp.training.roles import Metadata, given_names


@dataclass
class SubmitArguments:
    """A cluster. Without `--submit` the trainings are processes of this machine."""

    submit: str | None = field(
        default=None,
        metadata={
            "help": "Let submitit run each training as a job: of SLURM, or, to try it out, of this machine.",
            "choices": ["slurm", "local"],
        },
    )
    slurm_partition: str | None = field(
        default=None, metadata={"help": "Partition of the jobs. Default: that of the cluster."}
    )
    slurm_hours: float = field(
        default=12.0,
        metadata=Metadata(
            help="Hours that a job may take. A training that needs longer saves a checkpoint and is queued again.",
            range=Range(above=0),
        ),
    )
    slurm_cpus: int = field(default=4, metadata=Metadata(help="CPU cores of a job.", range=COUNT))
    slurm_gpus: int = field(default=0, metadata=Metadata(help="GPUs of a job.", range=COUNT_FROM_0))
    slurm_options: dict[str, Any] = field(
        default_factory=dict,
        metadata={
            "help": "Further options of sbatch, such as {account: me}. In the YAML file only."
        },
    )

    def __post_init__(self) -> None:
        check_values(self)
        given = given_names(self)
        if self.submit is None and given:
            raise UserError(
                f"{given[0]} is given, but submit is not, so that nothing is submitted; add submit: slurm, or leave it "
                "out."
            )


@dataclass
class CompareArguments:
    """Methods, students and seeds, and their common budget. Mappings can be given in the YAML file only."""

    base: str = field(
        metadata={"help": "Config of `itrd-nlp distil` that all share: the common budget."}
    )
    methods: dict[str, dict[str, Any]] = field(
        metadata={"help": "Name of a method to its arguments of the objective."}
    )
    output_dir: str = field(
        metadata={"help": "Folder of the trainings, results.jsonl, tables and figures."}
    )
    task: str = field(
        default="question-answering",
        metadata={"help": "Name of the task. The base is a config of `itrd-nlp distil` for it."},
    )
    textbrewer: dict[str, dict[str, Any]] = field(
        default_factory=dict,
        metadata={
            "help": "Name of a method to its arguments of `itrd-nlp train-textbrewer`: TextBrewer's own distiller."
        },
    )
    students: dict[str, dict[str, Any]] = field(
        default_factory=lambda: {"student": {}},
        metadata={
            "help": "Name of a student to arguments that hold for all methods, such as num_layers."
        },
    )
    seeds: list[int] = field(
        default_factory=lambda: [0, 1, 2],
        metadata=Metadata(help="Seeds. Each method is trained with each of them.", range=SEED),
    )
    search: dict[str, list[dict[str, Any]]] = field(
        default_factory=dict,
        metadata={
            "help": "Name of a method to the arguments to try, equally many for each method. The best F1 on questions "
            "held out of train is taken. A try may set learning_rate, too. An empty list: the method has nothing to "
            "choose."
        },
    )
    holdout_questions: int = field(
        default=2000,
        metadata=Metadata(
            help="Questions of train that are set aside where there is a search.", range=COUNT
        ),
    )
    reference: str = field(
        default="kd", metadata={"help": "Method that the others are compared with."}
    )
    table: list[str] = field(
        default_factory=list,
        metadata={
            "help": f"Columns of the tables: {', '.join(COLUMNS)}, and the metrics. Default: all."
        },
    )
    cost_steps: int = field(
        default=0,
        metadata=Metadata(
            help="Steps of a short training of each method, with no other beside it. It measures the seconds that a "
            "step takes with its teacher. 0: nothing is measured.",
            range=COUNT_FROM_0,
        ),
    )
    teacher_cache: str = field(
        default="on",
        metadata={
            "help": "Cache of the teacher's outputs, as in `itrd-nlp distil`. All trainings share one folder: "
            "that of base, else one in output_dir.",
            "choices": list(TEACHER_CACHES),
        },
    )
    jobs: int = field(
        default=1,
        metadata=Metadata(
            help="Number of trainings at the same time. They share the cores.", range=COUNT
        ),
    )
    tables_only: bool = field(
        default=False,
        metadata={
            "help": "Make tables and figures of results.jsonl and scores.npz, and train nothing."
        },
    )

    def __post_init__(self) -> None:
        check_values(self)
        if not self.methods or not self.students or not self.seeds:
            empty = next(n for n in ("methods", "students", "seeds") if not getattr(self, n))
            raise UserError(f"{empty} is empty, but must name at least one.")
        if len(set(self.seeds)) < len(self.seeds):
            raise UserError(f"seeds are {self.seeds}, but each may be there once only.")
        twice = self.methods.keys() & self.textbrewer.keys()
        if twice:
            raise UserError(
                f"{min(twice)!r} is in methods and in textbrewer, but must be in one of them."
            )
        if TEACHER in self.all_methods:
            raise UserError(
                f"{TEACHER!r} names a method, but the tables give that name to the row of the teacher; choose another."
            )
        for name in (*self.methods, *self.textbrewer, *self.students):
            if not re.fullmatch(r"\w[\w.+-]*", name):
                raise UserError(
                    f"{name!r} names a method or a student, but a name has letters, digits and _ . + - only."
                )
        if self.reference not in self.methods:
            raise UserError(
                f"reference is {self.reference!r}, but must be one of the methods {', '.join(self.methods)}."
            )
        if self.search and self.search.keys() != self.all_methods.keys():
            name = min(self.search.keys() ^ self.all_methods.keys())
            raise UserError(
                f"search and methods differ in {name!r}, but a search has a list of tries for every method; "
                "an empty one for a method that has nothing to choose."
            )
        counts = {name: len(tries) for name, tries in self.search.items() if tries}
        if len(set(counts.values())) > 1:
            raise UserError(
                f"search has {', '.join(f'{n} tries for {name}' for name, n in counts.items())}, but must have "
                "equally many for each method."
            )

    @property
    def all_methods(self) -> dict[str, dict[str, Any]]:
        """Those of this package, then those of TextBrewer."""
        return self.methods | self.textbrewer
