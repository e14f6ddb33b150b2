"""The arguments of `ITRDTrainer`: the training, and the weights and shapes of its objective."""

from __future__ import annotations

import logging
from dataclasses import dataclass, fields
from typing import Any

import torch
import transformers
from accelerate.utils import parse_flag_from_env

from itrd_nlp import __version__
from itrd_nlp.distillation.inert import refuse_inert, refuse_reentrant
from itrd_nlp.distillation.options import (
    LayerOptions,
    LossWeights,
    SampleOptions,
    StudentOptions,
    TeacherOptions,
)
from itrd_nlp.distillation.peer_losses import parsed_peer_losses
from itrd_nlp.errors import UserError
from itrd_nlp.losses.peers import PeerLoss, load_peer
from itrd_nlp.training.arguments import FineTuningArguments
from itrd_nlp.training.record import RunRecord
from itrd_nlp.training.roles import Role, chosen_arguments, default_of, names_of, role_of

logger = logging.getLogger(__name__)


@dataclass
class ITRDTrainingArguments(
    TeacherOptions,
    StudentOptions,
    SampleOptions,
    LayerOptions,
    LossWeights,
    FineTuningArguments,
):
    """`FineTuningArguments`, and the weights and shapes of the objective.

    The total is ``w_task * L_task + w_kd * L_kd + beta_corr * sum L_corr + beta_mi * sum L_mi`` (paper, eq. 10, with
    the logit KD of its section 5), with sums over the layer pairs. Each of the ``peer_losses`` adds ``weight * L``. A
    term of weight 0 is not computed. An objective without a distillation term needs no teacher.

    Raises:
        UserError: a value makes no sense. The sentence names it and the allowed values.
    """

    def check(self) -> None:
        """See `FineTuningArguments.check`."""
        self.peer_losses = parsed_peer_losses(self.peer_losses)
        super().check()
        if isinstance(self.layer_map, str):
            self.layer_map = [self.layer_map]
        self._check_combinations()
        refuse_inert(self)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.needs_hidden_states:
            refuse_reentrant(self)
        self._check_sample_size()
        self._warn_of_accumulation()

    def _check_combinations(self) -> None:
        """Refuse arguments that do not go together."""
        if self.w_task == self.w_kd == self.beta_corr == self.beta_mi == 0 and not self.peer_losses:
            raise UserError(
                "w_task, w_kd, beta_corr and beta_mi are all 0, but one must be > 0 where there are no peer_losses."
            )
        if self.warm_start_ratio > 0 and not self.needs_hidden_states:
            raise UserError(
                f"warm_start_ratio is {self.warm_start_ratio}, but no term reads hidden states, so nothing would "
                "be learned in these steps; set it to 0, or beta_corr or beta_mi to more."
            )
        if self.fade_ratio > 0 and not self.needs_hidden_states:
            raise UserError(
                f"fade_ratio is {self.fade_ratio}, but no term reads hidden states, so that there is nothing to fade; "
                "set it to 0."
            )
        if self.fade_ratio > 0 and self.w_task == self.w_kd == 0:
            raise UserError(
                f"fade_ratio is {self.fade_ratio}, but w_task and w_kd are 0, so that nothing would be learned in the "
                "end; set it to 0, or one of them to more."
            )
        if self.hidden_share > 0 and not (self.needs_hidden_states and self.w_task + self.w_kd > 0):
            raise UserError(
                f"hidden_share is {self.hidden_share}, but it needs a loss between hidden states (beta_corr, beta_mi "
                "or peer_losses) and another loss beside it (w_task or w_kd); set it to 0."
            )
        if self.hidden_share > 0 and self.sharded:
            raise UserError(
                f"hidden_share is {self.hidden_share}, but under FSDP and DeepSpeed no gradient of a single state can "
                "be measured; set it to 0."
            )
        if self.weight_bits > 0 and self.sharded:
            raise UserError(
                f"weight_bits is {self.weight_bits}, but FSDP and DeepSpeed write a checkpoint from their own parts of "
                "the weights, which are not rounded; set it to 0."
            )
        if self.mi_gather and self.mi_view == "sequence":
            raise UserError(
                "mi_gather is true and mi_view is 'sequence', but each sequence has its own loss there and nothing to "
                "gather; mi_gather needs the mi_view tokens or pooled."
            )
        if self.teacher_cache == "on" and self.needs_attention:
            names = ", ".join(peer.__name__ for peer in self.peers if peer.needs_attention)
            raise UserError(
                f"teacher_cache is 'on', but it does not keep the queries, keys and values that {names} in peer_losses "
                "read; set it to off or auto."
            )

    def _check_sample_size(self) -> None:
        """Refuse a sample size that leaves a process without samples."""
        if self.mi_gather and self.mi_view == "tokens" and self.mi_max_samples < self.world_size:
            raise UserError(
                f"mi_max_samples is {self.mi_max_samples}, but mi_gather divides them between {self.world_size} "
                "processes and each must get at least 1."
            )

    def _warn_of_accumulation(self) -> None:
        batch_terms = [name for name in ("beta_corr", "beta_mi") if getattr(self, name) > 0]
        batch_terms += [peer.__name__ for peer in self.peers]
        if self.gradient_accumulation_steps > 1 and batch_terms and self.process_index == 0:
            logger.warning(
                "gradient_accumulation_steps is %d and %s > 0: these losses are statistics of the micro-batch, so "
                "accumulation averages them and is not the same as a larger batch (task and KD losses are exact, "
                "but for those that compare the rows of a batch, as embedders have).",
                self.gradient_accumulation_steps,
                " and ".join(batch_terms),
            )

    @property
    def sharded(self) -> bool:
        """Whether FSDP or DeepSpeed holds the weights."""
        # The config of `accelerate launch` says it by the environment alone.
        launched = map(parse_flag_from_env, ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED"))
        return bool(self.fsdp or self.deepspeed) or any(launched)

    @property
    def needs_teacher(self) -> bool:
        """Whether any term of the objective reads the teacher."""
        return self.w_kd > 0 or self.needs_hidden_states

    @property
    def needs_hidden_states(self) -> bool:
        """Whether any term of the objective reads hidden states."""
        return self.beta_corr > 0 or self.beta_mi > 0 or bool(self.peer_losses)

    @property
    def needs_attention(self) -> bool:
        """Whether any term of the objective reads queries, keys and values."""
        return any(peer.needs_attention for peer in self.peers)

    @property
    def peers(self) -> dict[type[PeerLoss], float]:
        """The classes that ``peer_losses`` names, with their weights."""
        weights = parsed_peer_losses(self.peer_losses)
        return {load_peer(path): weight for path, weight in weights.items()}

    def resolved_teacher_dtype(self) -> torch.dtype:
        """Return the dtype of the teacher's weights."""
        if self.teacher_dtype == "auto":
            if self.bf16:
                return torch.bfloat16
            return torch.float16 if self.fp16 else torch.float32
        dtype: torch.dtype = getattr(torch, self.teacher_dtype)
        return dtype


def scalar_objective(args: ITRDTrainingArguments) -> dict[str, Any]:
    """Return the arguments of the objective that are one number, text or switch, in their order."""
    return {
        f.name: getattr(args, f.name)
        for f in fields(args)
        if role_of(f) is Role.OBJECTIVE
        and isinstance(getattr(args, f.name), bool | int | float | str)
    }


def chosen_objective(args: ITRDTrainingArguments) -> dict[str, Any]:
    """Return the arguments of the objective that are not their defaults, as JSON stores them."""
    names = names_of(ITRDTrainingArguments, Role.OBJECTIVE)
    return {name: value for name, value in chosen_arguments([args]).items() if name in names}


def fill_in_objective(record: RunRecord) -> RunRecord:
    """Return a record with its objective, as far as that can be known. Version 1 of the file had no such field.

    That version recorded the arguments that were not their defaults. The defaults are known if this package and
    transformers still have the same versions.
    """
    if record.objective or record.teacher is None or record.method is not None:
        return record
    versions = {"itrd_nlp": __version__, "transformers": transformers.__version__}
    same = all(record.environment.get(package) == version for package, version in versions.items())
    objective = {}
    for f in fields(ITRDTrainingArguments):
        value = record.arguments.get(f.name, default_of(f) if same else None)
        if role_of(f) is Role.OBJECTIVE and isinstance(value, bool | int | float | str):
            objective[f.name] = value
    return record.changed(objective=objective)
