"""Handlers that misbehave, and some that only tell that they ran."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import multiprocessing
import os
import re
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import repeat
from typing import Any
from uuid import UUID

from django import tasks as django_tasks
from django.db import connection, transaction

from tasks import lifecycle
from tasks.backoff import Backoff
from tasks.contract import TaskSpec
from tasks.errors import GiveUp, Retry
from tasks.registry import ServiceTask


def fault(name: str, **options: Any) -> Callable[[Callable[..., Any]], ServiceTask]:
    """``@task`` for the handler ``fault.<name>``; the types of Django's own do not know our options."""
    decorator: Any = django_tasks.task
    made: Callable[[Callable[..., Any]], ServiceTask] = decorator(public_name=f"fault.{name}", **options)
    return made


# --- telling that they ran


def _note(path: str, *words: object) -> None:
    """Append one line, whole even if several processes write: O_APPEND, one write."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        os.write(file, (" ".join(map(str, words)) + "\n").encode())
    finally:
        os.close(file)


@fault("record", takes_context=True)
def record(context: Any, path: str, seconds: float = 0) -> int:
    """Append ``start <task id> <attempt> <fence> <pid>``, sleep, append ``end …``; return the attempt."""
    words = (context.task_id, context.attempt, context.fence, os.getpid())
    _note(path, "start", *words)
    time.sleep(seconds)
    _note(path, "end", *words)
    return int(context.attempt)


@fault("record_async", takes_context=True)
async def record_async(context: Any, path: str, seconds: float = 0) -> int:
    """As ``fault.record``; appends ``cancelled …`` when asyncio cancels it."""
    words = (context.task_id, context.attempt, context.fence, os.getpid())
    _note(path, "start", *words)
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        _note(path, "cancelled", *words)
        raise
    _note(path, "end", *words)
    return int(context.attempt)


@fault("until", takes_context=True)
def until(context: Any, path: str, file: str) -> int:
    """Append ``start …`` to ``path``, then wait until ``file`` or ``<file>-<attempt>`` exists."""
    words = (context.task_id, context.attempt, context.fence, os.getpid())
    _note(path, "start", *words)
    while not (os.path.exists(file) or os.path.exists(f"{file}-{context.attempt}")):
        time.sleep(0.01)
    _note(path, "end", *words)
    return int(context.attempt)


@fault("noop")
def noop() -> None:
    """Return at once."""


@fault("sleep")
def sleep(seconds: float) -> str:
    time.sleep(seconds)
    return "slept"


@fault("sleep_async")
async def sleep_async(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "slept"


@fault("short", timeout=timedelta(seconds=1), max_attempts=1)
def short(seconds: float) -> str:
    """Sleep under a timeout of one second."""
    time.sleep(seconds)
    return "slept"


# --- results that cannot be kept


@fault("nul")
def nul() -> str:
    return "a\0b"


@fault("nan")
def nan() -> float:
    return float("nan")


@fault("surrogate")
def surrogate() -> str:
    return "a\ud800b"


@fault("moment")
def moment() -> datetime:
    return datetime.now(UTC)


@fault("huge")
def huge(megabytes: int = 10) -> str:
    return "x" * (megabytes << 20)


@fault("deep")
def deep(levels: int = 100_000) -> list[Any]:
    nested: list[Any] = []
    for _ in range(levels):
        nested = [nested]
    return nested


@fault("circular")
def circular() -> list[Any]:
    ring: list[Any] = []
    ring.append(ring)
    return ring


@fault("big_integer")
def big_integer() -> int:
    return 2**63


# --- errors


@fault("error")
def error(message: str = "as asked") -> None:
    raise ValueError(message)


@fault("once", takes_context=True)
def once(context: Any, message: str = "not yet") -> int:
    """Fail at the first attempt only."""
    if context.attempt == 1:
        raise ValueError(message)
    return int(context.attempt)


@fault("retry")
def retry(seconds: float = 0) -> None:
    raise Retry("once more", in_=timedelta(seconds=seconds))


@fault("give_up")
def give_up() -> None:
    raise GiveUp("not worth it")


@fault("odd_error")
def odd_error() -> None:
    """Raise an error whose text no database keeps as it is."""
    raise ValueError("NUL \0, a surrogate \ud800, and very long: " + "x" * 1_000_000)


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("has no text")


@fault("unspeakable_error")
def unspeakable_error() -> None:
    raise Unspeakable


@fault("base_exception")
def base_exception() -> None:
    raise BaseException("beyond Exception")


@fault("keyboard_interrupt")
def keyboard_interrupt() -> None:
    raise KeyboardInterrupt


@fault("system_exit")
def system_exit(code: int = 0) -> None:
    raise SystemExit(code)


@fault("generator_exit")
def generator_exit() -> None:
    raise GeneratorExit


# --- the end of the process


@fault("segfault")
def segfault() -> None:
    ctypes.string_at(0)


@fault("abort")
def abort() -> None:
    os.abort()


@fault("exit")
def exit_(code: int = 3) -> None:
    os._exit(code)


@fault("kill")
def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@fault("crash_once", takes_context=True)
def crash_once(context: Any) -> int:
    """Die at the first attempt only."""
    if context.attempt == 1:
        os._exit(3)
    return int(context.attempt)


@fault("die", takes_context=True, backoff=Backoff(initial=timedelta(seconds=0.2)))
def die(context: Any, how: str = "", times: int = 1, ballast: str = "") -> int:
    """End the process in the first ``times`` attempts, so ``how``; with none return at once."""
    if how and context.attempt <= times:
        DEATHS[how]()
    return int(context.attempt)


def _terminate() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTERM)


DEATHS: dict[str, Callable[[], object]] = {
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "terminate": _terminate,
    "segfault": lambda: ctypes.string_at(0),
    "abort": os.abort,
    "deaf": lambda: deque(repeat(None, 10**13), maxlen=0),  # not dead, but hearing nothing for hours
    "exit 0": lambda: os._exit(0),
    "exit 3": lambda: os._exit(3),
    "exit 255": lambda: os._exit(255),
    "group": lambda: os.killpg(0, signal.SIGKILL),
}


# --- those that will not end


@fault("regex")
def regex() -> None:
    """Hold the GIL inside a regex for hours; the regex engine looks for signals now and then."""
    re.match(r"(a+)+$", "a" * 64 + "b")


@fault("deaf")
def deaf() -> None:
    """Hold the GIL inside C for hours, and never look for a signal."""
    deque(repeat(None, 10**13), maxlen=0)


@fault("stubborn")
def stubborn() -> None:
    """Ignore whatever interrupts it."""
    while True:
        try:
            time.sleep(0.05)
        except:  # noqa: E722 - on purpose
            continue


@fault("stubborn_value")
def stubborn_value(seconds: float = 60) -> str:
    """Answer an interrupt with a value."""
    try:
        time.sleep(seconds)
    except BaseException:
        return "finished all the same"
    return "slept"


@fault("joins")
def joins() -> None:
    """Wait for a thread that never ends."""
    threading.Thread(target=threading.Event().wait, daemon=True).start()
    threading.Event().wait()


@fault("child", takes_context=True)
def child(context: Any, seconds: float = 3600, path: str = "", deaf: bool = False) -> None:
    """Wait for a process of its own; append ``start …`` to ``path``, if given, once it runs.

    ``deaf``: wait as ``fault.deaf`` does.
    """
    process = subprocess.Popen(["sleep", str(seconds)])
    if path:
        _note(path, "start", context.task_id, context.attempt, context.fence, os.getpid())
    if deaf:
        deque(repeat(None, 10**13), maxlen=0)
    process.wait()


@fault("daemon", takes_context=True)
def daemon(context: Any, path: str) -> None:
    """Start a process that stands alone; append ``daemon <pid>`` to ``path``, then ``start …``, and wait."""
    subprocess.run(f"setsid sleep 3600 & echo daemon $! >> {path}", shell=True, close_fds=False, check=True)
    _note(path, "start", context.task_id, context.attempt, context.fence, os.getpid())
    time.sleep(3600)


@fault("closes_files", backoff=Backoff(initial=timedelta(seconds=0.2)))
def closes_files() -> None:
    """Close every file of the process but the standard ones."""
    os.closerange(3, 4096)


@fault("terminates")
def terminates() -> dict[str, int | None]:
    """End two processes of its own with SIGTERM; returns their exit codes."""
    program = subprocess.Popen(["sleep", "60"])
    fork = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    fork.start()
    program.terminate()
    fork.terminate()
    program.wait(10)
    fork.join(10)
    return {"child": program.returncode, "fork": fork.exitcode}


# --- what they leave behind in the database


@fault("begins")
def begins() -> None:
    """Begin a transaction by hand and never end it."""
    with connection.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("CREATE TABLE left_behind (id integer)")


@fault("enters")
def enters() -> None:
    """Enter ``atomic`` and never leave it."""
    transaction.atomic().__enter__()


@fault("sleeps_inside")
def sleeps_inside(seconds: float) -> None:
    """Sleep inside a transaction."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("CREATE TABLE left_behind (id integer)")
        time.sleep(seconds)


# --- memory

_kept: list[bytearray] = []
_open: list[int] = []


@fault("leak")
def leak(megabytes: int = 10) -> int:
    """Keep so much more memory; returns the process's id."""
    _kept.append(bytearray(b"x") * (megabytes << 20))
    return os.getpid()


@fault("eat_memory")
def eat_memory(megabytes: int = 1_000_000) -> None:
    """Take memory until it has that much, or until something stops it."""
    taken = [bytearray(b"x") * (10 << 20) for _ in range(megabytes // 10)]
    del taken


@fault("leave_everything")
def leave_everything(path: str, files: int = 5) -> int:
    """Keep memory, open files and a thread; append the ids of a shell and of its child, which go on."""
    _kept.append(bytearray(b"x") * (1 << 20))
    _open.extend(os.open(os.devnull, os.O_RDONLY) for _ in range(files))
    threading.Thread(target=threading.Event().wait, daemon=True).start()
    if path:
        shell = subprocess.Popen(["sh", "-c", 'sleep 3600 & echo $$ $! >> "$0"; wait', path])
        while not (os.path.exists(path) and str(shell.pid) in _words_of(path)):
            time.sleep(0.005)
    return os.getpid()


def _words_of(path: str) -> list[str]:
    with open(path) as file:
        return file.read().split()


# --- where they run, and for whom


@fault("trace", takes_context=True)
def trace(context: Any) -> dict[str, Any]:
    child = tell.enqueue("child")
    return {"traceparent": context.traceparent, "child": child.id}


@fault("tell")
def tell(word: str) -> None:
    """In the handler, and in a thread that it starts."""
    logger = logging.getLogger("shop")
    logger.warning("told %s", word)
    thread = threading.Thread(target=logger.warning, args=("told %s in a thread", word))
    thread.start()
    thread.join()


@fault("steer")
def steer(cancel: list[str], make: int) -> None:
    """As a handler that tidies up: cancels what waits, and makes new tasks."""
    lifecycle.cancel([UUID(one) for one in cancel])
    lifecycle.enqueue([TaskSpec(handler="fault.noop", queue="made")] * make)
