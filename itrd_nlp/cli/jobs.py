"""The commands that exist once for every task, and once more for a single one."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from huggingface_hub import constants

from itrd_nlp.cli.configs import find_config
from itrd_nlp.cli.local_paths import arguments_of, check_local_paths
from itrd_nlp.cli.parser import answer_help, parse
from itrd_nlp.cli.process import record
from itrd_nlp.distillation.options import (
    LayerOptions,
    LossWeights,
    SampleOptions,
    StudentOptions,
    TeacherOptions,
)
from itrd_nlp.errors import UserError
from itrd_nlp.files import write_json, writing
from itrd_nlp.models.options import DTYPES, LoadingArguments
from itrd_nlp.tasks import DEFAULT_TASK, TASKS, options_of, task_named, task_of
from itrd_nlp.tasks.jobs.arguments import StudentArguments, TeacherArguments
from itrd_nlp.tasks.trained import lengths_to_read, trained_lengths
from itrd_nlp.training.options import TrainingOptions
from itrd_nlp.training.output_paths import check_target_file
from itrd_nlp.training.ranges import BATCH
from itrd_nlp.training.record import RunRecord
from itrd_nlp.training.roles import Metadata, given_names
from itrd_nlp.training.yaml_files import read_config

if TYPE_CHECKING:
    from itrd_nlp.tasks.task import Task

OBJECTIVE = (LossWeights, LayerOptions, SampleOptions, StudentOptions, TeacherOptions)
"""The groups of `ITRDTrainingArguments` that transformers does not have."""
JUDGED_MODEL = (
    "Folder or model id. A model with a results.json reads texts of the length that it was trained with, unless "
    "max_length is given."
)
"""The help of the option of commands that judge a model, see `as_trained`."""


@dataclass
class TaskArguments:
    """The task."""

    task: str = field(
        default=DEFAULT_TASK,
        metadata={"help": "The task of data and head.", "choices": TASKS.keys()},
    )


@dataclass
class EvaluationArguments:
    """The model, or the answers, to judge."""

    model: str | None = field(default=None, metadata={"help": JUDGED_MODEL})
    predictions_file: str | None = field(
        default=None,
        metadata={
            "help": "File of answers in place of a model: a JSON object, id of an example to answer."
        },
    )
    output_file: str | None = field(
        default=None, metadata={"help": "File for the answers of the model, such a JSON object."}
    )
    batch_size: int = field(
        default=64,
        metadata=Metadata(
            help="Windows, or examples of other tasks, in a batch of each process.", range=BATCH
        ),
    )
    bf16: bool = field(default=False, metadata={"help": "Run the model under bf16 autocast."})
    dtype: str = field(
        default="float32",
        metadata={
            "help": "Cast the weights. bfloat16 judges a teacher as it runs in a training with bf16.",
            "choices": DTYPES,
        },
    )


def asked_name(arguments: Sequence[str]) -> str:
    """The name of the task that a command line is about, as far as the line or its config says it."""
    name = _value_of("task", arguments)
    return DEFAULT_TASK if name is None else name


def asked_task(arguments: Sequence[str], *, model_option: str | None = None) -> type[Task]:
    """The task that a command line is about, found before the line is parsed, because it decides which options exist.

    Args:
        arguments: of the command line.
        model_option: an option such as ``model`` that names a model, whose head says the task where nothing else does.

    Raises:
        UserError: there is no such task.
    """
    name = _value_of("task", arguments)
    if name is not None:
        return task_named(name)
    model = None if model_option is None else _value_of(model_option, arguments)
    if model is None:
        return task_named(DEFAULT_TASK)
    return task_of(model, hub=True, revision=_value_of("model_revision", arguments))


def _value_of(option: str, arguments: Sequence[str]) -> str | None:
    """The value of an option on the command line, else in the config that comes first or in its bases."""
    found: str | None = None
    for i, argument in enumerate(arguments):
        flag, equals, value = argument.partition("=")
        if flag.startswith("--") and flag[2:].replace("-", "_") == option:
            found = value if equals else next(iter(arguments[i + 1 :]), None)
    if found is None and arguments and not arguments[0].startswith("-"):
        named = read_config(find_config(arguments[0])).values.get(option)
        found = None if named is None else str(named)
    return found


def as_trained(data_args: Any, model: str | None, revision: str | None = None) -> Any:
    """The arguments of the data, with the lengths of a model's training where the command line names none.

    A model that is judged with texts of another length is not the one that was trained, and its scores cannot be held
    against those of its training.

    Args:
        data_args: as `parse` returned them.
        model: folder or model id; None where no model is judged.
        revision: branch, tag or commit of a model id. Default: its main branch.

    Raises:
        UserError: the results.json of a folder cannot be read, or its lengths make no sense beside those given.
    """
    known = {} if model is None else trained_lengths(model, type(data_args), revision)
    given = {n: getattr(data_args, n) for n in known if _value_of(n, sys.argv[1:]) is not None}
    return replace(data_args, **lengths_to_read(known, given))


def fine_tune_command(description: str | None, task: str | None = None) -> None:
    """Parse the arguments of a training without a teacher, and run it.

    Args:
        description: text above the options in ``--help``.
        task: the only one that the command knows; None: that which the command line names.
    """
    own = [TeacherArguments, _data_options(task), LoadingArguments, TrainingOptions]
    answer_help(_with_task(task, own), description, trains=True)
    from itrd_nlp.training.arguments import FineTuningArguments  # --help does not need it

    chosen, groups = _task_and_groups(task)
    groups += [TeacherArguments, LoadingArguments, chosen.arguments, FineTuningArguments]
    *_, model_args, loading, data_args, args = parse(groups, description=description)
    check_sources(args, model_args, data_args)
    from itrd_nlp.tasks.jobs.fine_tune import fine_tune  # --help does not need it

    hide_short_bars()
    fine_tune(chosen(data_args), model_args, loading, args, record())


def distil_command(description: str | None, task: str | None = None) -> None:
    """Parse the arguments of a distillation, and run it. See `fine_tune_command`."""
    own = [StudentArguments, *OBJECTIVE, _data_options(task), LoadingArguments, TrainingOptions]
    answer_help(_with_task(task, own), description, trains=True)
    from itrd_nlp.distillation.arguments import ITRDTrainingArguments  # --help does not need it

    chosen, groups = _task_and_groups(task)
    groups += distillation_groups(chosen, ITRDTrainingArguments)
    *_, model_args, loading, data_args, args = parse(groups, description=description)
    check_sources(args, model_args, data_args)
    from itrd_nlp.tasks.jobs.distil import distil  # --help does not need it

    hide_short_bars()
    distil(chosen(data_args), model_args, loading, args, record())


def check_sources(args: Any, *groups: Any) -> None:
    """Refuse models and data of the package's configs that are not made yet, where a run needs them.

    Args:
        args: of the training. A run that is finished is shown, and reads nothing any more.
        groups: the arguments that name models and data.

    Raises:
        UserError: names the command that makes one, or the results.json of the run cannot be read.
    """
    if args.overwrite_output_dir or RunRecord.read(args.output_dir) is None:
        check_local_paths(arguments_of(groups))


def hide_short_bars() -> None:
    """Leave out the bars of transformers for weights, which are read in an instant. Downloads keep theirs."""
    from huggingface_hub.utils import enable_progress_bars
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    if not constants.HF_HUB_DISABLE_PROGRESS_BARS:
        enable_progress_bars()


def distillation_groups(task: type[Task], training: type) -> list[type]:
    """The arguments of a distillation, those of the training last."""
    return [StudentArguments, LoadingArguments, task.arguments, training]


def evaluate_command(description: str | None, task: str | None = None) -> None:
    """Parse the arguments of an evaluation, run it, and print one JSON object. See `fine_tune_command`.

    Raises:
        UserError: an argument, the model or the data cannot be used. Or the model could not answer an example; then the
            scores are printed and the answers are written.
    """
    own = [EvaluationArguments, LoadingArguments, _data_options(task)]
    answer_help(_with_task(task, own), description)
    chosen, groups = _task_and_groups(task, model_option="model")
    groups += [EvaluationArguments, LoadingArguments, chosen.arguments]
    *_, args, loading, data_args = parse(groups, description=description)
    check_local_paths(arguments_of([args, data_args]))
    data_args = as_trained(data_args, args.model, loading.model_revision)
    if (args.model is None) == (args.predictions_file is None):
        raise UserError("give either --model or --predictions_file, one of the two.")
    if args.predictions_file is not None:
        of_a_model = [n for n in given_names(args, loading) if n != "predictions_file"]
        of_a_model += [n for n in given_names(data_args) if n in chosen.of_a_model]
        if of_a_model:
            raise UserError(
                f"{' and '.join(of_a_model)} would do nothing beside predictions_file, with which no model runs; leave "
                "it out, or give a model."
            )
    target = None
    if args.output_file is not None:
        inputs = [args.model, *chosen(data_args).files]
        target = check_target_file(args.output_file, option="output_file", inputs=inputs)
    answers: dict[str, Any] = {}
    if args.predictions_file is not None:
        scores = chosen.score_file(data_args, args.predictions_file)
    else:
        scores, answers = _evaluated(chosen(data_args), args, loading)
    if os.environ.get("RANK", "0") != "0":
        return
    print(json.dumps(scores), flush=True)  # first, so that a full disk does not cost them
    if target is not None:
        with writing(target):
            write_json(target, answers)
    if args.model is not None:
        _check_answered(len(answers), scores, chosen)


def _check_answered(answers: int, scores: dict[str, Any], task: type[Task]) -> None:
    """Refuse, after the scores are printed, a model that left examples unanswered."""
    count = next(scores[name] for name in ("questions", "rows") if name in scores)
    if answers < count:
        raise UserError(f"{count - answers} of the {count} {task.page.unit} {task.unanswered}")


def _evaluated(
    task: Task, args: EvaluationArguments, loading: Any
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The scores of a model, and its answers."""
    from itrd_nlp.tasks.jobs.evaluate import evaluate

    hide_short_bars()
    assert args.model is not None
    found, answers = evaluate(
        task, args.model, loading, batch_size=args.batch_size, bf16=args.bf16, dtype=args.dtype
    )
    about_the_file = ("version", "task", "metrics")
    return {k: v for k, v in found.as_json().items() if k not in about_the_file}, answers


def _data_options(task: str | None) -> type:
    """The dataclass of the data of the task that the help is about."""
    return options_of(asked_name(sys.argv[1:]) if task is None else task)[0]


def _with_task(task: str | None, groups: list[type]) -> list[type]:
    """The groups, and `--task` in front where the command leaves the choice."""
    return groups if task is not None else [TaskArguments, *groups]


def _task_and_groups(
    task: str | None, model_option: str | None = None
) -> tuple[type[Task], list[type]]:
    """The task of a command, and the group of `--task` where the command leaves the choice."""
    if task is not None:
        return task_named(task), []
    return asked_task(sys.argv[1:], model_option=model_option), [TaskArguments]
