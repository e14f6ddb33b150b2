"""What a command does to its process: exit codes, the record of how it was started, memory."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from itrd_nlp.cli.configs import find_config
from itrd_nlp.cli.memory import keep_freed_memory
from itrd_nlp.errors import TrainingDiverged, TrainingInterrupted, UserError
from itrd_nlp.publish.privacy import local_command, local_config
from itrd_nlp.yaml_files import read_config

_USUAL_OS_ERRORS = (
    errno.EACCES,
    errno.EDQUOT,
    errno.EEXIST,
    errno.EISDIR,
    errno.ENOENT,
    errno.ENOSPC,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
)


def run(main: Callable[[], object]) -> None:
    """Call the main function of a script; turn what a user can mend into one sentence on stderr and exit code 2.

    That is a `UserError`, and a file or folder that cannot be read or written (missing, no permission, disk full).
    A training that a signal stopped exits with 128 + its number and says how to resume; one whose loss is no number
    exits with 1. Every other exception is a bug, or somebody else's, and keeps its traceback.

    Memory is kept from the kernel for the whole process, see `itrd_nlp.cli.memory`.
    """
    keep_freed_memory()
    try:
        main()
        _leave_process_group()
    except UserError as error:
        # Each process of a distributed run meets the same bad input.
        _fail(str(error) if os.environ.get("RANK", "0") == "0" else None)
    except TrainingDiverged as error:
        _fail(str(error), code=1)
    except TrainingInterrupted as stop:
        resume = f"{command_line()} --resume_from_checkpoint true"
        if os.environ.get("RANK", "0") == "0":
            print(f"{stop} To resume: {resume}", file=sys.stderr)
        sys.exit(128 + stop.signum)
    except OSError as error:
        if error.errno not in _USUAL_OS_ERRORS:
            raise
        _fail(f"{error.filename}: {error.strerror}." if error.filename else f"{error.strerror}.")
    except KeyboardInterrupt:
        sys.exit(130)


def _leave_process_group() -> None:
    """What NCCL warns of where it is not done. Scripts that never loaded torch do not load it for this."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_initialized():
        distributed.destroy_process_group()


def command_line() -> str:
    """The command of this process, see `itrd_nlp.publish.privacy.local_command`."""
    return local_command(sys.argv)


def record() -> dict[str, Any]:
    """What a run remembers of how it was started.

    Returns:
        ``command``, and ``config`` with the name of the YAML file and its values as YAML, those of its bases
        included, if there was one; the name is the one that was typed. No secret is in either.
    """
    started: dict[str, Any] = {"command": command_line()}
    if len(sys.argv) > 1 and not sys.argv[1].startswith("-"):
        text = local_config(read_config(find_config(sys.argv[1])).values)
        started["config"] = {"name": Path(sys.argv[1]).name, "text": text}
    return started


def _fail(sentence: str | None, code: int = 2) -> NoReturn:
    if sentence is not None:
        print(f"error: {sentence}", file=sys.stderr)
    sys.exit(code)
