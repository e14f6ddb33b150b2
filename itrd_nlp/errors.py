"""The exceptions that end a run early, each with its exit code, and sentences about names and errors."""

from __future__ import annotations

import difflib
import signal
from collections.abc import Iterable

RESUME = "--resume_from_checkpoint true"


class UserError(ValueError):
    """Bad input: a file, a field or an argument that makes no sense, or a disk that takes no more.

    The message is one sentence for the person who gave the input. It names the file or argument, the value and what
    is allowed. The scripts print it on stderr and exit with code 2, without a traceback.
    """


class TrainingDiverged(RuntimeError):
    """A loss term became NaN or infinite. The message names the term, its layer pair and the step. Exit code 1."""


class TrainingInterrupted(Exception):
    """A signal asked the training to stop, and a checkpoint was saved. Exit code 128 + number of the signal.

    Args:
        signum: the signal.
        checkpoint: folder of the checkpoint.
        resume: options that take the training up, behind those that it was started with.
    """

    def __init__(self, signum: int, checkpoint: str, resume: str = RESUME) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}; {checkpoint} is saved.")
        self.signum = signum
        self.checkpoint = checkpoint
        self.resume = resume


def did_you_mean(
    name: str, names: Iterable[str], otherwise: str = ".", *, most: int = 1, prefix: str = ""
) -> str:
    """The end of a sentence about a name that does not exist: the closest names that do.

    Args:
        name: the name that was given.
        names: the names that exist.
        otherwise: the end of the sentence where no name is close.
        most: how many close names are shown.
        prefix: text in front of each name that is shown.

    Example:
        >>> "there is no option --sed" + did_you_mean("--sed", ["--seed", "--bf16"])
        'there is no option --sed; did you mean --seed?'
    """
    close = difflib.get_close_matches(name, names, n=most)
    shown = " or ".join(prefix + name for name in close)
    return f"; did you mean {shown}?" if close else otherwise


def first_line(error: Exception) -> str:
    """Return the message of an error of a library, in one line that ends with a full stop.

    Args:
        error: the error. An index, a type or a name that is missing says nothing alone, so its kind stands in front.
    """
    lines = str(error).strip().splitlines() or [""]
    # "Validation error for field 'hidden_size':" says nothing without the next line.
    first = " ".join(" ".join(lines).split()) if lines[0].endswith(":") else lines[0]
    if not first or isinstance(error, LookupError | TypeError | AttributeError):
        first = f"{type(error).__name__} {first}".strip()
    return first.rstrip(".") + "."
