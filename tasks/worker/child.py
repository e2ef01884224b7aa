"""What a child process has to be before it runs anybody's code."""

from __future__ import annotations

import multiprocessing.forkserver
import os
import signal
from contextlib import suppress
from typing import Any

from tasks.worker import parent
from tasks.worker.stop import STOPS

OOM_SCORE = 500  # the kernel shall take the task, not the dispatcher
LAST_STANDARD_FILE = 2


def die_with_the_dispatcher() -> None:
    """The kernel ends this process with its parent, also while a handler holds the GIL.

    The parent is the forkserver, which lives as long as somebody has the other end of its
    pipe open; multiprocessing gives each child a copy, so that they would keep it alive.
    """
    forkserver: Any = multiprocessing.forkserver._forkserver  # there is no public way
    if forkserver._forkserver_alive_fd is not None:
        os.close(forkserver._forkserver_alive_fd)
        forkserver._forkserver_alive_fd = None
    parent.end_with_it(signal.SIGKILL, parent_pid=os.getppid())


def stand_alone() -> None:
    """A group of its own, so that what a handler starts can be killed with it; deaf to Ctrl-C."""
    os.setpgid(0, 0)
    for number in STOPS:
        signal.signal(number, _unheard)
        signal.siginterrupt(number, False)
    os.register_at_fork(before=_hold_signals, after_in_parent=_let_signals, after_in_child=_hear_again)
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write(str(OOM_SCORE))


def keep_files() -> None:
    """What came over a socket is inheritable: no program that a handler runs shall hold our lock."""
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # the listing's own
            os.set_inheritable(int(name), int(name) <= LAST_STANDARD_FILE)


def _unheard(number: int, frame: Any) -> None:
    """Do nothing. Ignoring a signal instead would be inherited by the programs that a handler runs."""


def end() -> None:
    """Now, and with all that handlers have started: there is nobody left to report to."""
    os.killpg(0, signal.SIGKILL)


def _hold_signals() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)


def _let_signals() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)


def _hear_again() -> None:
    """In a fork that a handler makes: it is to end like any other process, from its first moment."""
    for number in STOPS:
        signal.signal(number, signal.SIG_DFL)
    _let_signals()
