"""The handler that runs under fire; loaded because ``TASKSERVICE_APPS`` names this package."""
# the stubs of django.tasks know Django's own options alone
# mypy: disable-error-code="call-overload, untyped-decorator"

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from django.tasks import task

from bench.chaos import NOTES, RUNS, append, folder
from tasks.backoff import Backoff

BACKOFF = Backoff(initial=timedelta(seconds=0.2), max=timedelta(seconds=1))
MANY = 100  # attempts: each kill uses one


@task(public_name="chaos.work", takes_context=True, max_attempts=MANY, backoff=BACKOFF)
def work(context: Any, seconds: float, megabytes: int = 0) -> int:
    """Run for a while, and leave a note of its start and its end. Returns the fence it ran under.

    ``megabytes`` of memory make its process slow to die.
    """
    words = (context.task_id, context.fence, os.getpid())
    with _run_of(str(context.task_id), context.fence) as others:
        note("start", *words)
        for other in others:
            note("overlap", *words, other)
        ballast = bytearray(megabytes * 2**20)
        time.sleep(seconds)
        del ballast
        note("end", *words)
    return int(context.fence)


@contextmanager
def _run_of(task_id: str, fence: int) -> Iterator[list[str]]:
    """Hold a lock in this task's name; yields the fence of the run that holds it already, if one does.

    The kernel lets go of it at the very end of a process, however that comes.
    """
    file = os.open(folder() / RUNS / task_id, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        yield _lock(file, fence)
    finally:
        os.close(file)


def _lock(file: int, fence: int) -> list[str]:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return [os.pread(file, 32, 0).decode() or "?"]
    os.ftruncate(file, 0)
    os.pwrite(file, str(fence).encode(), 0)
    return []


def note(*words: object) -> None:
    append(folder() / NOTES, words[0], time.monotonic(), *words[1:])
