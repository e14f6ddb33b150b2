"""A frozen teacher: what it says of a batch, computed or read from its cache."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from huggingface_hub.constants import HF_HOME
from transformers import PreTrainedModel

from itrd_nlp.distillation.arguments import ITRDTrainingArguments
from itrd_nlp.distillation.teacher_cache import TeacherCache, read_speed
from itrd_nlp.errors import UserError
from itrd_nlp.losses.outputs import EncoderOutput
from itrd_nlp.models.early_exit import hidden_states_up_to, holds_its_layers_in_a_list
from itrd_nlp.models.encode import encode
from itrd_nlp.training.identity import weights_digest

logger = logging.getLogger(__name__)

PROBES = 3  # batches that are timed before `teacher_cache: auto` decides; the first warms up


def cache_folder(model: PreTrainedModel, args: ITRDTrainingArguments) -> Path:
    """Where the cache keeps what this teacher says: a folder for its weights in their dtype."""
    folder = Path(args.teacher_cache_dir or Path(HF_HOME) / "itrd_nlp" / "teacher_cache")
    dtype = str(model.dtype).removeprefix("torch.")
    return folder / f"{weights_digest(model)}-{dtype}"


class Teacher:
    """Runs a teacher on batches, or reads what it said of them before.

    Where no logits are needed (``w_kd: 0``) it stops after the highest layer that the objective reads.

    With ``teacher_cache: auto`` the first batches are timed, and the cache is left aside where the disk would take
    longer than the teacher, or where it would not fit below ``cache_max_gb``. The cache does not keep queries, keys and
    values, so that it is left aside, too, where a peer reads those.

    Args:
        model: frozen, in evaluation mode, on its device.
        layers: of the hidden states that the objective reads.
        args: whether logits are needed, and the cache.
        train_dataset: to estimate the size of the cache; None where its size is not known.

    Raises:
        UserError: ``teacher_cache: on``, and the cache would be larger than ``cache_max_gb``.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        layers: Sequence[int],
        args: ITRDTrainingArguments,
        train_dataset: Any = None,
    ) -> None:
        self.model = model
        self.layers = sorted(set(layers))
        self.needs_logits = args.w_kd > 0
        self.needs_attention = args.needs_attention
        self.stops_early = (
            not self.needs_logits
            and not self.needs_attention
            and max(self.layers) < model.config.num_hidden_layers
            and holds_its_layers_in_a_list(model)
        )
        self.cache: TeacherCache | None = None
        self._read_speed: float | None = None
        self._timed: list[tuple[float, int]] = []  # seconds and bytes of a batch
        if args.teacher_cache != "off" and self.needs_attention:
            logger.warning("No teacher cache: it does not keep what the peer_losses read.")
        elif args.teacher_cache != "off":
            self._open_cache(args, train_dataset)

    def __call__(self, inputs: dict[str, Any]) -> EncoderOutput:
        """The outputs for a batch without labels. They carry no gradient; the logits may be saved for a backward."""
        if self.cache is not None:
            cached = self.cache.read(inputs, layers=self.layers, logits=self.needs_logits)
            if cached is not None:
                return cached
        started = time.perf_counter()
        with torch.inference_mode():
            if self.stops_early:
                output = EncoderOutput({}, hidden_states_up_to(self.model, inputs, self.layers))
            else:
                output = encode(self.model, inputs, self.layers, attention=self.needs_attention)[1]
        # KD saves the teacher's probabilities for its backward, which inference tensors refuse.
        logits = {name: value.clone() for name, value in output.logits.items()}
        output = dataclasses.replace(output, logits=logits)
        if self.cache is not None:
            self._decide(output, started)
        if self.cache is not None:
            self.cache.write(inputs, output)
        return output

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
        self.cache = TeacherCache(folder, max_bytes=int(args.cache_max_gb * 1e9))
        if args.teacher_cache == "auto":
            self._read_speed = read_speed(folder)
        if args.process_index == 0:
            logger.warning("Teacher cache: about %.1f GB in %s.", gigabytes, folder)

    def _estimate(self, train_dataset: Any) -> float:
        """Bytes that the outputs for a data set take, 0 where its number of tokens is not known."""
        if not isinstance(train_dataset, Dataset) or "input_ids" not in train_dataset.column_names:
            return 0.0
        column = train_dataset.with_format("arrow")["input_ids"][:]
        tokens = sum(len(chunk.flatten()) for chunk in column.chunks)
        per_token = 2 * len(self.layers) * self.model.config.hidden_size
        if self.needs_logits:
            per_token += 2 * self.model.dtype.itemsize  # of a span head; others say less per token
        return float(tokens * per_token)

    def _decide(self, output: EncoderOutput, started: float) -> None:
        """Compare the teacher's time for the first batches with what reading their outputs would take."""
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
                "No teacher cache: this disk would take %.2f s for what the teacher says in %.2f s.",
                reading,
                seconds,
            )
            self.cache = None
