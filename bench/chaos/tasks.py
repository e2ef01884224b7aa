"""The handler that runs under fire; loaded because ``TASKSERVICE_APPS`` names this package."""
# the stubs of django.tasks know Django's own options alone
# mypy: disable-error-code="call-overload, untyped-decorator"

from __future__ import annotations

import fcntl
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.tasks import task

from bench.chaos import NOTES, RUNS, append, folder
from bench.chaos.kinds import BACKOFF, HANDLER, MANY


class Planned(Exception):
    """A failure that was asked for."""


@task(public_name=HANDLER, takes_context=True, max_attempts=MANY, backoff=BACKOFF)
def work(context: Any, kind: str, seconds: float, megabytes: int = 0, failures: int = 0) -> int:
    """Run for a while, and leave a note of its start and its end. Returns the fence it ran under.

    ``megabytes`` of memory make its process slow to die. The first so many ``failures`` attempts raise.
    """
    with _run_of(str(context.task_id), context.fence) as other:
        note("start", context)
        if other:
            note("overlap", context, other)
        ballast = bytearray(megabytes * 2**20)
        try:
            time.sleep(seconds)
            _misbehave(kind, failing=context.attempt <= failures)
        except BaseException:
            note("interrupted", context)
            raise
        del ballast
        note("end", context)
    return int(context.fence)


def _misbehave(kind: str, *, failing: bool) -> None:
    if kind == "poison":
        os.kill(os.getpid(), signal.SIGKILL)
    if failing:
        raise Planned(kind)


@contextmanager
def _run_of(task_id: str, fence: int) -> Iterator[str]:
    """Hold a lock in this task's name; yields the fence of the run that holds it already, if one does.

    The kernel lets go of it at the very end of a process, however that comes.
    """
    file = os.open(folder() / RUNS / task_id, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        yield _lock(file, fence)
    finally:
        os.close(file)


def _lock(file: int, fence: int) -> str:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.pread(file, 32, 0).decode() or "0"
    os.ftruncate(file, 0)
    os.pwrite(file, str(fence).encode(), 0)
    return ""


def note(kind: str, context: Any, *words: object) -> None:
    about = (context.task_id, context.fence, context.attempt, os.getpid(), *words)
    append(folder() / NOTES, " ".join(map(str, (kind, time.monotonic(), *about))))
