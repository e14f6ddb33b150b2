"""A workshop with models and data of an earlier version, and commands that run in it in this process."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import io
import shutil
import signal
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from itrd_nlp.cli import process
from itrd_nlp.cli.main import subcommands

OLD = Path(__file__).parents[1] / "old_files"
SECONDS = 120


def make_workshop(root: Path) -> Path:
    """A copy of the files."""
    return shutil.copytree(OLD, root, ignore=shutil.ignore_patterns("*.py", "__pycache__"))


def content(root: Path, but: list[str]) -> dict[str, str]:
    """A digest of every file of the workshop."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if any(name == part or name.startswith(f"{part}/") for part in but):
            continue
        if path.is_symlink():
            found[name] = "link"
        elif stat.S_ISREG(path.stat().st_mode):
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            found[name] = "folder" if path.is_dir() else "pipe"
    return found


def outcome(arguments: list[str]) -> tuple[int, str]:
    """The exit code of a command, and the last line of stderr."""

    def too_long(*_: Any) -> None:
        raise TimeoutError(f"it takes longer than {SECONDS} seconds")

    name, *rest = arguments
    module = importlib.import_module(f"itrd_nlp.cli.commands.{subcommands()[name].stem}")
    errors = io.StringIO()
    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(SECONDS)
    try:
        with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(errors):
            patch.setattr(sys, "argv", [f"itrd-nlp {name}", *rest])
            try:
                process.run(module.main)
            except SystemExit as stop:
                return int(stop.code or 0), errors.getvalue().strip().splitlines()[-1]
        return 0, ""
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
