"""The line of leases in an executor's hand: what it admits, and that its sums never drift."""

from __future__ import annotations

import json
import math
import random
import socket
from collections.abc import Iterator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from tasks.contract import Lease, Released, lease_from_wire
from tasks.worker import handle, wire
from tasks.worker.handle import Executor
from tasks.worker.pace import HAND_AHEAD_BYTES, HAND_AHEAD_LEASES, HAND_AHEAD_SECONDS

SHORT = HAND_AHEAD_SECONDS / 100


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine, no head is overdue but where a test says so."""
    monkeypatch.setattr(handle, "OVERDUE_SECONDS", 3600.0)


@pytest.fixture
def other_end() -> Iterator[list[socket.socket]]:
    """The executors' ends of the sockets."""
    ends: list[socket.socket] = []
    yield ends
    for end in ends:
        end.close()


@pytest.fixture
def executor(other_end: list[socket.socket]) -> Executor:
    """A ready executor with an empty line, as the dispatcher sees it; no process is behind it."""
    ours, theirs = socket.socketpair()
    other_end[:] = [ours, theirs]
    nobody = SimpleNamespace(pid=2**22 + 1)  # above what Linux gives out
    made = Executor(nobody, ours, tasks_limit=1000)
    made.ready = True
    return made


def a_lease(**fields: Any) -> Lease:
    given: dict[str, Any] = {
        "handler": "demo.echo",
        "args": "[]",
        "payload": "{}",
        "attempt": 1,
        "timeout": timedelta(seconds=5),
    }
    return Lease(task_id=uuid4(), fence=1, **{**given, **fields})


def last_attempt() -> Lease:
    return a_lease(attempt=5, max_attempts=5)


def heard(end: socket.socket) -> list[dict[str, Any]]:
    """All that was sent to the executor."""
    end.setblocking(False)
    return [json.loads(line) for line in end.recv(1 << 22).splitlines()]


def sums_hold(executor: Executor) -> bool:
    """The remembered sums are those of what is in the line."""
    expected = sum(held.expected for held in executor.line)
    size = sum(len(held.lease.args) + len(held.lease.payload) for held in executor.line)
    return size == executor._bytes and (
        expected == executor._expected or math.isclose(expected, executor._expected, abs_tol=1e-6)
    )


# -- what an executor admits


def test_an_idle_executor_admits_anything(executor: Executor) -> None:
    assert executor.admits(a_lease(), math.inf)
    assert executor.admits(last_attempt(), 60.0)
    assert executor.admits(a_lease(payload=json.dumps("x" * HAND_AHEAD_BYTES)), math.inf)


def test_one_that_is_not_ready_admits_nothing(executor: Executor) -> None:
    executor.ready = False

    assert not executor.idle
    assert not executor.admits(a_lease(), SHORT)
    assert executor.room(SHORT) == 0


def test_one_that_is_to_be_replaced_admits_nothing(executor: Executor) -> None:
    executor.hand(a_lease(), SHORT)
    executor.retiring = True

    assert not executor.admits(a_lease(), SHORT)
    assert executor.room(SHORT) == 0
    executor.ended()
    assert not executor.idle
    assert not executor.admits(a_lease(), SHORT)


def test_one_that_was_killed_admits_nothing(executor: Executor) -> None:
    executor.hand(a_lease(), SHORT)

    executor.kill(Released(started=True))
    executor.ended()  # its last words

    assert not executor.idle
    assert not executor.admits(a_lease(), SHORT)
    assert executor.room(SHORT) == 0


def test_behind_a_short_task_another_may_wait(executor: Executor) -> None:
    executor.hand(a_lease(), SHORT)

    assert executor.admits(a_lease(), SHORT)


@pytest.mark.parametrize("expected", [math.inf, 60.0, HAND_AHEAD_SECONDS])
def test_behind_a_slow_or_unknown_task_nothing_waits(executor: Executor, expected: float) -> None:
    executor.hand(a_lease(), expected)

    assert not executor.admits(a_lease(), SHORT)
    assert executor.room(SHORT) == 0


def test_a_task_on_its_last_attempt_waits_behind_nothing(executor: Executor) -> None:
    executor.hand(a_lease(), SHORT)

    assert not executor.admits(last_attempt(), SHORT)


def test_no_more_leases_wait_than_the_limit_says(executor: Executor) -> None:
    for _ in range(HAND_AHEAD_LEASES):
        assert executor.admits(a_lease(), 0.0)
        executor.hand(a_lease(), 0.0)

    assert not executor.admits(a_lease(), 0.0)
    assert executor.room(0.0) == 0


def test_no_more_seconds_of_work_wait_than_the_limit_says(executor: Executor) -> None:
    while executor.admits(a_lease(), HAND_AHEAD_SECONDS / 4):
        executor.hand(a_lease(), HAND_AHEAD_SECONDS / 4)

    assert len(executor.line) == 4
    assert executor.room(HAND_AHEAD_SECONDS / 4) == 0


def test_no_more_bytes_wait_than_the_limit_says(executor: Executor) -> None:
    large = a_lease(payload=json.dumps("x" * (HAND_AHEAD_BYTES // 3)))

    while executor.admits(large, SHORT):
        executor.hand(large, SHORT)

    assert len(executor.line) == 2


def test_room_is_what_fits_at_this_pace(executor: Executor) -> None:
    assert executor.room(HAND_AHEAD_SECONDS / 8) == 8
    assert executor.room(math.inf) == 0
    assert executor.room(0.0) == HAND_AHEAD_LEASES
    assert executor.room(1e-300) == HAND_AHEAD_LEASES


def test_behind_a_task_that_turned_out_slow_nothing_more_waits(
    executor: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor.hand(a_lease(), SHORT)

    monkeypatch.setattr(handle, "OVERDUE_SECONDS", -1.0)

    assert not executor.admits(a_lease(), SHORT)
    assert executor.room(SHORT) == 0
    executor.ended()
    assert executor.admits(a_lease(), SHORT)


# -- recycling


def test_it_gets_no_more_tasks_than_its_limit(executor: Executor) -> None:
    executor._tasks_left = 3

    assert executor.room(0.0) == 3
    for _ in range(3):
        assert executor.admits(a_lease(), 0.0)
        executor.hand(a_lease(), 0.0)

    assert not executor.admits(a_lease(), 0.0)
    for _ in range(3):
        assert not executor.spent
        executor.ended()
    assert executor.spent
    assert not executor.idle


def test_what_was_taken_back_does_not_count_towards_its_limit(executor: Executor) -> None:
    executor._tasks_left = 2
    executor.hand(a_lease(), 0.0)
    executor.hand(a_lease(), 0.0)

    executor.take_back()

    assert executor.admits(a_lease(), 0.0)


# -- the line


def test_the_first_of_the_line_has_begun_and_the_others_have_not(executor: Executor) -> None:
    first, second = executor.hand(a_lease(), SHORT), executor.hand(a_lease(), SHORT)

    assert first.begun is not None
    assert second.begun is None
    executor.ended()
    assert second.begun is not None


def test_taking_back_leaves_the_head(executor: Executor) -> None:
    head, *others = [executor.hand(a_lease(), SHORT) for _ in range(4)]

    assert executor.take_back() == others
    assert list(executor.line) == [head]
    assert sums_hold(executor)


def test_taking_back_by_name_may_take_the_head_and_what_follows_has_begun_then(executor: Executor) -> None:
    head, other = executor.hand(a_lease(), SHORT), executor.hand(a_lease(), SHORT)

    assert executor.take_back({wire.key_of(head.lease)}) == [head]
    assert list(executor.line) == [other]
    assert other.begun is not None


def test_taking_back_what_is_not_there_changes_nothing(executor: Executor) -> None:
    held = executor.hand(a_lease(), SHORT)

    assert executor.take_back({("f" * 32, 1), (held.lease.task_id.hex, 2)}) == []
    assert list(executor.line) == [held]


def test_taking_back_from_an_empty_line_takes_nothing(executor: Executor) -> None:
    assert executor.take_back() == []


@pytest.mark.parametrize("seed", range(20))
def test_its_sums_never_drift(executor: Executor, seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(2000):
        if executor.line and rng.random() < 0.45:
            executor.ended()
        elif executor.line and rng.random() < 0.1:
            executor.take_back()
        elif executor.line and rng.random() < 0.1:
            executor.take_back({wire.key_of(held.lease) for held in executor.line if rng.random() < 0.5})
        else:
            expected = rng.choice([math.inf, 0.0, rng.random(), rng.random() * 1e-6, 1e6])
            executor.hand(a_lease(payload=json.dumps("x" * rng.randrange(1000))), expected)
        assert sums_hold(executor)
        assert executor.head is None or executor.head.begun is not None


# -- what is said


def test_what_is_handed_goes_out_with_the_next_flush_and_in_order(
    executor: Executor, other_end: list[socket.socket]
) -> None:
    first, second = executor.hand(a_lease(), SHORT), executor.hand(a_lease(), SHORT)
    executor.interrupt("timeout")
    third = executor.hand(a_lease(), SHORT)

    executor.flush()

    assert not executor.unsent
    leases, interrupt, more = heard(other_end[1])
    assert [lease_from_wire(wired) for wired in leases["leases"]] == [first.lease, second.lease]
    assert interrupt == {"interrupt": list(wire.key_of(first.lease)), "why": "timeout"}
    assert [lease_from_wire(wired) for wired in more["leases"]] == [third.lease]


def test_an_executor_that_does_not_read_never_blocks_the_dispatcher(
    executor: Executor, other_end: list[socket.socket]
) -> None:
    for _ in range(40):
        executor.hand(a_lease(payload=json.dumps("x" * 100_000)), 0.0)

    executor.flush()

    received = 0
    while executor.unsent:
        received += len(other_end[1].recv(1 << 20))
        executor.flush()
    assert received > 1_000_000  # what had to wait for space


def test_one_that_is_gone_is_talked_to_without_an_error(
    executor: Executor, other_end: list[socket.socket]
) -> None:
    other_end[1].close()
    executor.hand(a_lease(), SHORT)
    executor.stop()

    executor.flush()

    assert list(executor.receive()) == []
