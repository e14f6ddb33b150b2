"""The commands that come after a training, with the options that make them read data as the training did."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from itrd_nlp.tasks.task import Task
from itrd_nlp.training.roles import default_of


def next_commands(task: Task, model: str) -> dict[str, str]:
    """The commands that judge and ask a model.

    Args:
        task: the task that it was trained on, with the options of its data.
        model: its folder.

    Returns:
        ``Evaluate`` and, where such a model answers something, ``Predict``, each with its command. FILE stands for a
        file of data, and a name such as TEACHER for another value that nobody has given yet.
    """
    start = f"--model {shlex.quote(model)}"
    asked = {f.name for f in fields(task.answer_arguments)}
    options = _options(task, task.reading)
    found = {"Evaluate": f"itrd-nlp evaluate {start} --validation_file FILE{options}"}
    if asked:
        shared = _options(task, [name for name in task.reading if name in asked])
        found["Predict"] = f"itrd-nlp predict {start} --input FILE{shared}"
    return found


def _options(task: Task, names: Iterable[str]) -> str:
    """Those of the options whose values are not their defaults, as words of a command line."""
    known = {f.name: f for f in fields(task.args)}
    words = []
    for name in names:
        value, placeholder = getattr(task.args, name), task.reading[name]
        if value is None and placeholder is not None:
            value = placeholder
        elif value == default_of(known[name]):
            continue
        words += [f"--{name}", *map(_word, value if isinstance(value, list | tuple) else [value])]
    return "".join(f" {word}" for word in words)


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else shlex.quote(str(value))
