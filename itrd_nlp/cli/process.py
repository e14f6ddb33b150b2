"""The process of a command: its exit codes, its memory, and the record of how it was started."""

from __future__ import annotations

import errno
import io
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from itrd_nlp.cli.configs import find_config
from itrd_nlp.cli.memory import keep_freed_memory
from itrd_nlp.cli.threads import spin_briefly
from itrd_nlp.errors import TrainingDiverged, TrainingInterrupted, UserError
from itrd_nlp.files import keep_out
from itrd_nlp.publish.privacy import (
    local_command,
    local_config,
    secrets_of_command,
    without_tokens,
)
from itrd_nlp.training.yaml_files import read_config

_USUAL_OS_ERRORS = (
    errno.EACCES,
    errno.EDQUOT,
    errno.EEXIST,
    errno.EFBIG,
    errno.EIO,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENOENT,
    errno.ENOSPC,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
    errno.ESTALE,
)
# Seconds. A launcher ends the other processes in this time where the first one has met the same error.
WAIT_FOR_THE_FIRST = 10.0
LONGEST_SENTENCE = 1500
# transformers imports torchao where it is installed. Both then warn of parts for GPUs that nobody asked for.
_NOISY = ("torchao", "torch.utils._pytree")
_BROKEN_PIPE = 128 + signal.SIGPIPE


def run(main: Callable[[], object]) -> None:
    """Call the main function of a command. Where the user can mend an error, it is one sentence on stderr.

    Exit codes:

    - 2: a `UserError`, or a file or folder that cannot be read or written (missing, no permission, disk full).
    - 1: the loss of a training is no number; or a training of a comparison failed, and a line names it.
    - 128 + the number of a signal: the signal stopped a training, and the sentence says how to resume; or nobody reads
      the output any more.

    Every other exception is a bug, here or elsewhere, and keeps its traceback.

    Memory is kept from the kernel for the whole process, see `itrd_nlp.cli.memory`, and threads spin briefly, see
    `itrd_nlp.cli.threads`.
    """
    keep_freed_memory()
    spin_briefly()
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.ERROR)
    keep_out(*secrets_of_command(sys.argv))  # before a sentence about a wrong argument quotes it
    try:
        _check_process()
        main()
        sys.stdout.flush()
        _leave_process_group()
    except UserError as error:
        _fail(str(error))
    except TrainingDiverged as error:
        _fail(str(error), code=1)
    except TrainingInterrupted as stop:
        if os.environ.get("RANK", "0") == "0":
            print(f"{stop} {_how_to_resume(stop)}", file=sys.stderr)
        sys.exit(128 + stop.signum)
    except BrokenPipeError:  # such as `| head`, which has what it wants
        # Python would write what is left at its exit, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(_BROKEN_PIPE)
    except OSError as error:
        if error.errno not in _USUAL_OS_ERRORS:
            raise
        _fail(f"{error.filename}: {error.strerror}." if error.filename else f"{error.strerror}.")
    except KeyboardInterrupt:
        sys.exit(130)


def _how_to_resume(stop: TrainingInterrupted) -> str:
    """The command that takes a training up. That of a launcher is not known to the processes that it started."""
    processes = os.environ.get("WORLD_SIZE", "1")
    if processes != "1":
        return f"To resume: the same command of the launcher, with {processes} processes, and {stop.resume} at its end."
    command = command_line()
    return f"To resume: {command if command.endswith(stop.resume) else f'{command} {stop.resume}'}"


def _check_process() -> None:
    """Refuse what would cost the results of a command at its end.

    Raises:
        UserError: the output is closed, or an argument is no text.
    """
    if sys.stdout is None:
        raise UserError(
            "the standard output is closed, but a command writes there; send it to a file, or to /dev/null."
        )
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal may know few characters
    for word in sys.argv:
        try:
            word.encode()
        except UnicodeEncodeError:
            raise UserError(
                f"the argument {word!r} is not text in UTF-8, so no record could name it; rename the file."
            ) from None


def _leave_process_group() -> None:
    """Leave the process group, for NCCL warns where nobody does. A command without torch does not load it for this."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_initialized():
        distributed.destroy_process_group()


def command_line() -> str:
    """The command of this process, see `itrd_nlp.publish.privacy.local_command`."""
    return local_command(sys.argv)


def record() -> dict[str, Any]:
    """The record of how a run was started.

    Returns:
        ``command``, and ``config`` with the name of the YAML file and its values as YAML, those of its bases
        included, if there was one; the name is the one that was typed. No secret is in either.
    """
    started: dict[str, Any] = {"command": command_line()}
    if len(sys.argv) > 1 and not sys.argv[1].startswith("-"):
        text = local_config(read_config(find_config(sys.argv[1])).values)
        started["config"] = {"name": Path(sys.argv[1]).name, "text": text}
    return started


def _fail(sentence: str, code: int = 2) -> NoReturn:
    """Print a sentence as the last one on stderr, and exit.

    All processes of a distributed run may meet the same error. The first one prints it at once, and the launcher then
    ends the others. One of them that is still there after `WAIT_FOR_THE_FIRST` met the error alone and prints it, too.
    """
    rank = os.environ.get("RANK", "0")
    if rank != "0":
        time.sleep(WAIT_FOR_THE_FIRST)
        sentence = f"process {rank}: {sentence}"
    print(f"error: {_readable(without_tokens(sentence))}", file=sys.stderr)
    sys.exit(code)


def _readable(sentence: str) -> str:
    """Leave out the middle of a sentence that quotes a value of thousands of characters."""
    if len(sentence) <= LONGEST_SENTENCE:
        return sentence
    half = LONGEST_SENTENCE // 2
    return f"{sentence[:half]} [...] {sentence[-half:]}"
