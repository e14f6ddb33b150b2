"""Keep freed memory in the process, so that a training step on the CPU does not fault its pages in again."""

from __future__ import annotations

import ctypes
import os
import platform

_M_TRIM_THRESHOLD = -1  # numbers of glibc's <malloc.h>
_M_MMAP_MAX = -4
_M_ARENA_MAX = -8

_OTHER_ALLOCATORS = ("jemalloc", "mimalloc", "tbbmalloc", "tcmalloc")


def keep_freed_memory() -> bool:
    """Tell glibc's malloc to keep what is freed, for the rest of the process.

    By default glibc takes a large block (an activation of some MB) from the kernel and returns it when it is freed.
    The kernel zeroes every page again when the next training step touches it, which can cost more than the
    arithmetic. Afterwards blocks come from one heap that never shrinks. The process then holds its peak
    memory, and somewhat more because of fragmentation.

    Call it before the first large allocation. Environment variables of malloc win over it.

    Returns:
        True where it took effect. False, and nothing is changed, where the C library is not glibc, where another
        allocator is preloaded, or where the user has set ``MALLOC_*`` or malloc's ``GLIBC_TUNABLES``.
    """
    if platform.libc_ver()[0] != "glibc" or _user_chose_otherwise():
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = (
        (_M_MMAP_MAX, 0),  # large blocks from the heap, not from a mapping of their own
        (_M_TRIM_THRESHOLD, -1),  # the top of the heap is never returned
        (_M_ARENA_MAX, 1),  # the heaps of further threads would be unmapped when they are empty
    )
    return all([mallopt(name, value) == 1 for name, value in settings])


def _user_chose_otherwise() -> bool:
    preloaded = os.environ.get("LD_PRELOAD", "")
    return (
        any(name in preloaded for name in _OTHER_ALLOCATORS)
        or any(name.startswith("MALLOC_") for name in os.environ)
        or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "")
    )
