"""The role of an argument. The metadata of its field says it once.

    temperature: float = field(default=2.0, metadata=Metadata(help="...", role=Role.OBJECTIVE))

The role decides everything outside of the training itself: which arguments the model card prints, and which a
comparison lets a method choose. It decides which arguments a checkpoint shares with the run that resumes from it, which
ones make a finished run another run, and which are never written down.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, fields
from enum import Enum
from typing import Any

from itrd_nlp.training.secrets import is_secret_name


class Role(Enum):
    """The purpose of an argument."""

    EXPERIMENT = "experiment"
    """It changes the weights. An argument that names no role has this one."""
    OBJECTIVE = "objective"
    """It changes the weights and defines the loss. A method of a comparison may choose it, and the card prints it."""
    WATCHING = "watching"
    """It says when a run is logged, evaluated and saved, and on which machine it runs. A step learns the same. It
    stands among the arguments of a finished run, but a run may be resumed with another value."""
    CACHE = "cache"
    """It says how outputs of the teacher are kept. The model is the same."""
    LAUNCH = "launch"
    """It says how the run is started and resumed, and where its progress is shown."""
    PUBLISHING = "publishing"
    """It says where the model goes."""
    SECRET = "secret"
    """A token or password. It is written nowhere."""


class Metadata(dict[str, Any]):
    """The metadata of a field, with more names than a parser of command lines takes.

    `transformers.HfArgumentParser` gives all names in the metadata to argparse, which refuses unknown ones. So `keys`
    lists the names of argparse alone. ``metadata["role"]`` and ``metadata.get("role")`` still work.
    """

    def keys(self) -> Any:
        return {name: None for name in self if name not in ("role", "range")}.keys()


# transformers declares these fields, so their metadata cannot name a role. The reason stands above each group. All
# fields of transformers that stand in no group change the weights, or may do so.
_LAUNCH = (
    *("resume_from_checkpoint", "disable_tqdm", "logging_dir"),
    *("report_to", "run_name", "project"),
)
_WATCHING = (
    # The folder may be moved.
    *("output_dir",),
    # What is logged is read by people, not by the training.
    *("logging_strategy", "logging_steps", "logging_first_step", "logging_nan_inf_filter"),
    *("log_on_each_node", "log_level", "log_level_replica", "include_num_input_tokens_seen"),
    *("debug", "skip_memory_metrics"),
    # An evaluation changes no weights. `CHOOSING` names the exceptions.
    *("eval_strategy", "eval_steps", "eval_delay", "eval_on_start", "per_device_eval_batch_size"),
    *("eval_accumulation_steps", "eval_do_concat_batches", "eval_use_gather_object"),
    *("batch_eval_metrics", "include_for_metrics", "prediction_loss_only"),
    *("bf16_full_eval", "fp16_full_eval"),
    # A checkpoint is a copy. How a run takes one up says nothing about the steps before.
    *("save_strategy", "save_steps", "save_total_limit", "save_only_model", "save_on_each_node"),
    *("enable_jit_checkpoint", "restore_callback_states_from_checkpoint"),
    # Batches are the same, however they are read and brought to the device.
    *("dataloader_num_workers", "dataloader_pin_memory", "dataloader_persistent_workers"),
    *("dataloader_prefetch_factor", "dataloader_multiprocessing_context"),
    # The machine, and how it divides the work: the number of processes is a part of the identity by itself.
    *("use_cpu", "local_rank", "torch_empty_cache_steps", "parallelism_config"),
    *("fsdp", "fsdp_config", "deepspeed", "ddp_find_unused_parameters", "ddp_bucket_cap_mb"),
    *("ddp_broadcast_buffers", "ddp_static_graph", "ddp_backend", "ddp_timeout"),
    # transformers leaves these to the scripts, and ours do not read them.
    *("do_train", "do_eval", "do_predict"),
)
_PLACE = ("output_dir", "use_cpu", "dataloader_pin_memory", "local_rank")
"""Where a run lies and where it ran. A finished run that was moved, or is given again elsewhere, is the same."""
CHOOSING = ("eval_strategy", "eval_steps", "eval_delay", "save_strategy", "save_steps")
"""Arguments that change the model where the evaluation chooses the best checkpoint, or lowers the learning rate."""


@functools.cache
def _of_transformers() -> Mapping[str, Role]:
    """Return the roles of the fields of transformers."""
    from transformers import TrainingArguments  # it loads torch, which --help does not need

    return {
        **dict.fromkeys(_LAUNCH, Role.LAUNCH),
        **dict.fromkeys(_WATCHING, Role.WATCHING),
        **{
            f.name: Role.PUBLISHING
            for f in fields(TrainingArguments)
            if "hub" in f.name or "trackio" in f.name
        },
    }


def role_of(argument: Field[Any]) -> Role:
    """Return the role of a dataclass field."""
    if is_secret_name(argument.name):
        return Role.SECRET
    role = argument.metadata.get("role")
    if role is None:
        role = _of_transformers().get(argument.name, Role.EXPERIMENT)
    assert isinstance(role, Role)
    return role


def names_of(group: type, *roles: Role) -> frozenset[str]:
    """Return the names of the arguments of a dataclass that have one of these roles."""
    return frozenset(f.name for f in fields(group) if f.init and role_of(f) in roles)


def objective_of(group: Any) -> dict[str, Any]:
    """Return the arguments of a dataclass that define the loss, with their values."""
    return {name: getattr(group, name) for name in sorted(names_of(type(group), Role.OBJECTIVE))}


def is_experiment(argument: Field[Any]) -> bool:
    """Return whether another value of the argument makes a finished run another one."""
    return role_of(argument) in (Role.EXPERIMENT, Role.OBJECTIVE, Role.WATCHING)


def default_of(argument: Field[Any]) -> Any:
    """Return the default of a dataclass field. It is `dataclasses.MISSING` if there is none."""
    return argument.default if argument.default_factory is MISSING else argument.default_factory()


def given_names(*groups: Any) -> list[str]:
    """Return the names of the arguments that somebody gave, as far as they are not their defaults.

    Args:
        groups: instances of dataclasses.
    """
    return [
        f.name
        for group in groups
        for f in fields(group)
        if f.init and getattr(group, f.name) != default_of(f)
    ]


def chosen_arguments(groups: Iterable[Any]) -> dict[str, Any]:
    """Return every argument of a finished run that is not its default, as JSON stores it.

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


def same_anywhere(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a finished run without its folder and its machine. They say whether a run is another one.

    Args:
        arguments: as `chosen_arguments` returns them, now or in an earlier version.
    """
    kept = {name: value for name, value in arguments.items() if name not in _PLACE}
    return _with_plain_reading(kept)


def _with_plain_reading(arguments: dict[str, Any]) -> dict[str, Any]:
    """Leave out how a copy to the device waits, which the machine decides. The rest may be the default."""
    name = "accelerator_config"
    if not isinstance(arguments.get(name), str):
        return arguments
    from transformers.trainer_pt_utils import AcceleratorConfig  # it loads torch

    reading = arguments[name].replace("non_blocking=True", "non_blocking=False")
    changed = {} if reading == str(AcceleratorConfig()) else {name: reading}
    return {key: value for key, value in arguments.items() if key != name} | changed
