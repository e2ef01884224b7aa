"""No process outlives the one that it works for: the kernel sees to it, whatever the process does."""

from __future__ import annotations

import ctypes
import os

PR_SET_PDEATHSIG = 1  # prctl(2)
NOTHING = 0

_libc = ctypes.CDLL(None)


def when_parent_dies(number: int) -> None:
    """Send this signal to this process then; ``NOTHING`` takes it back."""
    _libc.prctl(PR_SET_PDEATHSIG, number)


def end_with_parent(number: int, *, parent_pid: int) -> None:
    """As above; and end now, if it is dead already."""
    when_parent_dies(number)
    if os.getppid() != parent_pid:
        os._exit(1)
