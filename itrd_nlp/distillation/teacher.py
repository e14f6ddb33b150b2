"""A frozen teacher, which computes its outputs for a batch or reads them from its cache."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Sequence
from typing import Any

import torch
from datasets import Dataset
from pyarrow import compute, types
from torch import nn

from itrd_nlp.distillation.arguments import ITRDTrainingArguments
from itrd_nlp.distillation.cache_folder import cache_folder
from itrd_nlp.distillation.teacher_cache import TeacherCache, read_speed
from itrd_nlp.distillation.windows import as_cached
from itrd_nlp.errors import UserError
from itrd_nlp.files import writing
from itrd_nlp.losses.outputs import EncoderOutput
from itrd_nlp.models.adaptor import Adaptor
from itrd_nlp.models.early_exit import (
    early_exit_fails,
    hidden_states_up_to,
    holds_its_layers_in_a_list,
)
from itrd_nlp.models.encode import encode, own_inputs, reads_tokens, token_mask

logger = logging.getLogger(__name__)

PROBES = 3
"""Number of batches that ``teacher_cache: auto`` times before it decides. The first one warms up."""


def _config(model: nn.Module) -> Any:
    """The configuration of a model of transformers."""
    return model.config


def _chooses(model: nn.Module) -> bool:
    return type(model).__name__.endswith("ForMultipleChoice")


class Teacher:
    """A teacher that computes its outputs for batches, or reads them from its cache.

    With a cache the outputs are rounded as the cache stores them, even if they were just computed. A run then learns
    the same with a cold cache and with one that the same batches filled.

    If the objective needs no logits (``w_kd: 0``), the teacher stops after the highest layer that the objective reads.

    With ``teacher_cache: auto`` the teacher times its first batches. It then drops the cache if the disk would take
    longer than the teacher. It makes no cache if the outputs would take more than ``cache_max_gb``. It makes no cache
    either if the cache could not keep what the teacher computes, see `_why_no_cache`.

    Args:
        model: the teacher, frozen, in evaluation mode and on its device.
        layers: layers of the hidden states that the objective reads; 0 is the embeddings.
        args: training arguments. They tell whether the objective needs logits, and how to use the cache.
        train_dataset: the training data, from which the size of the cache is estimated. Default: None, without an
            estimate.
        adaptor: the user's function that reads the model, see `itrd_nlp.models.adaptor`. Default: None, the model is
            read as one of transformers.

    Attributes:
        cache: the cache, or None if there is none.

    Raises:
        UserError: ``teacher_cache`` is ``on``, and the cache would be larger than ``cache_max_gb`` or cannot keep what
            this teacher computes.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Sequence[int],
        args: ITRDTrainingArguments,
        train_dataset: Any = None,
        adaptor: Adaptor | None = None,
    ) -> None:
        self.model = model
        self.adaptor = adaptor
        self.dtype = next((p.dtype for p in model.parameters()), torch.float32)
        self.layers = sorted(set(layers))
        self.needs_logits = args.w_kd > 0
        self.needs_attention = args.needs_attention
        self.stops_early = (
            not self.needs_logits
            and not self.needs_attention
            and adaptor is None
            and holds_its_layers_in_a_list(model)
            and max(self.layers) < _config(model).num_hidden_layers
        )
        self._exit_is_checked = False
        # A compiled student saves what it reads for its backward pass, and autograd refuses to save inference tensors.
        self._without_gradients = torch.no_grad if args.torch_compile else torch.inference_mode
        # Whether the time or the disk lets the cache be used must not change what is learned. Outputs depend on the
        # padding, too: they are the same bits where the same batches filled the cache.
        why_not = self._why_no_cache()
        self.rounds = args.teacher_cache != "off" and why_not is None
        self.cache: TeacherCache | None = None
        self._read_speed: float | None = None
        # Seconds and bytes of each batch that was timed.
        self._timed: list[tuple[float, int]] = []
        if args.teacher_cache == "on" and why_not is not None:
            raise UserError(f"teacher_cache is 'on', but {why_not}; set it to off.")
        if args.teacher_cache == "auto" and why_not is not None:
            logger.warning("No teacher cache: %s.", why_not)
        elif args.teacher_cache != "off":
            self._open_cache(args, train_dataset)

    def __call__(self, inputs: dict[str, Any]) -> EncoderOutput:
        """Return the teacher's outputs for a batch.

        Args:
            inputs: the batch without labels. The teacher gets the part that it reads.

        Returns:
            Outputs without gradients. Autograd can save the logits for a backward pass.
        """
        inputs = {name: self._in_dtype(value) for name, value in inputs.items()}
        windows = self._windows(inputs) if self.rounds else {}
        if self.cache is not None:
            cached = self.cache.read(windows, layers=self.layers, logits=self.needs_logits)
            if cached is not None:
                return cached
        started = time.perf_counter()
        with self._without_gradients():
            if self.stops_early and not self._exit_is_checked:
                self._check_exit(inputs)
            if self.stops_early:
                output = EncoderOutput({}, hidden_states_up_to(self.model, inputs, self.layers))
            else:
                _, output = encode(
                    self.model,
                    inputs,
                    self.layers,
                    attention=self.needs_attention,
                    adaptor=self.adaptor,
                    reads_logits=self.needs_logits,
                )
        # KD saves the teacher's probabilities for its backward pass, but autograd refuses to save
        # inference tensors. Logits that nobody asks for take no room in the cache.
        asked = output.logits if self.needs_logits else {}
        logits = {name: value.clone() for name, value in asked.items()}
        mask = None if output.mask is None else output.mask.clone()
        output = dataclasses.replace(output, logits=logits, mask=mask)
        if self.cache is not None:
            self._decide(output, started)
        if self.cache is not None:
            self.cache.write(windows, output)
        return as_cached(windows, output) if self.rounds else output

    def _why_no_cache(self) -> str | None:
        """Say why a cache cannot keep the outputs of this teacher. None: it can."""
        if self.needs_attention:
            return "it does not keep the queries, keys and values that peer_losses read"
        if self.adaptor is not None:
            return "it does not know what the function teacher_adaptor computes"
        if not reads_tokens(self.model):
            return f"it keeps outputs for tokens, and {type(self.model).__name__} reads none"
        if _chooses(self.model):
            return "it keeps one window a row, and a multiple-choice question has several"
        return None

    def _in_dtype(self, value: Any) -> Any:
        """Pixels and other floating-point numbers come in fp32, whatever the teacher computes in."""
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            return value.to(self.dtype)
        return value

    def _windows(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Return what identifies the windows of a batch: all that the teacher reads, and which tokens are padding."""
        mask = token_mask(self.model, inputs)
        own = own_inputs(self.model, inputs)
        return own if mask is None else own | {"attention_mask": mask}

    def _check_exit(self, inputs: dict[str, Any]) -> None:
        """Run the teacher to its end from now on, if stopping early gives other hidden states."""
        self._exit_is_checked = True
        reason = early_exit_fails(self.model, inputs, self.layers)
        if reason is not None:
            self.stops_early = False
            logger.warning(
                "%s runs to its last layer, because it cannot be stopped early: %s.",
                type(self.model).__name__,
                reason,
            )

    def _open_cache(self, args: ITRDTrainingArguments, train_dataset: Any) -> None:
        folder = cache_folder(self.model, args)
        gigabytes = self._estimate(train_dataset) / 1e9
        if gigabytes > args.cache_max_gb:
            sentence = (
                f"the cache of the teacher's outputs would take about {gigabytes:.1f} GB, but cache_max_gb is "
                f"{args.cache_max_gb:g}"
            )
            if args.teacher_cache == "on":
                raise UserError(f"{sentence}; raise it, or set teacher_cache to off.")
            logger.warning("No teacher cache: %s.", sentence)
            return
        try:
            with writing(folder):
                cache = TeacherCache(folder, max_bytes=int(args.cache_max_gb * 1e9))
                if args.teacher_cache == "auto":
                    self._read_speed = read_speed(folder)
        except UserError as error:
            if args.teacher_cache == "on":
                raise
            logger.warning("No teacher cache: %s", error)
            return
        self.cache = cache
        if args.process_index == 0:
            logger.warning("Teacher cache: about %.1f GB in %s.", gigabytes, folder)

    def _estimate(self, train_dataset: Any) -> float:
        """Estimate the bytes of the outputs for a data set. The estimate is 0 if the number of tokens is unknown."""
        if not isinstance(train_dataset, Dataset) or "input_ids" not in train_dataset.column_names:
            return 0.0
        column = train_dataset.with_format("arrow")["input_ids"][:]
        while types.is_list(column.type):  # a row may hold several sequences
            column = compute.list_flatten(column)
        tokens = len(column)
        per_token = 2 * len(self.layers) * _config(self.model).hidden_size
        if self.needs_logits:
            # The two logits of a span head. Most other heads have fewer logits for each token.
            per_token += 2 * self.dtype.itemsize
        return float(tokens * per_token)

    def _decide(self, output: EncoderOutput, started: float) -> None:
        """Drop the cache if reading the outputs of the first batches would take longer than computing them."""
        if self._read_speed is None:
            return
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        size = sum(z.numel() * 2 for z in output.hidden_states.values())
        size += sum(z.numel() * z.element_size() for z in output.logits.values())
        self._timed.append((time.perf_counter() - started, size))
        if len(self._timed) < PROBES:
            return
        seconds = sum(s for s, _ in self._timed[1:])
        reading = sum(size for _, size in self._timed[1:]) / self._read_speed
        self._read_speed = None
        if reading > seconds:
            logger.warning(
                "No teacher cache: reading would take %.2f s on this disk, but the teacher computes in %.2f s.",
                reading,
                seconds,
            )
            self.cache = None
