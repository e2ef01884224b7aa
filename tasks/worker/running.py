"""Run one attempt and say what came of it."""

from __future__ import annotations

import asyncio
import inspect
import json
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from types import TracebackType
from typing import Any

from asgiref.sync import async_to_sync
from django.utils.json import normalize_json

from tasks.contract import (
    MESSAGE_CHARS,
    Cancelled,
    ErrorReport,
    Failed,
    Lease,
    Outcome,
    Released,
    Succeeded,
    TimedOut,
)
from tasks.errors import GiveUp, ResultTooLarge, Retry, UnstorableResult
from tasks.fingerprint import Frame, own_frame
from tasks.storable import to_json

PLAIN = (bool, int, float, str)  # what is JSON as it is
FRAMES = 50  # of a traceback, from its end


class Interrupted(BaseException):
    """Raised in a handler whose time is over. No ``except Exception`` keeps it from ending."""


@dataclass(slots=True)
class Interrupt:
    """Why a handler is to end: ``timeout``, ``cancel``, ``stop`` or ``lost`` (its lease)."""

    why: str
    heard: bool = False  # it was raised in the handler

    def outcome(self, lease: Lease, where: str, frame: str = "") -> Outcome:
        if self.why == "timeout" and lease.timeout is not None:
            return TimedOut(lease.timeout, where, frame)
        if self.why == "cancel":
            return Cancelled(where)
        return Released(started=True)


AsyncHook = Callable[[asyncio.AbstractEventLoop, "asyncio.Task[Any]"], None]


def parsed(text: str) -> Any:
    """Arguments. A new value each time: a handler may change what it gets."""
    return [] if text == "[]" else {} if text == "{}" else json.loads(text)


@cache
def is_async(func: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(func)


def call(func: Callable[..., Any], args: list[Any], payload: dict[str, Any], on_async: AsyncHook) -> Any:
    """Call the handler. One that is async runs in a loop of its own, made known to ``on_async``."""
    if not is_async(func):
        return func(*args, **payload)
    return async_to_sync(_supervised)(func, args, payload, on_async)


async def _supervised(
    func: Callable[..., Any], args: list[Any], payload: dict[str, Any], tell: AsyncHook
) -> Any:
    current = asyncio.current_task()
    if current is not None:
        tell(asyncio.get_running_loop(), current)
    return await func(*args, **payload)


def storable_result(value: Any, *, limit_bytes: int) -> str:
    """The value as JSON text. Raises UnstorableResult: another attempt would return the same."""
    if value is None:
        return "null"
    try:
        text = to_json(value if type(value) in PLAIN else normalize_json(value))
    except BaseException as error:  # whatever a value of a user's own class raises when it is asked
        raise UnstorableResult(f"The result cannot be kept as JSON: {_text_of(error)}.") from error
    size = len(text.encode())
    if size > limit_bytes:
        raise ResultTooLarge(size_bytes=size, limit_bytes=limit_bytes)
    return text


def success(value: Any, *, limit_bytes: int) -> Outcome:
    try:
        return Succeeded(storable_result(value, limit_bytes=limit_bytes))
    except UnstorableResult as error:
        return Failed(ErrorReport.of(type(error), str(error)), retryable=False)


def failure(error: BaseException, lease: Lease, interrupt: Interrupt | None, *, home: str = "") -> Outcome:
    """What an exception means. After an interrupt, it means that the handler obeyed.

    ``home``: the module of the handler.
    """
    report = report_of(error, home=home)
    if interrupt is not None:
        return interrupt.outcome(lease, report.traceback, report.frame)
    match error:
        case TypeError() if _never_began(error):  # with these arguments it cannot be called
            return Failed(report, retryable=False)
        case Retry(in_=wait):
            return Failed(report, retry_in=wait)
        case GiveUp():
            return Failed(report, retryable=False)
        case _:
            return Failed(report)


def report_of(error: BaseException, *, home: str = "") -> ErrorReport:
    """Type, message and the last frames, whatever the exception does when it is asked."""
    kind = type(error)
    frame = own_frame(_frames(error), home=home)
    return ErrorReport.bounded(
        f"{kind.__module__}.{kind.__qualname__}", _text_of(error), _traceback(error), frame
    )


def _frames(error: BaseException) -> Iterator[Frame]:
    for frame, _ in traceback.walk_tb(error.__traceback__):
        yield Frame(str(frame.f_globals.get("__name__")), frame.f_code.co_filename, frame.f_code.co_qualname)


def _never_began(error: BaseException) -> bool:
    """Whether it was raised by the call itself, and by nothing inside of the handler."""
    frames = list(traceback.walk_tb(error.__traceback__))
    return bool(frames) and frames[-1][0].f_globals.get("__name__") == __name__


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException as broken:  # a user's __str__
        return f"(its message could not be read: {type(broken).__name__})"


def _traceback(error: BaseException) -> str:
    frames = _of_the_handler(error.__traceback__)
    try:
        parts = traceback.format_exception(type(error), error, frames, limit=-FRAMES)
        return "".join(map(_cut, parts))
    except BaseException as broken:  # a user's __str__ or __repr__ again
        return "".join(traceback.format_tb(frames, limit=-FRAMES)) + f"({type(broken).__name__})"


def _cut(part: str) -> str:
    """A message as long as a book must not push the frames out of the end that is kept."""
    return part if len(part) <= MESSAGE_CHARS else part[:MESSAGE_CHARS] + "…\n"


def _of_the_handler(frames: TracebackType | None) -> TracebackType | None:
    """Without those that only lead to it."""
    while frames is not None and frames.tb_frame.f_globals.get("__name__", "").startswith("tasks.worker."):
        frames = frames.tb_next
    return frames
