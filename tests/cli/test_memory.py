"""Freed memory stays in the process, unless the user or the C library wants it otherwise."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from itrd_nlp.cli import memory

on_glibc = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="page faults are tuned on glibc only"
)

# Blocks of 8 to 24 MB, touched page by page and freed again, as the activations of a training step are.
FAULTS = """
import ctypes, resource, sys
from itrd_nlp.cli.memory import keep_freed_memory

if sys.argv[1] == "keep":
    assert keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]

def step():
    blocks = [(libc.malloc(mb << 20), mb << 20) for mb in (8, 16, 24)]
    for block, size in blocks:
        ctypes.memset(block, 1, size)
    for block, _ in blocks:
        libc.free(block)

step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def run(code: str, *args: str, **variables: str) -> str:
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("MALLOC_") and name not in ("GLIBC_TUNABLES", "LD_PRELOAD")
    }
    command = [sys.executable, "-c", code, *args]
    result = subprocess.run(
        command, env={**environment, **variables}, capture_output=True, text=True, check=True
    )
    return result.stdout.strip()


@on_glibc
def test_a_step_faults_in_at_least_five_times_fewer_pages() -> None:
    default, kept = int(run(FAULTS, "default")), int(run(FAULTS, "keep"))
    assert default > 5 * (48 << 20) / os.sysconf("SC_PAGE_SIZE") / 2  # else there is nothing to win
    assert kept * 5 <= default


@on_glibc
@pytest.mark.parametrize(
    "variable",
    [
        {"MALLOC_ARENA_MAX": "4"},
        {"MALLOC_TRIM_THRESHOLD_": "131072"},
        {"GLIBC_TUNABLES": "glibc.malloc.arena_max=2"},
    ],
    ids=lambda variable: next(iter(variable)),
)
def test_what_the_user_has_set_stays(variable: dict[str, str]) -> None:
    code = "from itrd_nlp.cli.memory import keep_freed_memory; print(keep_freed_memory())"
    assert run(code, **variable) == "False"
    assert run(code) == "True"


@pytest.mark.parametrize("library", ["libtcmalloc.so.4", "/usr/lib/libjemalloc.so.2"])
def test_another_allocator_is_left_alone(monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    monkeypatch.setenv("LD_PRELOAD", library)
    assert memory.keep_freed_memory() is False


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda _: pytest.fail("touched the C library"))
    assert memory.keep_freed_memory() is False
