"""Start a command by accelerate, in one process or in many, and end with its exit code and its last sentence.

    itrd-nlp launch --config_file configs/accelerate/ddp_bf16.yaml --num_processes 4 train-squad bert_base_t6
    python scripts/launch.py scripts/train_squad.py configs/minilm/minilm_t3.yaml

The options are those of `accelerate launch`, and do the same. A command of itrd-nlp, or a script, follows them with
options of its own. `accelerate launch` itself ends a command that failed with a traceback of its own and exit code 1.
A signal goes to all processes that were started here, and the launcher waits for their checkpoint.
"""

import logging
import os
import signal
import subprocess
import sys
from typing import Any

from itrd_nlp.errors import UserError
from itrd_nlp.training.children import STOPS


def main() -> None:
    from accelerate.commands.launch import launch_command, launch_command_parser
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from yaml import YAMLError

    from itrd_nlp.cli.main import subcommands

    arguments = sys.argv[1:]
    parser = launch_command_parser()
    parser.prog = "itrd-nlp launch"
    args = parser.parse_args(arguments or ["--help"])
    _name_command(args, set(subcommands()))
    # It would warn of every option that nobody gave and that has its usual value.
    logging.getLogger("accelerate.commands.launch").setLevel(logging.ERROR)
    # It would print a table of its processes behind their own last words.
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    for number in STOPS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _pass_on)
    try:
        launch_command(args)
    except subprocess.CalledProcessError as error:
        sys.exit(_shell_code(error.returncode))
    except ChildFailedError as error:
        _, first = error.get_first_failure()
        sys.exit(_shell_code(first.exitcode))
    except SignalException as stop:  # several processes: torch has passed it on, and waited
        sys.exit(_shell_code(-stop.sigval))
    except (OSError, ValueError, YAMLError) as error:  # accelerate's own: nothing was started
        raise UserError(" ".join(str(error).split())) from error


def _name_command(args: Any, commands: set[str]) -> None:
    """Let accelerate start a command of itrd-nlp where the first word names one."""
    if args.training_script in commands:
        args.training_script_args = [args.training_script, *args.training_script_args]
        args.training_script, args.module = "itrd_nlp", True
        # As -P: a file of this folder must not take the place of a library, as it does not under `itrd-nlp`.
        os.environ["PYTHONSAFEPATH"] = "1"


def _shell_code(code: int) -> int:
    """The exit code of a process as a shell has it: 128 + the number of the signal that ended it."""
    return code if code >= 0 else 128 - code


def _pass_on(number: int, _: object) -> None:
    """Ask the one process that accelerate has started to save and leave. The launcher goes on to wait for it.

    Where it starts several, torch puts handlers of its own in the place of this one.
    """
    import psutil  # type: ignore[import-untyped]

    children = psutil.Process().children()
    if not children:
        sys.exit(_shell_code(-number))
    if number == signal.SIGINT and _is_in_foreground():
        return  # a Ctrl-C has reached the child, too, and a second signal would end it without a checkpoint
    for child in children:
        child.terminate()


def _is_in_foreground() -> bool:
    """Whether a terminal sends its signals to this process and its child."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    finally:
        os.close(terminal)
