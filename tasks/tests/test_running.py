"""One attempt: what the handler is given, and what its value or its exception means."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Any
from uuid import uuid4

import pytest

from tasks.contract import (
    MESSAGE_CHARS,
    TRACEBACK_CHARS,
    Cancelled,
    Failed,
    Lease,
    Released,
    Succeeded,
    TimedOut,
)
from tasks.errors import GiveUp, Retry
from tasks.worker import running
from tasks.worker.running import Interrupt, Interrupted

LIMIT = 1000
LEASE = Lease(
    task_id=uuid4(),
    fence=1,
    handler="demo.echo",
    args="[]",
    payload="{}",
    attempt=1,
    timeout=timedelta(seconds=3),
)


def success(value: Any) -> Any:
    return running.success(value, limit_bytes=LIMIT)


def raised(error: BaseException) -> BaseException:
    """The same, with a traceback."""
    try:
        raise error
    except BaseException as caught:
        return caught


# -- calling


def nobody(loop: Any, task: Any) -> None:
    pytest.fail("a handler that is not async has no loop")


def test_a_handler_gets_its_arguments_as_they_are() -> None:
    payload = {"ä": [1, {"b": None}], "big": 2**63 - 1, "text": "\u2028"}

    given = running.call(lambda *args, **kwargs: (args, kwargs), [1, "ß", [None]], payload, nobody)

    assert given == ((1, "ß", [None]), payload)


def test_an_async_handler_runs_to_its_end_and_its_loop_is_made_known() -> None:
    known: list[Any] = []

    async def handler(number: int, *, more: int) -> int:
        await asyncio.sleep(0)
        assert [asyncio.current_task()] == [task for _, task in known]
        return number + more

    value = running.call(handler, [1], {"more": 2}, lambda loop, task: known.append((loop, task)))

    assert value == 3
    assert len(known) == 1


def test_each_async_run_has_a_loop_of_its_own_and_leaves_none_behind() -> None:
    loops: list[Any] = []

    async def handler() -> None:
        asyncio.get_running_loop().create_task(asyncio.sleep(3600))  # left behind on purpose

    for _ in range(2):
        running.call(handler, [], {}, lambda loop, task: loops.append(loop))

    assert loops[0] is not loops[1]
    assert all(loop.is_closed() for loop in loops)


def test_what_an_async_handler_raises_comes_out_of_the_call() -> None:
    async def handler() -> None:
        raise LookupError("as asked")

    with pytest.raises(LookupError, match="as asked"):
        running.call(handler, [], {}, lambda loop, task: None)


def test_an_async_handler_is_cancelled_through_its_task() -> None:
    async def handler() -> None:
        await asyncio.sleep(3600)

    def cancel_soon(loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any]) -> None:
        threading.Timer(0.05, loop.call_soon_threadsafe, [task.cancel]).start()

    with pytest.raises(asyncio.CancelledError):
        running.call(handler, [], {}, cancel_soon)


# -- values


class Colour(Enum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


class Text(str):
    pass


class Number(int):
    pass


class Mine(Mapping[str, int]):
    """A user's own mapping."""

    def __getitem__(self, key: str) -> int:
        return 1

    def __iter__(self) -> Iterator[str]:
        return iter(["a"])

    def __len__(self) -> int:
        return 1


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (None, None),
        (True, True),
        (0, 0),
        (-0.5, -0.5),
        ("", ""),
        ("ä\u2028\U0001f600\x7f", "ä\u2028\U0001f600\x7f"),
        ([], []),
        ({}, {}),
        ((1, (2, 3)), [1, [2, 3]]),
        ({"a": {"b": [None, True]}}, {"a": {"b": [None, True]}}),
        (2**63 - 1, 2**63 - 1),
        (-(2**63), -(2**63)),
        (b"bytes", "bytes"),
        (Text("text"), "text"),
        (Number(7), 7),
        (Level.HIGH, 3),
        (Mine(), {"a": 1}),
        (range(3), [0, 1, 2]),
    ],
)
def test_what_json_can_keep_is_kept(value: Any, kept: Any) -> None:
    outcome = success(value)

    assert isinstance(outcome, Succeeded), outcome
    assert json.loads(outcome.result) == kept


def _generator() -> Iterator[int]:
    yield 1


def _circle() -> list[Any]:
    ring: list[Any] = []
    ring.append(ring)
    return ring


def _deep(levels: int) -> Any:
    nested: Any = []
    for _ in range(levels):
        nested = [nested]
    return nested


class Broken(Mine):
    """Raises what nobody would expect when it is looked at."""

    def __iter__(self) -> Iterator[str]:
        raise SystemExit("broken")


class BrokenText(str):
    def encode(self, *args: Any, **kwargs: Any) -> bytes:
        raise LookupError("broken")


async def _coroutine() -> None:
    pass


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        float("inf"),
        [-float("inf")],
        "a\0b",
        {"a\0": 1},
        "\ud800",
        ["\udfff"],
        2**63,
        -(2**63) - 1,
        10**5000,
        b"\xff",
        {1: 2},
        {None: 1},
        {(1, 2): 3},
        {1, 2},
        object(),
        datetime.now(UTC),
        date(2026, 1, 12),
        timedelta(1),
        Decimal("1.5"),
        Colour.RED,
        uuid4(),
        1j,
        _circle(),
        _deep(65),
        _deep(100_000),
        _generator(),
        _generator,
        Broken(),
        ValueError("an error, returned"),
        "x" * LIMIT,
        ["ä" * LIMIT],
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_json_cannot_keep_is_a_failure_that_is_never_tried_again(value: Any) -> None:
    outcome = success(value)

    assert isinstance(outcome, Failed)
    assert not outcome.retryable
    assert outcome.error.type in ("tasks.errors.UnstorableResult", "tasks.errors.ResultTooLarge")
    assert 0 < len(outcome.error.message) <= MESSAGE_CHARS


def test_a_text_of_a_users_own_class_cannot_harm() -> None:
    assert isinstance(success(BrokenText("text")), Succeeded | Failed)


def test_the_limit_is_on_the_bytes_of_the_json_text() -> None:
    assert isinstance(success("x" * (LIMIT - 2)), Succeeded)
    assert isinstance(success("x" * (LIMIT - 1)), Failed)
    assert isinstance(success("ä" * (LIMIT // 2)), Failed)


def test_a_coroutine_that_nobody_awaited_is_no_result() -> None:
    coroutine = _coroutine()

    assert isinstance(success(coroutine), Failed)
    coroutine.close()


# -- exceptions


@pytest.mark.parametrize(
    "error",
    [
        ValueError("no"),
        BaseException("no"),
        SystemExit(1),
        KeyboardInterrupt(),
        GeneratorExit(),
        asyncio.CancelledError(),
        StopIteration(),
        ExceptionGroup("both", [ValueError(), KeyError()]),
        MemoryError(),
        RecursionError(),
    ],
)
def test_any_exception_is_a_failure_that_may_be_tried_again(error: BaseException) -> None:
    outcome = running.failure(raised(error), LEASE, None)

    assert isinstance(outcome, Failed)
    assert outcome.retryable
    assert outcome.retry_in is None
    assert outcome.error.type.endswith(type(error).__name__)
    assert "raise error" in outcome.error.traceback


def test_retry_says_when() -> None:
    wait = timedelta(minutes=3)

    assert _failed(Retry(in_=wait)).retry_in == wait
    assert _failed(Retry()).retry_in is None
    assert _failed(Retry()).retryable


def test_give_up_is_final() -> None:
    assert not _failed(GiveUp("not worth it")).retryable
    assert _failed(GiveUp("not worth it")).error.message == "not worth it"


def test_subclasses_of_retry_and_give_up_count_as_such() -> None:
    class Later(Retry):
        pass

    class Never(GiveUp):
        pass

    assert _failed(Later(in_=timedelta(1))).retry_in == timedelta(1)
    assert not _failed(Never()).retryable


def _failed(error: BaseException) -> Failed:
    outcome = running.failure(raised(error), LEASE, None)
    assert isinstance(outcome, Failed)
    return outcome


@pytest.mark.parametrize(
    ("why", "kind"),
    [("timeout", TimedOut), ("cancel", Cancelled), ("stop", Released), ("lost", Released)],
)
@pytest.mark.parametrize("error", [Interrupted(), ValueError("in reaction"), GiveUp("no"), SystemExit(1)])
def test_whatever_a_handler_raises_after_an_interrupt_it_has_obeyed(
    why: str, kind: type, error: BaseException
) -> None:
    outcome = running.failure(raised(error), LEASE, Interrupt(why))

    assert isinstance(outcome, kind)


def test_a_timeout_tells_the_limit_and_where_the_handler_was() -> None:
    def somewhere_in_the_handler() -> None:
        raise Interrupted

    try:
        somewhere_in_the_handler()
    except Interrupted as error:
        outcome = running.failure(error, LEASE, Interrupt("timeout"))

    assert isinstance(outcome, TimedOut)
    assert outcome.after == timedelta(seconds=3)
    assert "somewhere_in_the_handler" in outcome.traceback


# -- reports


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("has no text")


class Unprintable(Exception):
    def __str__(self) -> str:
        raise SystemExit("leaves")

    __repr__ = __str__


class Odd(Exception):
    __module__ = None  # type: ignore[assignment]  # on purpose

    def __str__(self) -> Any:
        return 7


def test_a_report_is_bounded_however_much_there_is_to_say() -> None:
    def recurse(levels: int) -> None:
        if levels:
            recurse(levels - 1)
        raise ValueError("x" * 1_000_000)

    try:
        recurse(500)
    except ValueError as error:
        report = running.report_of(error)

    assert len(report.message) == MESSAGE_CHARS
    assert "in recurse" in report.traceback
    assert len(report.traceback) <= TRACEBACK_CHARS


def test_a_long_chain_of_causes_is_bounded() -> None:
    error = ValueError("first")
    for number in range(2000):
        following = ValueError(f"number {number}")
        following.__cause__ = error
        error = following

    report = running.report_of(error)

    assert report.message == "number 1999"
    assert len(report.traceback) <= TRACEBACK_CHARS


def test_text_that_no_database_keeps_is_made_visible() -> None:
    report = running.report_of(raised(ValueError("NUL \0 and \ud800")))

    assert report.message == "NUL \\0 and \\ud800"
    report.traceback.encode()
    assert "\0" not in report.traceback


@pytest.mark.parametrize("kind", [Unspeakable, Unprintable, Odd])
def test_an_exception_that_cannot_be_read_is_reported_all_the_same(kind: type[Exception]) -> None:
    try:
        raise kind
    except Exception as error:
        report = running.report_of(error)

    assert report.type.endswith(kind.__name__)
    assert report.message
    assert "raise kind" in report.traceback


# -- arguments that do not fit


def greet(name: str) -> str:
    return len(name) and name  # type: ignore[return-value]


async def greet_later(name: str) -> str:
    return greet(name)


def outcome_of(func: Any, payload: dict[str, Any]) -> Any:
    try:
        return running.call(func, [], payload, lambda loop, task: None)
    except BaseException as error:
        return running.failure(error, LEASE, None)


@pytest.mark.parametrize("func", [greet, greet_later])
@pytest.mark.parametrize("payload", [{}, {"nam": "Ada"}, {"name": "Ada", "more": 1}])
def test_what_cannot_be_called_with_its_arguments_is_not_tried_again(
    func: Any, payload: dict[str, Any]
) -> None:
    outcome = outcome_of(func, payload)

    assert isinstance(outcome, Failed)
    assert not outcome.retryable
    assert "argument" in outcome.error.message


@pytest.mark.parametrize("func", [greet, greet_later])
def test_a_type_error_of_the_handler_itself_is_an_error_like_any_other(func: Any) -> None:
    outcome = outcome_of(func, {"name": 1})

    assert isinstance(outcome, Failed)
    assert outcome.retryable
