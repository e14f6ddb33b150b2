"""The role of an argument, said once in the metadata of its field.

    temperature: float = field(default=2.0, metadata=Metadata(help="...", role=Role.OBJECTIVE))

From the role follows all that is not the training itself: which arguments the model card prints, which a checkpoint
must have in common with the run that resumes it, which a comparison lets a method choose, which make a run another run,
and which are never written down.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import MISSING, Field, fields
from enum import Enum
from typing import Any

from transformers import TrainingArguments

from itrd_nlp.training.secrets import is_secret_name


class Role(Enum):
    """What an argument is for."""

    EXPERIMENT = "experiment"
    """It changes the model that comes out. The role of every argument that names none."""
    OBJECTIVE = "objective"
    """The same, and it says what is learned: a method of a comparison may choose it, and the card prints it."""
    CACHE = "cache"
    """How outputs of the teacher are kept. The model that comes out is the same."""
    LAUNCH = "launch"
    """How the run is started, resumed and watched."""
    PUBLISHING = "publishing"
    """Where the model goes."""
    SECRET = "secret"
    """A token or password. It is written nowhere."""


class Metadata(dict[str, Any]):
    """The metadata of a field that says more than a parser of command lines takes.

    `transformers.HfArgumentParser` hands all names in the metadata to argparse, which refuses those that it does not
    know. So `keys` lists the names of argparse alone; ``metadata["role"]`` and ``metadata.get("role")`` work.
    """

    def keys(self) -> Any:
        return {name: None for name in self if name not in ("role", "range")}.keys()


# transformers declares these fields, so that their metadata cannot say it.
_OF_TRANSFORMERS = {
    **dict.fromkeys(
        (
            "resume_from_checkpoint",
            "disable_tqdm",
            "logging_dir",
            "report_to",
            "run_name",
            "project",
        ),
        Role.LAUNCH,
    ),
    **{
        f.name: Role.PUBLISHING
        for f in fields(TrainingArguments)
        if "hub" in f.name or "trackio" in f.name
    },
}


def role_of(argument: Field[Any]) -> Role:
    """The role of a dataclass field."""
    if is_secret_name(argument.name):
        return Role.SECRET
    role = argument.metadata.get("role", _OF_TRANSFORMERS.get(argument.name, Role.EXPERIMENT))
    assert isinstance(role, Role)
    return role


def names_of(group: type, *roles: Role) -> frozenset[str]:
    """The arguments of a dataclass that have one of these roles."""
    return frozenset(f.name for f in fields(group) if f.init and role_of(f) in roles)


def is_experiment(argument: Field[Any]) -> bool:
    """Whether another value makes a run another experiment."""
    return role_of(argument) in (Role.EXPERIMENT, Role.OBJECTIVE)


def default_of(argument: Field[Any]) -> Any:
    """The default of a dataclass field, `dataclasses.MISSING` where it has none."""
    return argument.default if argument.default_factory is MISSING else argument.default_factory()


def chosen_arguments(groups: Iterable[Any]) -> dict[str, Any]:
    """Every argument of the experiment that is not its default, as JSON stores it.

    Args:
        groups: instances of dataclasses.
    """
    chosen = {
        f.name: getattr(group, f.name)
        for group in groups
        for f in fields(group)
        if f.init and is_experiment(f) and getattr(group, f.name) != default_of(f)
    }
    stored: dict[str, Any] = json.loads(json.dumps(chosen, default=str))
    return stored
