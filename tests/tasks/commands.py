"""Commands of `itrd-nlp` in the process of a test, and files of JSON lines."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from itrd_nlp.cli.main import subcommands
from itrd_nlp.errors import UserError


def command(name: str, *arguments: str, stdin: bytes | None = None) -> str:
    """Run a command of `itrd-nlp` in this process. Returns stdout; a refusal is raised."""
    module = importlib.import_module(f"itrd_nlp.cli.commands.{subcommands()[name].stem}")
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out):
        patch.setenv("COLUMNS", "160")
        patch.setattr(sys, "argv", [f"itrd-nlp {name}", *arguments])
        if stdin is not None:
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        module.main()
    return out.buffer.getvalue().decode()


def run(name: str, *arguments: str, stdin: bytes | None = None) -> tuple[int, str]:
    """See `command`. Returns the exit code, and stdout or the sentence of a refusal."""
    try:
        return 0, command(name, *arguments, stdin=stdin)
    except UserError as error:
        return 2, str(error)


def done(name: str, *arguments: str, stdin: bytes | None = None) -> str:
    code, out = run(name, *arguments, stdin=stdin)
    assert code == 0, out
    return out


def refused(name: str, *arguments: str, stdin: bytes | None = None) -> str:
    code, out = run(name, *arguments, stdin=stdin)
    assert code == 2, out
    return out


def read(path: str) -> Any:
    return json.loads(Path(path).read_text())


def rows_of(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def write_rows(path: str, rows: list[dict[str, Any]]) -> None:
    Path(path).write_text("\n".join(map(json.dumps, rows)))
