"""Imported once by the forkserver: what every executor shares, and no connection to anything."""

from __future__ import annotations

import atexit
import gc
import os
import signal
from contextlib import suppress

from tasks.worker import parent
from tasks.worker.stop import STOPS

parent.at_its_end(signal.SIGKILL)  # as long as it loads it hears nothing, and a user's module may hang

for number in STOPS:  # these mean the dispatcher, which ends us
    signal.signal(number, signal.SIG_IGN)

import django  # noqa: E402 - it takes a while, and a signal may come

django.setup()

from tasks import registry  # noqa: E402 - needs the settings
from tasks.worker import executor  # noqa: E402, F401 - shared by all executors

registry.load()


def end_executors() -> None:
    """With all that their handlers have started: when its dispatcher dies, the forkserver ends in order."""
    with suppress(FileNotFoundError), open(f"/proc/self/task/{os.getpid()}/children") as file:
        for pid in map(int, file.read().split()):
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)


atexit.register(end_executors)
parent.at_its_end(parent.NO_SIGNAL)  # from here on it hears of its dispatcher's end by itself
gc.collect()
gc.freeze()  # what is here stays: no collection touches it, so that its pages stay shared
