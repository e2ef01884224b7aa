"""A process ends with its parent: the kernel sees to it, whatever the process does."""

from __future__ import annotations

import ctypes
import os

PR_SET_PDEATHSIG = 1  # prctl(2)
NO_SIGNAL = 0

_libc = ctypes.CDLL(None)


def at_its_end(number: int) -> None:
    """Send this signal to this process then; ``NO_SIGNAL`` takes it back."""
    _libc.prctl(PR_SET_PDEATHSIG, number)


def end_with_it(number: int, *, parent_pid: int) -> None:
    """As above; and end now, if it is dead already."""
    at_its_end(number)
    if os.getppid() != parent_pid:
        os._exit(1)
