"""The commands that a comparison on a task trains with."""

from __future__ import annotations

from itrd_nlp.cli.jobs import TaskArguments, distillation_groups
from itrd_nlp.cli.local_paths import check_local_paths
from itrd_nlp.cli.parser import parse
from itrd_nlp.compare.setting import Setting, Training
from itrd_nlp.distillation.arguments import ITRDTrainingArguments
from itrd_nlp.distillation.textbrewer_trainer import TextBrewerArguments
from itrd_nlp.tasks import DEFAULT_TASK, task_named


def setting_of(name: str) -> Setting:
    """The setting of a comparison on a task.

    Raises:
        UserError: there is no such task.
    """
    task = task_named(name)
    ours = tuple(distillation_groups(task, ITRDTrainingArguments))
    if name != DEFAULT_TASK:
        itrd = Training("distil", (TaskArguments, *ours), options=("--task", name))
        return Setting(task, itrd, None, parse, check_local_paths)
    theirs = tuple(distillation_groups(task, TextBrewerArguments))
    itrd, textbrewer = Training("train-squad", ours), Training("train-textbrewer", theirs)
    return Setting(task, itrd, textbrewer, parse, check_local_paths)
