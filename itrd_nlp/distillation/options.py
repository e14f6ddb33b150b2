"""The options of a distillation, in the groups that ``--help`` shows. No import here loads torch."""

from __future__ import annotations

from dataclasses import dataclass, field

from itrd_nlp.training.ranges import Range
from itrd_nlp.training.roles import Metadata, Role

# Those of `itrd_nlp.losses.views`, which a test compares: that module needs torch, and a list of options does not.
VIEWS = ("tokens", "sequence", "pooled")
REDUCTIONS = ("sum", "mean")
PROJECTION_INITS = ("auto", "identity", "default")
TEACHER_CACHES = ("off", "auto", "on")
TEACHER_DTYPES = ("auto", "float32", "bfloat16", "float16")


@dataclass
class LossWeights:
    """The losses and their weights."""

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
    alpha: float = field(
        default=1.01,
        metadata=Metadata(
            role=Role.OBJECTIVE,
            range=Range(above=0),
            help="Exponent of the correlation loss (eq. 6), > 0. Paper: 1.01 where teacher and student have the "
            "same architecture, 1.50 where they differ.",
        ),
    )
    corr_log: bool = field(
        default=True,
        metadata=Metadata(
            role=Role.OBJECTIVE,
            help="Correlation loss with the logarithm of eq. 6. Without it the gradient falls with the loss, and "
            "beta_corr must be about 0.1.",
        ),
    )
    mi_log: bool = field(
        default=False,
        metadata=Metadata(
            role=Role.OBJECTIVE,
            help="Mutual information with the logarithms of eq. 9, not as in algorithm 1.",
        ),
    )
    unbiased_std: bool = field(
        default=False,
        metadata=Metadata(
            role=Role.OBJECTIVE,
            help="Standardise by the unbiased std, as the official code does, not the population's.",
        ),
    )
    peer_losses: dict[str, float] | str | None = field(
        default_factory=dict,
        metadata=Metadata(
            role=Role.OBJECTIVE,
            range=Range(above=0),
            help="Losses of other papers: dotted path of a class -> its weight, > 0. On the command line a JSON "
            "object such as '{\"itrd_nlp.losses.peers.PatientKD\": 10}'. docs/method.md lists them.",
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
    hidden_share: float = field(
        default=0.0,
        metadata=Metadata(
            role=Role.OBJECTIVE,
            range=Range(least=0, below=1),
            help="Share of the gradient that all losses between hidden states hold together, measured every 20 steps "
            "at the student's last hidden state of layer_map. Their weights then count only among themselves. 0: the "
            "weights stay as they are.",
        ),
    )


@dataclass
class StudentOptions:
    """The numbers that the student's weights are made of."""

    weight_bits: int = field(
        default=0,
        metadata=Metadata(
            role=Role.OBJECTIVE,
            range=Range(least=0, most=8, whole=True),
            help="Train the linear layers and convolutions of the student's repeated layers with weights of so many "
            "bits, from 1 to 8. Embeddings and head stay in fp32. 0: all weights are floating-point numbers.",
        ),
    )


@dataclass
class LayerOptions:
    """The layers that learn from each other."""

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


@dataclass
class SampleOptions:
    """The samples of the losses between hidden states."""

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
    corr_max_samples: int = field(
        default=2048,
        metadata=Metadata(
            role=Role.OBJECTIVE,
            range=Range(least=2, whole=True),
            help="In the view 'tokens', draw at most this many tokens a micro-batch and process for the correlation "
            "loss. More cost time; half as many cannot be told from the default.",
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


@dataclass
class TeacherOptions:
    """The teacher's precision, and the cache of its outputs."""

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
