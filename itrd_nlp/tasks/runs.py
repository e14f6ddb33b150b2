"""What makes one run another: its arguments, and what its folder holds already."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from itrd_nlp.distillation.trainer import CACHE_ARGUMENTS
from itrd_nlp.errors import UserError
from itrd_nlp.publish.hub import push_student
from itrd_nlp.publish.hub_trainer import HubTrainer
from itrd_nlp.publish.model_card import license_of
from itrd_nlp.training.arguments import FineTuningArguments
from itrd_nlp.training.results import environment, read_results

# What a trainer alone knows of how it distilled.
OF_THE_TRAINER = ("method", "layer_pairs", "more_teachers")
# How a run was started again, what it showed meanwhile and where it went does not make it another experiment.
NOT_THE_EXPERIMENT = {
    *CACHE_ARGUMENTS,
    *("resume_from_checkpoint", "disable_tqdm", "logging_dir", "report_to", "run_name", "project"),
    *(f.name for f in fields(FineTuningArguments) if "hub" in f.name or "trackio" in f.name),
}


def finished_run(output_dir: str, arguments: dict[str, Any]) -> dict[str, Any] | None:
    """The results of the run in output_dir if it is finished, None if there is none.

    Raises:
        UserError: output_dir is a file, or holds a finished run of other arguments, which must not be overwritten.
    """
    if Path(output_dir).is_file():
        raise UserError(f"output_dir {output_dir} is a file, but must be a folder.")
    results = read_results(output_dir)
    if results is None:
        return None
    before = results.get("arguments", {})
    for name in sorted(arguments.keys() | before.keys()):
        if arguments.get(name) != before.get(name):
            raise UserError(
                f"output_dir {output_dir} holds a finished run with {name} = {before.get(name)!r}, not "
                f"{arguments.get(name)!r}; remove it or name another output_dir."
            )
    return results


def chosen_arguments(*groups: Any) -> dict[str, Any]:
    """Every argument that is not its default, as JSON stores it."""
    chosen = {}
    for group in groups:
        for f in fields(group):
            default = f.default_factory() if f.default_factory is not MISSING else f.default
            value = getattr(group, f.name)
            if f.init and value != default and f.name not in NOT_THE_EXPERIMENT:
                chosen[f.name] = value
    return json.loads(json.dumps(chosen, default=str))


def public_name(name: str) -> str:
    """An id of the Hub as it is, of a path the last part."""
    path = Path(name)
    return path.name if path.exists() or path.is_absolute() else name


def license_record(name: str) -> dict[str, str]:
    """What the card of a model's folder says about its license, which holds for what is made from it."""
    found = license_of(name)
    return {} if found is None else {"license": found}


def train_and_evaluate(
    trainer: HubTrainer, evaluate: Callable[[], dict[str, Any]], datasets: dict[str, Any]
) -> dict[str, Any]:
    """Train, evaluate, and say what results.json says of every training.

    Args:
        trainer: not trained yet.
        evaluate: gives the scores of what it has trained.
        datasets: what is known of the data.
    """
    started = time.perf_counter()
    output = trainer.train(resume_from_checkpoint=trainer.args.resume_from_checkpoint)
    seconds = time.perf_counter() - started
    return {
        **evaluate(),
        "datasets": datasets,
        "train_seconds": round(seconds, 1),
        "train_loss": output.training_loss,
        "steps": trainer.state.global_step,
        "environment": environment(),
        **{k: v for k, v in trainer.known_results().items() if k in OF_THE_TRAINER},
    }


def summary_row(name: str, results: dict[str, Any]) -> dict[str, Any]:
    """Results as a row of `itrd_nlp.training.results.print_summary`."""
    return {**results, "name": name, "seconds": results.get("train_seconds")}


def push_finished(args: FineTuningArguments) -> None:
    """Push what an earlier, finished run has left in ``output_dir``, where ``push_to_hub`` asks for it.

    Raises:
        UserError: no ``hub_model_id`` is given, or see `itrd_nlp.publish.hub.push_student`.
    """
    if not args.push_to_hub or args.process_index > 0:
        return
    if args.hub_model_id is None:
        raise UserError(
            f"push_to_hub is true and {args.output_dir} is finished, but hub_model_id is not set; give it as USER/NAME."
        )
    push_student(
        args.output_dir,
        args.hub_model_id,
        private=bool(args.hub_private_repo),
        revision=args.hub_revision,
        token=args.hub_token,
    )
