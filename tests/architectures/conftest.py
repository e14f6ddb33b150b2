"""The tiny models of the benchmarks, which are no package that is installed."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
try:
    from benchmarks.architectures import outcomes, page, tiny
finally:
    sys.path.remove(str(ROOT))


@pytest.fixture(scope="session")
def architectures() -> ModuleType:
    """The module that makes tiny models."""
    return tiny


@pytest.fixture(scope="session")
def trials() -> ModuleType:
    """The module that tries each step with them."""
    return outcomes


@pytest.fixture(scope="session")
def pages() -> ModuleType:
    """The module that writes `docs/models.md`."""
    return page
