"""The arguments of `ITRDTrainer`: the training, and the weights and shapes of its objective."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, fields
from typing import Any

import torch
import transformers

from itrd_nlp import __version__
from itrd_nlp.distillation.peer_losses import parsed_peer_losses
from itrd_nlp.errors import UserError
from itrd_nlp.losses.peers import PeerLoss, load_peer
from itrd_nlp.losses.views import VIEWS
from itrd_nlp.training.arguments import FineTuningArguments
from itrd_nlp.training.ranges import Range, check_values
from itrd_nlp.training.record import RunRecord
from itrd_nlp.training.roles import Metadata, Role, chosen_arguments, default_of, names_of, role_of

logger = logging.getLogger(__name__)

REDUCTIONS = ("sum", "mean")
PROJECTION_INITS = ("auto", "identity", "default")
TEACHER_CACHES = ("off", "auto", "on")
TEACHER_DTYPES = ("auto", "float32", "bfloat16", "float16")


@dataclass
class ITRDTrainingArguments(FineTuningArguments):
    """`FineTuningArguments`, and the weights and shapes of the objective.

    The total is ``w_task * L_task + w_kd * L_kd + beta_corr * sum L_corr + beta_mi * sum L_mi`` (paper, eq. 10, with
    the logit KD of its section 5), with sums over the layer pairs. Each of the ``peer_losses`` adds ``weight * L``. A
    term of weight 0 is not computed. An objective without a distillation term needs no teacher.

    The class is long because every field has its help, range and role beside it. A table apart from the fields would
    have to be kept in step with them.

    Raises:
        UserError: a value makes no sense. The sentence names it and the allowed values.
    """

    w_task: float = field(
        default=1.0,
        metadata=Metadata(
            role=Role.OBJECTIVE,
            range=Range(least=0),
            help="Weight of the task's own loss. >= 0.",
        ),
    )
    w_kd: float = field(
        default=1.0,
        metadata=Metadata(
            role=Role.OBJECTIVE,
            range=Range(least=0),
            help="Weight of the logit KD loss. >= 0.",
        ),
    )
    temperature: float = field(
        default=2.0,
        metadata=Metadata(
            role=Role.OBJECTIVE,
            range=Range(above=0),
            help="Temperature of the logit KD, > 0. The loss carries the factor T^2.",
        ),
    )
    beta_corr: float = field(
        default=2.0,
        metadata=Metadata(
            role=Role.OBJECTIVE,
            range=Range(least=0),
            help="Weight of the correlation loss (paper: 2.0). >= 0.",
        ),
    )
    beta_mi: float = field(
        default=1.0,
        metadata=Metadata(
            role=Role.OBJECTIVE,
            range=Range(least=0),
            help="Weight of the mutual information loss (paper: 1.0). >= 0.",
        ),
    )
    warm_start_ratio: float = field(
        default=0.0,
        metadata=Metadata(
            role=Role.OBJECTIVE,
            range=Range(least=0, below=1),
            help="Share of the steps, from the first on, in which the hidden states alone teach: the task loss and "
            "logit KD do not count yet. From 0 to 1, 1 excluded.",
        ),
    )
    fade_ratio: float = field(
        default=0.0,
        metadata=Metadata(
            role=Role.OBJECTIVE,
            range=Range(least=0, most=1),
            help="Share of the steps, up to the last one, over which the weights of all losses between hidden "
            "states fall evenly to 0. From 0 (they stay) to 1 (they fall from the first step on).",
        ),
    )
    alpha: float = field(
        default=1.01,
        metadata=Metadata(
            role=Role.OBJECTIVE,
            range=Range(above=0),
            help="Exponent of the correlation loss (eq. 6), > 0. Paper: 1.01 where teacher and student have the "
            "same architecture, 1.50 where they differ.",
        ),
    )
    layer_map: list[str] = field(
        default_factory=lambda: ["uniform"],
        metadata=Metadata(
            role=Role.OBJECTIVE,
            help="Student layer <- teacher layer: 'uniform' (T3 of 12 layers: 4, 8, 12), 'last', or pairs such as "
            "1:4 2:8 3:12, where 0 is the embeddings.",
        ),
    )
    include_embeddings: bool = field(
        default=False,
        metadata=Metadata(
            role=Role.OBJECTIVE,
            help="Add the pair 0:0, the outputs of both embedding layers.",
        ),
    )
    corr_view: str = field(
        default="tokens",
        metadata=Metadata(
            role=Role.OBJECTIVE,
            help="Samples of the correlation loss: every valid token of the batch ('tokens'), the tokens of each "
            "sequence by themselves ('sequence'), or one mean per sequence ('pooled').",
            choices=list(VIEWS),
        ),
    )
    mi_view: str = field(
        default="tokens",
        metadata=Metadata(
            role=Role.OBJECTIVE,
            help="Samples of the mutual information loss, as for corr_view.",
            choices=list(VIEWS),
        ),
    )
    mi_log: bool = field(
        default=False,
        metadata=Metadata(
            role=Role.OBJECTIVE,
            help="Mutual information with the logarithms of eq. 9, not as in algorithm 1.",
        ),
    )
    corr_max_samples: int = field(
        default=2048,
        metadata=Metadata(
            role=Role.OBJECTIVE,
            range=Range(least=2, whole=True),
            help="In the view 'tokens', draw at most this many tokens a micro-batch and process for the correlation "
            "loss: more cost time and, as measured, gain nothing.",
        ),
    )
    mi_max_samples: int = field(
        default=512,
        metadata=Metadata(
            role=Role.OBJECTIVE,
            range=Range(least=2, whole=True),
            help="In the view 'tokens', draw at most this many tokens a micro-batch for the MI loss; with mi_gather "
            "over all processes, else on each.",
        ),
    )
    sync_statistics: bool = field(
        default=True,
        metadata=Metadata(
            role=Role.OBJECTIVE,
            help="Several processes: correlation statistics of all of them, not of each by itself. (In the "
            "corr_view 'sequence' each sequence has its own either way.)",
        ),
    )
    mi_gather: bool = field(
        default=False,
        metadata=Metadata(
            role=Role.OBJECTIVE,
            help="Several processes: compute the MI loss on the samples of all of them, not on each one's own. Not "
            "in the mi_view 'sequence'.",
        ),
    )
    unbiased_std: bool = field(
        default=False,
        metadata=Metadata(
            role=Role.OBJECTIVE,
            help="Standardise by the unbiased std, as the official code does, not the population's.",
        ),
    )
    layer_reduction: str = field(
        default="sum",
        metadata=Metadata(
            role=Role.OBJECTIVE,
            help="Sum or mean over the layer pairs.",
            choices=list(REDUCTIONS),
        ),
    )
    projection_init: str = field(
        default="auto",
        metadata=Metadata(
            role=Role.OBJECTIVE,
            help="Weights of the projections that embed the student's hidden states: 'identity' (same width only), "
            "'default' (torch's), or 'auto': identity where the widths agree.",
            choices=list(PROJECTION_INITS),
        ),
    )
    peer_losses: dict[str, float] | str | None = field(
        default_factory=dict,
        metadata=Metadata(
            role=Role.OBJECTIVE,
            help="Losses of other papers: dotted path of a class -> its weight, > 0. On the command line a JSON "
            "object such as '{\"itrd_nlp.losses.peers.PatientKD\": 10}'. docs/method.md lists them.",
        ),
    )
    teacher_dtype: str = field(
        default="auto",
        metadata={
            "help": "Weights of the teacher. 'auto': bfloat16 with bf16, float16 with fp16, else float32.",
            "choices": list(TEACHER_DTYPES),
        },
    )
    teacher_cache: str = field(
        default="off",
        metadata=Metadata(
            role=Role.CACHE,
            help="Keep the teacher's outputs on disk, to be read in later epochs and runs. 'auto': where this disk "
            "is faster than the teacher and cache_max_gb suffices.",
            choices=list(TEACHER_CACHES),
        ),
    )
    teacher_cache_dir: str | None = field(
        default=None,
        metadata=Metadata(
            role=Role.CACHE,
            help="Folder of the cache, on a local disk; default: itrd_nlp/teacher_cache in HF_HOME.",
        ),
    )
    cache_max_gb: float = field(
        default=50.0,
        metadata=Metadata(
            role=Role.CACHE,
            range=Range(above=0),
            help="Largest cache of one teacher, in units of 1e9 bytes. > 0.",
        ),
    )

    def __post_init__(self) -> None:
        check_values(self)
        self.peer_losses = parsed_peer_losses(self.peer_losses)
        if isinstance(self.layer_map, str):
            self.layer_map = [self.layer_map]
        self._check_combinations()
        if self.w_task == self.w_kd == 0:
            self.ddp_find_unused_parameters = True  # the head gets no gradient then
        super().__post_init__()
        self._check_processes()
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

    def _check_processes(self) -> None:
        """Refuse devices and processes that the losses cannot work with."""
        if self.mi_gather and self.mi_view == "tokens" and self.mi_max_samples < self.world_size:
            raise UserError(
                f"mi_max_samples is {self.mi_max_samples}, but mi_gather divides them between {self.world_size} "
                "processes and each must get at least 1."
            )
        if self.n_gpu > 1:
            raise UserError(
                f"{self.n_gpu} GPUs are in sight of one process, but distillation needs a process for each; start it "
                "by accelerate launch with configs/accelerate/ddp_bf16.yaml, or set CUDA_VISIBLE_DEVICES=0."
            )

    def _warn_of_accumulation(self) -> None:
        batch_terms = [name for name in ("beta_corr", "beta_mi") if getattr(self, name) > 0]
        batch_terms += [peer.__name__ for peer in self.peers]
        if self.gradient_accumulation_steps > 1 and batch_terms and self.process_index == 0:
            logger.warning(
                "gradient_accumulation_steps is %d and %s > 0: these losses are statistics of the micro-batch, so "
                "accumulation averages them and is not the same as a larger batch (task and KD losses are exact).",
                self.gradient_accumulation_steps,
                " and ".join(batch_terms),
            )

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


def with_objective(record: RunRecord) -> RunRecord:
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
