"""Idle threads of OpenMP spin briefly, unless the user wants it otherwise. GNU's OpenMP itself says what it took."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

VARIABLES = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
CODE = """
from itrd_nlp.cli import process
process.run(lambda: __import__("torch"))
"""


def spins(**variables: str) -> str | None:
    """The number of spins that OpenMP shows when it is loaded by a command; None where it is not GNU's."""
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    environment |= {"OMP_DISPLAY_ENV": "VERBOSE", **variables}
    done = subprocess.run(
        [sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=True
    )
    found = re.search(r"GOMP_SPINCOUNT\s*=\s*'(\w+)'", done.stderr)
    return found and found[1]


def test_a_command_lets_threads_spin_briefly() -> None:
    found = spins()
    if found is None:
        pytest.skip("torch has another OpenMP than GNU's")
    assert found == "10000"


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [("GOMP_SPINCOUNT", "77", "77"), ("OMP_WAIT_POLICY", "PASSIVE", "0")],
)
def test_the_variables_of_the_user_win(name: str, value: str, expected: str) -> None:
    assert spins(**{name: value}) in (expected, None)
