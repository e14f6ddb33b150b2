"""TextBrewer's own distiller on this package's data, for comparisons: its losses, its recipe and its code.

`TextBrewerTrainer` gives models, batches and optimizer to TextBrewer's `GeneralDistiller`. Evaluation, saving and the
card are then those of every run here. One budget fixes data, batches, optimizer, schedule, steps and initialisation,
so they are those of `ITRDTrainer`. `TextBrewerArguments` hold TextBrewer's recipe.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.trainer_utils import TrainOutput

from itrd_nlp.distillation.compatibility import check_apart, check_compatible
from itrd_nlp.distillation.layer_map import layer_pairs
from itrd_nlp.distillation.textbrewer_options import TextBrewerOptions
from itrd_nlp.errors import UserError
from itrd_nlp.losses.outputs import LayerPair
from itrd_nlp.models.modes import move_to
from itrd_nlp.models.placing import put_on
from itrd_nlp.publish.hub_trainer import HubTrainer
from itrd_nlp.training.arguments import FineTuningArguments
from itrd_nlp.training.record import RunRecord

METHOD = "TextBrewer"

_WITHOUT_EFFECT: dict[str, Any] = {
    "eval_strategy": "no",
    "eval_on_start": False,
    "load_best_model_at_end": False,
    "logging_first_step": False,
    "debug": [],
    "auto_find_batch_size": False,
    "neftune_noise_alpha": None,
    "label_smoothing_factor": 0.0,
    "activation_checkpointing": False,
    "gradient_checkpointing": False,
    "torch_compile": False,
    "use_liger_kernel": False,
    "liger_kernel_config": None,
    "average_tokens_across_devices": True,
    "deepspeed": None,
    "parallelism_config": None,
    "torch_empty_cache_steps": None,
}
"""Arguments that only the loop of transformers reads, and the values that ask for nothing."""


@dataclass
class TextBrewerArguments(TextBrewerOptions, FineTuningArguments):
    """The recipe: TextBrewer's temperature, weights and losses between layers.

    The defaults are those of its scripts for reading comprehension (``run_cmrc2018_distill_T3.sh``: temperature 8, the
    matches ``L3_hidden_mse`` and ``L3_hidden_smmd``, embeddings among them) and of its `DistillationConfig`.

    Raises:
        UserError: a value makes no sense, or TextBrewer cannot do it.
    """

    def __post_init__(self) -> None:
        if isinstance(self.layer_map, str):
            self.layer_map = [self.layer_map]
        super().__post_init__()
        if self.world_size > 1:
            raise UserError("TextBrewer runs in one process on one device here; start one.")
        if self.fp16:
            raise UserError("fp16 is true, but TextBrewer needs apex for that; take bf16.")
        if self.max_steps <= 0 and self.num_train_epochs != int(self.num_train_epochs):
            raise UserError(
                f"num_train_epochs is {self.num_train_epochs}, but TextBrewer trains whole epochs; or set max_steps."
            )
        for name, nothing in _WITHOUT_EFFECT.items():
            value = getattr(self, name)
            value = value.value if isinstance(value, Enum) else value
            if value != nothing:
                raise UserError(
                    f"{name} is {value!r}, but TextBrewer's own loop does not read it; leave it at {nothing!r}."
                )


def refuse_textbrewer(args: Any, model: str) -> None:
    """Refuse a distillation by TextBrewer, whose recipe here reads spans.

    Args:
        args: the arguments of the distillation.
        model: the kind of model, with its article.

    Raises:
        UserError: says what to take instead.
    """
    if isinstance(args, TextBrewerArguments):
        raise UserError(
            f"TextBrewer's recipe is for question answering here; distil {model} by ITRD."
        )


class TextBrewerTrainer(HubTrainer):
    """A trainer that lets TextBrewer's `GeneralDistiller` train the student.

    It keeps no checkpoints, so an interrupted run starts anew. It makes as many steps as `ITRDTrainer`. Each of them
    takes ``gradient_accumulation_steps`` batches. Where the batches of an epoch are no multiple of that, a step takes
    the rest of one epoch and the first batches of the next, while the last step of `ITRDTrainer` takes fewer.

    Args:
        model: the student.
        teacher: a model with hidden states of the same width. It keeps its dtype, because the soft cross-entropy of
            TextBrewer reads its logits as they are.
        args: arguments of the recipe and of the training.
        more_teachers: further teachers. There may be none, because TextBrewer takes one teacher.
        **kwargs: arguments of `transformers.Trainer`.

    Raises:
        UserError: TextBrewer is not installed, or the models do not fit.
    """

    args: TextBrewerArguments

    def __init__(
        self,
        model: PreTrainedModel,
        teacher: PreTrainedModel,
        args: TextBrewerArguments,
        more_teachers: Sequence[PreTrainedModel] = (),
        **kwargs: Any,
    ) -> None:
        self.check_models(model, teacher, args, more_teachers, kwargs.get("processing_class"))
        self.pairs = textbrewer_pairs(model, teacher, args)
        super().__init__(model=model, args=args, **kwargs)
        self.teacher = put_on(teacher.eval().requires_grad_(False), args.device)

    @staticmethod
    def check_models(
        student: PreTrainedModel,
        teacher: PreTrainedModel,
        args: TextBrewerArguments,
        more_teachers: Sequence[PreTrainedModel] = (),
        tokenizer: PreTrainedTokenizerBase | None = None,
    ) -> None:
        """Refuse models that do not fit the recipe or each other, before any work begins.

        Raises:
            UserError: there is more than one teacher, or see `check_apart`, `check_compatible` and `textbrewer_pairs`.
        """
        if more_teachers:
            raise UserError(
                "more_teachers are given, but TextBrewer's distiller takes one teacher."
            )
        check_apart(student, teacher)
        check_compatible(student, teacher, tokenizer)
        textbrewer_pairs(student, teacher, args)

    def known_record(self) -> RunRecord:
        """See `HubTrainer.known_record`. The layer pairs and the name of TextBrewer are added."""
        record = super().known_record()
        record.method = METHOD
        record.layer_pairs = [str(pair) for pair in self.pairs]
        return record

    def train(
        self,
        resume_from_checkpoint: str | bool | None = None,
        trial: Any = None,
        ignore_keys_for_eval: list[str] | None = None,
    ) -> TrainOutput:
        """Let TextBrewer train the student.

        Args:
            resume_from_checkpoint: it is not read, because TextBrewer leaves no checkpoints.
            trial: it is not read, because nothing searches for values of TextBrewer's recipe.
            ignore_keys_for_eval: it is not read, because no evaluation takes place meanwhile.

        Returns:
            Steps, mean of the task loss, and no other metrics.

        Raises:
            UserError: `output_dir` is in use, or holds checkpoints of an earlier run.
        """
        with self.hold_folder(None):
            batches = self.get_train_dataloader()
            watched = self._watched(batches)
            steps = self._steps(batches)
            with tempfile.TemporaryDirectory() as folder:
                distiller = self._distiller(folder, watched, steps)
                with distiller:
                    self._run(distiller, batches, steps)
            self.state.global_step = watched.batches // self.args.gradient_accumulation_steps
            self.train_loss = watched.mean()
            self.published_model.eval()
            return TrainOutput(self.state.global_step, self.train_loss, {})

    def _steps(self, batches: Any) -> int:
        """Return the number of optimizer steps."""
        args = self.args
        if args.max_steps > 0:
            return args.max_steps
        return math.ceil(len(batches) / args.gradient_accumulation_steps) * int(
            args.num_train_epochs
        )

    def _watched(self, batches: Any) -> _Watched:
        """Return the student's adaptor, which logs as often as the arguments say."""
        args, accumulation = self.args, self.args.gradient_accumulation_steps
        # A share of the steps becomes a number.
        self.state.compute_steps(args, self._steps(batches))

        def log(done: int, task: float) -> None:
            self.state.global_step = done // accumulation
            self.state.epoch = done / len(batches)
            self.log({"task": task})

        every = {"steps": self.state.logging_steps * accumulation, "epoch": len(batches)}
        return _Watched(every.get(args.logging_strategy, 0), log)

    def _distiller(self, folder: str, watched: _Watched, steps: int) -> Any:
        """Return TextBrewer's distiller.

        Args:
            folder: a folder for its own files.
            watched: adaptor of the student.
            steps: number of optimizer steps.
        """
        from textbrewer import DistillationConfig, GeneralDistiller, TrainingConfig

        args = self.args
        student = move_to(self.published_model, args.device).train()
        return GeneralDistiller(
            train_config=TrainingConfig(
                output_dir=str(Path(folder) / "models"),
                log_dir=str(Path(folder) / "logs"),
                device=args.device,
                gradient_accumulation_steps=args.gradient_accumulation_steps,
                ckpt_frequency=1,
                ckpt_steps=steps,
            ),
            distill_config=DistillationConfig(
                temperature=args.temperature,
                kd_loss_weight=args.kd_loss_weight,
                hard_label_weight=args.hard_label_weight,
                intermediate_matches=textbrewer_matches(self.pairs, args.losses, args.match_weight),
            ),
            model_T=_Run(self.teacher, bf16=args.bf16),
            model_S=_Run(student, bf16=args.bf16),
            adaptor_T=_adaptor,
            adaptor_S=watched.adaptor,
        )

    def _run(self, distiller: Any, batches: Any, steps: int) -> None:
        """Train with the optimizer and the schedule of the arguments."""
        args = self.args
        # TextBrewer would drop the batches that are left at the end of an epoch.
        whole = args.max_steps <= 0 and len(batches) % args.gradient_accumulation_steps == 0
        self.lr_scheduler = None  # that of an earlier training
        distiller.train(
            self.create_optimizer(),
            batches,
            scheduler_class=lambda optimizer: self.create_scheduler(steps, optimizer),
            scheduler_args={},
            max_grad_norm=args.max_grad_norm,
            callback=None,
            **({"num_epochs": int(args.num_train_epochs)} if whole else {"num_steps": steps}),
        )


def textbrewer_pairs(
    student: PreTrainedModel, teacher: PreTrainedModel, args: TextBrewerArguments
) -> list[LayerPair]:
    """Return the layer pairs. There are none if no loss reads hidden states.

    Raises:
        UserError: TextBrewer is not installed, the widths differ, or a layer does not exist.
    """
    try:
        import textbrewer  # noqa: F401
    except ImportError:
        raise UserError("TextBrewer is not installed; pip install itrd_nlp[textbrewer].") from None
    if not args.losses or args.match_weight == 0:
        return []
    sizes = student.config.hidden_size, teacher.config.hidden_size
    if sizes[0] != sizes[1]:
        raise UserError(
            f"the student is {sizes[0]} wide and the teacher {sizes[1]}, but this recipe has no projections; take a "
            "student of the teacher's width."
        )
    return layer_pairs(
        args.layer_map,
        student_layers=student.config.num_hidden_layers,
        teacher_layers=teacher.config.num_hidden_layers,
        include_embeddings=args.include_embeddings,
    )


def textbrewer_matches(
    pairs: list[LayerPair], losses: list[str], weight: float
) -> list[dict[str, Any]]:
    """Return the recipe as TextBrewer's ``intermediate_matches``. Its ``mmd`` takes two layers, here one twice."""
    return [
        {
            "layer_T": [pair.teacher] * 2 if loss == "mmd" else pair.teacher,
            "layer_S": [pair.student] * 2 if loss == "mmd" else pair.student,
            "feature": "hidden",
            "loss": loss,
            "weight": weight,
        }
        for loss in losses
        for pair in pairs
    ]


class _Run(nn.Module):
    """A model that returns its hidden states, if asked for under bf16 autocast, which TextBrewer does not know."""

    def __init__(self, model: nn.Module, *, bf16: bool) -> None:
        super().__init__()
        self.model = model
        self.bf16 = bf16

    def forward(self, **inputs: Any) -> Any:
        with torch.autocast(inputs["input_ids"].device.type, torch.bfloat16, enabled=self.bf16):
            return self.model(**inputs, output_hidden_states=True)


class _Watched:
    """The student's adaptor. It counts batches and sums the task loss.

    Args:
        every: number of batches between two calls of ``log``. 0 stands for no call.
        log: takes the number of batches so far, and the mean task loss since the last call.
    """

    def __init__(self, every: int, log: Callable[[int, float], None]) -> None:
        self.batches = 0
        self.total: Tensor | float = 0.0
        self._every = every
        self._log = log
        self._total_before = 0.0

    def adaptor(self, batch: dict[str, Any], output: Any) -> dict[str, Any]:
        self.batches += 1
        self.total = self.total + output.loss.detach().float()
        if self._every and self.batches % self._every == 0:
            total = float(self.total)
            self._log(self.batches, (total - self._total_before) / self._every)
            self._total_before = total
        return _adaptor(batch, output)

    def mean(self) -> float:
        return float(self.total) / max(self.batches, 1)


def _adaptor(batch: dict[str, Any], output: Any) -> dict[str, Any]:
    # float: the soft cross-entropy is taken in whatever the logits are.
    return {
        "logits": (output.start_logits.float(), output.end_logits.float()),
        "hidden": output.hidden_states,
        "inputs_mask": batch["attention_mask"],
        "losses": [output.loss],
    }
