"""Let a thread of OpenMP that has nothing to do give its core away soon, so that a busy machine does not crawl."""

from __future__ import annotations

import os

_VARIABLE = "GOMP_SPINCOUNT"
_CHOICES = (_VARIABLE, "OMP_WAIT_POLICY")
_SPINS = 10_000


def spin_briefly() -> bool:
    """Shorten the time that an idle thread of OpenMP spins before it sleeps, for this process and its children.

    A thread that has finished its part of an operation spins for a while until the others have finished theirs. Where
    other processes want the cores, those threads get none in this time. `docs/performance.md` has the
    measurement.

    Call it before torch is loaded, which reads the variable then. ``GOMP_SPINCOUNT`` and ``OMP_WAIT_POLICY`` win over
    it. Another OpenMP than GNU's does not read it.

    Returns:
        Whether the variable was set here.
    """
    if any(name in os.environ for name in _CHOICES):
        return False
    os.environ[_VARIABLE] = str(_SPINS)
    return True
