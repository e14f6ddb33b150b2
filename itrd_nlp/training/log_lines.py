"""The log of a training as lines that a person reads.

transformers prints each row of the log as a dictionary, and a distillation has some twenty values in it. Here a row is
one line with the loss, its terms and the learning rate. History and trackers get every value as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers import (
    PrinterCallback,
    ProgressCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

# `step` and `lr` say these. The norm of the gradient is for trackers.
_NOT_SHOWN = ("epoch", "learning_rate", "grad_norm", "total_flos", "loss")
_TIMES = ("_runtime", "_per_second", "_time")


def log_line(logs: Mapping[str, Any], state: TrainerState) -> str:
    """Return one line for a row of the log.

    Args:
        logs: the row: of some steps, of an evaluation, or of the whole training.
        state: of the trainer.

    Returns:
        The loss with its terms, without those of each layer pair by itself; the metrics of the evaluation; or the
        number of steps and their time.

    Example:
        >>> log_line({"loss": 3.25, "kd": 0.5, "corr_1:2": 7.0, "corr": 7.0, "learning_rate": 3e-4}, state)
        'step   50/250  loss      3.25  kd       0.5  corr         7  lr    0.0003'
    """
    if "train_loss" in logs:  # include_num_input_tokens_seen puts a time into every row
        seconds = logs["train_runtime"]
        return f"{state.global_step} steps in {seconds:.0f} s, mean loss {logs['train_loss']:.4g}"
    width = len(str(state.max_steps))
    step = f"step {state.global_step:>{width}}/{state.max_steps}"
    if "loss" not in logs:
        return "  ".join([step, *_metrics(logs)])
    terms = {
        n: v
        for n, v in logs.items()
        if n not in _NOT_SHOWN and ":" not in n and not n.endswith(_TIMES)
    }
    shown = {"loss": logs["loss"], **terms, "lr": logs.get("learning_rate")}
    cells = [f"{name} {_cell(value)}" for name, value in shown.items() if value is not None]
    return "  ".join([step, *cells])


def _cell(value: Any) -> str:
    """A value of the log. A callback of the user may put a text there."""
    return f"{value:>9.4g}" if isinstance(value, int | float) else f"{value!s:>9}"


def _metrics(logs: Mapping[str, Any]) -> list[str]:
    """The metrics of an evaluation, without its times."""
    shown = {n: v for n, v in logs.items() if n not in _NOT_SHOWN and not n.endswith(_TIMES)}
    return [f"{n} {v:.4g}" if isinstance(v, float) else f"{n} {v}" for n, v in shown.items()]


class ProgressLines(ProgressCallback):
    """The progress bar of transformers, above which each row of the log is one line."""

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Write the line above the bar."""
        if logs and self.training_bar is not None:
            self.training_bar.write(log_line(logs, state))


class PrintedLines(PrinterCallback):
    """Each row of the log as one line, without a bar: for `disable_tqdm`."""

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Print the line."""
        if logs and state.is_local_process_zero:
            print(log_line(logs, state))


def with_readable_lines(callbacks: list[TrainerCallback]) -> list[TrainerCallback]:
    """Return callbacks with ours in place of the two of transformers that print. A user's own are kept."""
    ours: dict[type, type[TrainerCallback]] = {
        ProgressCallback: ProgressLines,
        PrinterCallback: PrintedLines,
    }
    return [ours[type(c)]() if type(c) in ours else c for c in callbacks]
