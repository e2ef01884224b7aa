"""Handlers that react to interrupts, leave things behind, return oddities, or are listened to."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import os
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import repeat
from typing import Any

from asgiref.sync import sync_to_async
from django import tasks as django_tasks
from django.db import connection, transaction

from tasks.backoff import Backoff
from tasks.errors import GiveUp, Retry
from tasks.models import Queue
from tasks.registry import ServiceTask
from tasks.tests.faults.tasks import _note

SOON = Backoff(initial=timedelta(seconds=0.05), max=timedelta(seconds=0.1))


def antic(name: str, **options: Any) -> Callable[[Callable[..., Any]], ServiceTask]:
    """``@task`` for the handler ``antic.<name>``; the types of Django's own do not know our options."""
    decorator: Any = django_tasks.task
    made: Callable[[Callable[..., Any]], ServiceTask] = decorator(public_name=f"antic.{name}", **options)
    return made


# --- how they answer an interrupt


@antic("holds_the_gil_and_sleeps")
def holds_the_gil_and_sleeps(seconds: float) -> None:
    """An interrupt that comes meanwhile finds it on the way into a call that blocks."""
    hold_the_gil = ctypes.PyDLL(None).usleep
    hold_the_gil(int(seconds * 1_000_000))
    time.sleep(60)


@antic("reacts", takes_context=True)
def reacts(context: Any, how: str, path: str, seconds: float = 60) -> str:
    """Append ``start …``, sleep, and answer an interrupt with a value or with an error of its own."""
    try:
        _note(path, "start", context.task_id, context.attempt, context.fence, os.getpid())
        time.sleep(seconds)
    except BaseException:
        REACTIONS[how]()
    return how


REACTIONS: dict[str, Callable[[], object]] = {
    "value": lambda: None,
    "error": lambda: 1 / 0,
    "give up": lambda: raise_(GiveUp("asked to stop")),
    "retry": lambda: raise_(Retry()),
    "exit": lambda: raise_(SystemExit(1)),
}


def raise_(error: BaseException) -> None:
    raise error


@antic("reacts_async", takes_context=True)
async def reacts_async(context: Any, how: str, path: str, seconds: float = 60) -> str:
    """As ``antic.reacts``."""
    try:
        _note(path, "start", context.task_id, context.attempt, context.fence, os.getpid())
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        REACTIONS[how]()
    return how


@antic("nests")
def nests(seconds: float = 60) -> None:
    """Sleep a few calls deep, for its traceback."""
    _innermost_of_the_handler(seconds)


def _innermost_of_the_handler(seconds: float) -> None:
    time.sleep(seconds)


@antic("spins")
def spins(seconds: float) -> int:
    """Be busy in Python."""
    until, turns = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        turns += 1
    return turns


@antic("slow_once", takes_context=True, backoff=SOON)
def slow_once(context: Any, seconds: float = 60) -> int:
    """Run too long at the first attempt only."""
    if context.attempt == 1:
        time.sleep(seconds)
    return int(context.attempt)


@antic("waits_in_sync_code")
async def waits_in_sync_code(seconds: float = 3600) -> None:
    """An async handler that is deaf, because it waits for a thread."""
    await sync_to_async(time.sleep)(seconds)


@antic("blocks_its_loop")
async def blocks_its_loop(seconds: float = 3600) -> None:
    """An async handler that never lets its loop run."""
    time.sleep(seconds)  # on purpose


@antic("grandchildren")
def grandchildren(path: str) -> None:
    """Wait for a shell that waits for another process; append both ids to ``path``."""
    shell = subprocess.Popen(["sh", "-c", "sleep 3600 & echo $! >> $0; wait", path])
    _note(path, shell.pid)
    while True:
        try:
            shell.wait()
        except BaseException:  # deaf on purpose
            continue


@antic("records_and_ignores", takes_context=True)
def records_and_ignores(context: Any, path: str) -> None:
    """Append ``start …`` and ignore whatever comes."""
    _note(path, "start", context.task_id, context.attempt, context.fence, os.getpid())
    while True:
        try:
            time.sleep(0.05)
        except BaseException:
            continue


@antic("mostly_short", takes_context=True)
def mostly_short(context: Any, path: str, how: str = "", seconds: float = 0) -> None:
    """Append ``start …`` and ``end …``; between them sleep, or hold the GIL in C, when asked to."""
    words = (context.task_id, context.attempt, context.fence, os.getpid(), time.time())
    _note(path, "start", *words)
    if how == "deaf":
        deque(repeat(None, 10**13), maxlen=0)
    time.sleep(seconds)
    _note(path, "end", *words)


class Dying:
    def __del__(self) -> None:
        time.sleep(60)


@antic("is_interrupted_in_del")
def is_interrupted_in_del() -> None:
    """Be interrupted where Python drops what is raised, and go on."""
    dying = Dying()
    del dying
    time.sleep(60)


@antic("takes_the_signal")
def takes_the_signal() -> None:
    """Take the executor's own signal for itself."""
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)


@antic("writes_all_the_time")
def writes_all_the_time(seconds: float = 60) -> None:
    """Be interrupted in the middle of any step of a transaction."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with transaction.atomic():
            Queue.objects.update_or_create(name="antics")
            with transaction.atomic():
                Queue.objects.filter(name="antics").update(paused_at=None)


@antic("writes_once")
def writes_once() -> list[Any]:
    """One transaction, and what is left open when it is over."""
    with transaction.atomic():
        Queue.objects.update_or_create(name="antics")
    return [connection.in_atomic_block, connection.get_autocommit()]


# --- what they leave behind


@antic("leaves_behind")
def leaves_behind(path: str) -> int:
    """A thread, and a process; returns the executor's id."""
    threading.Thread(target=threading.Event().wait).start()  # not even a daemon
    child = subprocess.Popen(["sleep", "3600"])
    _note(path, child.pid)
    return os.getpid()


@antic("forks", takes_context=True)
def forks(context: Any, path: str) -> str:
    """Fork, and return in both processes."""
    name = "child" if os.fork() == 0 else "parent"
    _note(path, name, context.task_id, context.attempt, os.getpid())
    return name


@antic("forks_and_raises")
def forks_and_raises(path: str) -> str:
    """Fork; the child raises, the parent returns."""
    if os.fork() == 0:
        _note(path, "child", os.getpid())
        raise ValueError("in the child")
    return "parent"


@antic("queries_in_a_thread")
def queries_in_a_thread() -> int:
    """Ask and write the database in a thread that ends; returns how many files are open."""
    thread = threading.Thread(target=lambda: Queue.objects.update_or_create(name="antics"))
    thread.start()
    thread.join()
    gc.collect()  # Django's connections go in circles
    return len(os.listdir("/proc/self/fd"))


@antic("says")
def says(text: str) -> None:
    print(text)


@antic("logs")
def logs(text: str) -> None:
    logging.getLogger("shop").warning(text)


@antic("pid")
def pid() -> int:
    return os.getpid()


# --- what they return


class Text(str):
    pass


def _generator() -> Iterator[int]:
    yield 1


VALUES: dict[str, Callable[[], Any]] = {
    "fine": lambda: {"fine": ["ä", 1, None]},
    "bytes": lambda: b"bytes",
    "tuple": lambda: (1, (2, 3)),
    "text of a class of its own": lambda: Text("text"),
    "greatest integer": lambda: 2**63 - 1,
    "as large as allowed": lambda: "x" * (256 * 1024 - 2),
    "generator": _generator,
    "bytes that are no text": lambda: b"\xff",
    "set": lambda: {1, 2},
    "keys that are no text": lambda: {1: 2},
    "object": object,
    "infinity": lambda: float("inf"),
    "too large by one": lambda: "x" * (256 * 1024 - 1),
}


@antic("returns")
def returns(what: str) -> Any:
    return VALUES[what]()


# --- what they are told


@antic("context", takes_context=True)
def tell_context(context: Any) -> list[Any]:
    return [context.task_id, context.attempt, context.fence, context.task_result.status]


@antic("context_async", takes_context=True)
async def tell_context_async(context: Any) -> list[Any]:
    return [context.task_id, context.attempt, context.fence, context.task_result.status]


@antic("fails_n_times", takes_context=True, backoff=SOON)
def fails_n_times(context: Any, times: int) -> int:
    if context.attempt <= times:
        raise ValueError(f"attempt {context.attempt}")
    return int(context.attempt)


@antic("asks_to_wait", takes_context=True)
def asks_to_wait(context: Any, path: str, seconds: float) -> int:
    """Ask once to be tried again so much later."""
    _note(path, context.attempt, time.time())
    if context.attempt == 1:
        raise Retry(in_=timedelta(seconds=seconds))
    return int(context.attempt)


@antic("notes_the_time", takes_context=True, backoff=Backoff(initial=timedelta(seconds=0.4), factor=2))
def notes_the_time(context: Any, path: str, times: int = 0) -> None:
    """Append ``<task id> <attempt> <time>``; fail so many times."""
    _note(path, context.task_id, context.attempt, time.time())
    if context.attempt <= times:
        raise ValueError("as asked")


# --- what others are told of it: see receivers.py


@antic("heard", takes_context=True, backoff=SOON)
def heard(context: Any, path: str, fail_times: int = 0, receiver: str = "", how: str = "") -> str:
    """Append ``handler <attempt> <pid>``; ``receiver`` says how the receivers behave."""
    _note(path, "handler", context.attempt, os.getpid())
    if how == "dies":
        os._exit(3)
    if context.attempt <= fail_times:
        raise ValueError("as asked")
    return "done"
