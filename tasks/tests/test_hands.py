"""Who runs what, until when: the dispatcher's side of the talk; the test plays the executors."""

from __future__ import annotations

import json
import math
import selectors
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from tasks.contract import (
    Cancelled,
    Crashed,
    Lease,
    Outcome,
    Released,
    Succeeded,
    TimedOut,
    lease_from_wire,
    outcome_to_wire,
)
from tasks.lifecycle import Extension
from tasks.worker import handle as handle_module
from tasks.worker import wire
from tasks.worker.crew import Crew
from tasks.worker.executor import Limits
from tasks.worker.handle import Executor
from tasks.worker.hands import KILL_AFTER, WAIT_AT_MOST, Hands
from tasks.worker.pace import HAND_AHEAD_LEASES
from tasks.worker.pool import Pool

NOT_BEGUN = Released(started=False)


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine, no head is overdue."""
    monkeypatch.setattr(handle_module, "OVERDUE_SECONDS", 3600.0)


class Stage:
    """Hands with executors whose other ends the test holds; no process is behind them."""

    def __init__(self, executors: int, lease_for: timedelta | None = None) -> None:
        limits = Limits(max_result_bytes=1000, waiting_seconds=15)
        pool = Pool(limits=limits, recycle_after_tasks=0, lock=None)
        self.selector = selectors.DefaultSelector()
        crew = Crew(pool, self.selector, recycle_above_mb=0)
        self.outcomes: list[tuple[Lease, Outcome]] = []
        self.hands = Hands(crew, lambda lease, outcome: self.outcomes.append((lease, outcome)), lease_for)
        self.ends: list[socket.socket] = []
        self._arrived = b""
        self.executors = [self._join(pool) for _ in range(executors)]

    def _join(self, pool: Pool) -> Executor:
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        made = Executor(
            SimpleNamespace(pid=2**22 + 1), ours, tasks_limit=1000
        )  # nobody: above Linux's largest
        made.ready = True
        pool.executors.append(made)
        self.ends.append(theirs)
        self.selector.register(ours, selectors.EVENT_READ, None)
        return made

    def learn_that_short(self) -> None:
        """Let every handler of these tests be known as short."""
        self.hands.pace.saw("demo.echo", 0.0001)

    def say(self, message: dict[str, Any], executor: int = 0) -> None:
        """As the executor, and let the dispatcher hear it."""
        self.ends[executor].sendall(wire.encode(message))
        self.hands.hear(self.executors[executor])

    def end(self, lease: Lease, outcome: Outcome, executor: int = 0) -> None:
        self.say({"ended": wire.key_of(lease), "seconds": 0.0001, **outcome_to_wire(outcome)}, executor)

    def heard(self, executor: int = 0) -> list[dict[str, Any]]:
        """What the executor was told since it was last asked."""
        self.hands.flush()
        with suppress(BlockingIOError):
            while True:
                self._arrived += self.ends[executor].recv(1 << 20)
        *lines, self._arrived = self._arrived.split(b"\n")
        return [json.loads(line) for line in lines]

    def got(self, executor: int = 0) -> list[Lease]:
        """The leases among it."""
        return [
            lease_from_wire(wired) for message in self.heard(executor) for wired in message.get("leases", [])
        ]

    def take(self) -> list[tuple[Lease, Outcome]]:
        """The outcomes gathered since it was last asked."""
        taken, self.outcomes = self.outcomes, []
        self.hands._gather = lambda lease, outcome: self.outcomes.append((lease, outcome))
        return taken

    def close(self) -> None:
        self.selector.close()
        for end in [*self.ends, *(executor.channel for executor in self.executors)]:
            end.close()


MakeStage = Callable[..., Stage]


@pytest.fixture
def make_stage() -> Iterator[MakeStage]:
    stages: list[Stage] = []

    def make(executors: int, lease_for: timedelta | None = None) -> Stage:
        stages.append(Stage(executors, lease_for))
        return stages[-1]

    yield make
    for stage in stages:
        stage.close()


@pytest.fixture
def stage(make_stage: MakeStage) -> Stage:
    """One executor, and a handler that is known to be short."""
    made = make_stage(1)
    made.learn_that_short()
    return made


def leases(count: int, **fields: Any) -> list[Lease]:
    given: dict[str, Any] = {
        "handler": "demo.echo",
        "args": "[]",
        "payload": "{}",
        "timeout": timedelta(seconds=10),
        **fields,
    }
    return [Lease(task_id=uuid4(), fence=1, attempt=1, **given) for _ in range(count)]


def begun(executor: Executor) -> float:
    head = executor.head
    assert head is not None
    assert head.begun is not None
    return head.begun


# -- handing out


def test_idle_executors_come_first(make_stage: MakeStage) -> None:
    stage = make_stage(3)
    stage.learn_that_short()
    given = leases(5)

    stage.hands.hand_out(given)

    assert sorted(len(stage.got(number)) for number in range(3)) == [1, 2, 2]


def test_room_is_the_idle_ones_and_what_may_wait_behind_short_tasks(make_stage: MakeStage) -> None:
    stage = make_stage(3)
    assert stage.hands.room() == (3, 0)  # nothing is known to be short yet

    stage.learn_that_short()
    idle, ahead = stage.hands.room()
    assert idle == 3
    assert ahead > 3

    stage.hands.hand_out(leases(2, handler="unknown"))
    idle, ahead = stage.hands.room()
    assert idle == 1
    assert 0 < ahead < HAND_AHEAD_LEASES


def test_what_nobody_can_take_waits_and_keeps_others_from_being_claimed(make_stage: MakeStage) -> None:
    stage = make_stage(1)
    first, second = leases(2)

    stage.hands.hand_out([first, second])

    assert stage.got() == [first]
    assert stage.hands.leases() == [first, second]
    assert stage.hands.room() == (0, 0)
    stage.end(first, Succeeded())
    stage.hands.watch(time.monotonic())
    assert stage.got() == [second]


def test_what_nobody_takes_for_too_long_goes_back(make_stage: MakeStage) -> None:
    stage = make_stage(1)
    first, second = leases(2)
    stage.hands.hand_out([first, second])

    stage.hands.watch(time.monotonic() + WAIT_AT_MOST + 0.1)

    assert stage.take() == [(second, NOT_BEGUN)]
    assert stage.hands.leases() == [first]


def test_it_is_empty_when_nothing_is_in_hand(stage: Stage) -> None:
    [lease] = leases(1)

    before = stage.hands.empty
    stage.hands.hand_out([lease])
    meanwhile = stage.hands.empty
    stage.end(lease, Succeeded("1"))

    assert (before, meanwhile, stage.hands.empty) == (True, False, True)
    assert stage.take() == [(lease, Succeeded("1"))]


# -- what executors say


@pytest.mark.parametrize(
    "nonsense",
    [
        b"no json\n",
        b'{"ended": ["00", 1], "seconds": 1, "outcome": "Succeeded", "result": "null"}\n',
        b'{"ended": ["00", 1], "seconds": 1, "outcome": "Nonsense"}\n',
        b'{"recalled": 7}\n',
    ],
)
def test_an_executor_that_talks_nonsense_is_killed_and_gets_nothing_more(
    stage: Stage, nonsense: bytes
) -> None:
    [lease] = leases(1)
    stage.hands.hand_out([lease])

    stage.ends[0].sendall(nonsense)
    stage.hands.hear(stage.executors[0])

    assert stage.executors[0].killed_for is not None
    assert stage.hands.room() == (0, 0)
    assert stage.take() == []  # its outcome comes with its end


# -- recall


def test_what_waits_behind_a_slow_head_is_taken_back_without_an_answer(stage: Stage) -> None:
    """The executor may hold the GIL in C: it reads nothing, and says nothing."""
    slow, *behind = leases(4)
    stage.hands.hand_out([slow, *behind])

    stage.hands.watch(begun(stage.executors[0]) + WAIT_AT_MOST + 0.01)

    assert stage.take() == [(lease, NOT_BEGUN) for lease in behind]
    assert stage.hands.leases() == [slow]
    assert [list(message) for message in stage.heard()] == [["leases"], ["recall"]]
    stage.say({"recalled": [wire.key_of(lease) for lease in behind]})  # its late answer
    assert stage.take() == []


def test_before_that_time_nothing_is_taken_back(stage: Stage) -> None:
    stage.hands.hand_out(leases(4))

    stage.hands.watch(begun(stage.executors[0]) + WAIT_AT_MOST - 0.1)

    assert stage.take() == []
    assert stage.hands.next_moment() == pytest.approx(begun(stage.executors[0]) + WAIT_AT_MOST)


@pytest.mark.parametrize("it_had_begun", [True, False])
def test_a_head_that_is_new_since_then_is_the_executors_to_decide(stage: Stage, it_had_begun: bool) -> None:
    """It ended the slow one when the recall was on its way, and may have begun the next."""
    slow, second, third = leases(3)
    stage.hands.hand_out([slow, second, third])
    stage.hands.flush()
    moment = begun(stage.executors[0]) + WAIT_AT_MOST + 0.01
    ended = {"ended": wire.key_of(slow), "seconds": 9, **outcome_to_wire(Succeeded())}
    stage.ends[0].sendall(wire.encode(ended))  # not heard yet

    stage.hands.watch(moment)

    assert stage.take() == [(slow, Succeeded()), (third, NOT_BEGUN)]
    assert stage.hands.leases() == [second]
    stage.say({"recalled": [wire.key_of(lease) for lease in ([] if it_had_begun else [second]) + [third]]})
    assert stage.take() == ([] if it_had_begun else [(second, NOT_BEGUN)])


def test_what_is_handed_out_after_a_recall_is_not_recalled_by_it(stage: Stage) -> None:
    slow, second = leases(2)
    stage.hands.hand_out([slow, second])
    stage.hands.watch(begun(stage.executors[0]) + WAIT_AT_MOST + 0.01)
    stage.take()
    stage.end(slow, Succeeded())
    [third] = leases(1)
    stage.hands.hand_out([third])

    stage.say({"recalled": [wire.key_of(second)]})

    assert stage.hands.leases() == [third]
    assert [message for message in stage.heard() if "leases" in message or "recall" in message][
        -1
    ].keys() == {"leases"}


def test_a_recall_that_does_not_fit_into_the_socket_waits_for_space(stage: Stage) -> None:
    """Until it is in the socket, the executor may begin what lies before it."""
    slow, *behind = leases(40, payload=json.dumps("x" * 25_000))
    stage.hands.hand_out([slow, *behind])
    stage.hands.flush()

    stage.hands.watch(begun(stage.executors[0]) + WAIT_AT_MOST + 0.01)
    assert stage.take() == []
    assert stage.hands.leases() == [slow, *behind]

    while stage.executors[0].unsent:
        stage.heard()
    assert stage.take() == [(lease, NOT_BEGUN) for lease in behind]


# -- time limits


def test_a_head_past_its_limit_is_asked_to_end_and_killed_five_seconds_later(stage: Stage) -> None:
    [lease] = leases(1)
    stage.hands.hand_out([lease])
    start = begun(stage.executors[0])
    stage.heard()
    assert stage.hands.next_moment() == pytest.approx(start + 10)

    stage.hands.watch(start + 9.9)
    assert stage.heard() == []
    stage.hands.watch(start + 10.1)
    assert stage.heard() == [{"interrupt": list(wire.key_of(lease)), "why": "timeout"}]
    asked = stage.executors[0].line[0].interrupted
    assert asked is not None
    stage.hands.watch(asked + KILL_AFTER - 0.1)
    assert stage.heard() == []  # once
    assert stage.hands.next_moment() == pytest.approx(asked + KILL_AFTER)
    stage.hands.watch(asked + KILL_AFTER + 0.1)
    assert stage.executors[0].killed_for == TimedOut(timedelta(seconds=10))
    assert stage.hands.next_moment() == math.inf


def test_a_head_without_a_limit_is_never_asked(stage: Stage) -> None:
    stage.hands.hand_out(leases(1, timeout=None))

    assert stage.hands.next_moment() == math.inf
    stage.hands.watch(time.monotonic() + 1e9)

    assert [list(message) for message in stage.heard()] == [["leases"]]


def test_the_limit_of_a_task_begins_with_it_and_not_while_it_waits(stage: Stage) -> None:
    first, second = leases(2)
    stage.hands.hand_out([first, second])
    before = begun(stage.executors[0])

    stage.end(first, Succeeded())

    assert begun(stage.executors[0]) > before
    assert stage.hands.next_moment() == pytest.approx(begun(stage.executors[0]) + 10)


# -- cancel, lost leases


def test_a_running_task_is_asked_to_end_once_however_often_one_hears_of_it(stage: Stage) -> None:
    [lease] = leases(1)
    stage.hands.hand_out([lease])
    stage.heard()

    for _ in range(3):
        stage.hands.cancel([lease.task_id])

    assert stage.heard() == [{"interrupt": list(wire.key_of(lease)), "why": "cancel"}]
    stage.end(lease, Cancelled())
    assert stage.take() == [(lease, Cancelled())]


def test_a_task_that_has_not_begun_is_taken_back_when_it_is_cancelled(make_stage: MakeStage) -> None:
    stage = make_stage(1)
    stage.learn_that_short()
    running, waiting, *others = leases(3)
    stage.hands.hand_out([running, waiting, *others])

    stage.hands.cancel([waiting.task_id])

    assert (waiting, NOT_BEGUN) in stage.take()
    assert running in stage.hands.leases()
    assert "interrupt" not in str(stage.heard())


def test_a_task_that_nobody_took_yet_is_given_back_when_it_is_cancelled(make_stage: MakeStage) -> None:
    stage = make_stage(1)
    running, spare = leases(2)
    stage.hands.hand_out([running, spare])

    stage.hands.cancel([spare.task_id])

    assert stage.take() == [(spare, NOT_BEGUN)]


def test_cancelling_what_is_not_in_hand_does_nothing(stage: Stage) -> None:
    [lease] = leases(1)
    stage.hands.hand_out([lease])
    stage.heard()

    stage.hands.cancel([uuid4()])

    assert stage.heard() == []


def test_whatever_comes_of_a_lost_lease_is_dropped(stage: Stage) -> None:
    running, waiting = leases(2)
    stage.hands.hand_out([running, waiting])
    stage.heard()

    stage.hands.lose([running, waiting])

    told = stage.heard()
    assert {"interrupt": list(wire.key_of(running)), "why": "lost"} in told
    assert {"recall": True} in told
    stage.end(running, Succeeded())
    assert stage.take() == []
    assert stage.hands.empty


def test_a_newer_lease_of_the_same_task_is_not_lost_with_the_old_one(stage: Stage) -> None:
    [lease] = leases(1)
    stage.hands.hand_out([lease])
    stage.heard()
    old = Lease(task_id=lease.task_id, fence=0, handler="demo.echo", args="[]", payload="{}", attempt=1)

    stage.hands.lose([old])

    assert stage.heard() == []
    stage.end(lease, Succeeded())
    assert stage.take() == [(lease, Succeeded())]


# -- leases that cannot be renewed


def test_what_was_not_renewed_for_a_whole_lease_is_stopped_and_its_outcome_kept(
    make_stage: MakeStage,
) -> None:
    """Somebody else may run it; if nobody does, its fence still holds."""
    stage = make_stage(1, timedelta(seconds=30))
    stage.learn_that_short()
    running, waiting = leases(2)
    stage.hands.hand_out([running, waiting])
    stage.heard()

    stage.hands.let_lapse(time.monotonic() + 29)
    assert stage.heard() == []
    stage.hands.let_lapse(time.monotonic() + 31)

    assert {"interrupt": list(wire.key_of(running)), "why": "lost"} in stage.heard()
    stage.end(running, Succeeded())
    assert stage.take() == [(waiting, NOT_BEGUN), (running, Succeeded())]


def test_a_renewal_counts_for_all_that_is_in_hand(make_stage: MakeStage) -> None:
    stage = make_stage(1, timedelta(seconds=30))
    [lease] = leases(1)
    stage.hands.hand_out([lease])
    stage.heard()
    stage.executors[0].line[0].since -= 3600

    extension = Extension(held=frozenset({lease.task_id}), cancelled=frozenset(), lost=())
    asked_at = time.monotonic()
    stage.hands.renewed(extension, asked_at)
    stage.hands.let_lapse(asked_at + 29)
    assert stage.heard() == []

    stage.hands.renewed(extension, asked_at - 5)  # the answer took its time
    stage.hands.let_lapse(asked_at + 26)
    assert {"interrupt": list(wire.key_of(lease)), "why": "lost"} in stage.heard()


def test_where_nobody_else_can_write_either_a_lease_may_wait_for_its_renewal(stage: Stage) -> None:
    stage.hands.hand_out(leases(1))
    stage.heard()

    stage.hands.let_lapse(time.monotonic() + 3600)

    assert stage.heard() == []


# -- rare orders of events


def test_a_recall_that_found_room_in_a_full_socket_leaves_the_selector_in_peace(stage: Stage) -> None:
    [executor] = stage.executors
    stage.learn_that_short()
    stage.hands.hand_out(leases(20, payload=json.dumps({"text": "x" * 50_000})))
    stage.hands.flush()
    assert executor.unsent  # more than the socket takes
    stage.hands.recall(executor)
    with suppress(BlockingIOError):
        while stage.ends[0].recv(1 << 20):
            executor.flush()

    stage.hands.recall(executor)
    stage.hands.flush()

    assert stage.selector.get_key(executor.channel).events == selectors.EVENT_READ


def test_a_kill_is_charged_only_to_the_task_that_it_was_meant_for(stage: Stage) -> None:
    [executor] = stage.executors
    stage.learn_that_short()
    first, second = leases(2)
    stage.hands.hand_out([first, second])
    crashed = Crashed("killed by SIGKILL")

    executor.kill(TimedOut(timedelta(seconds=10)))

    assert executor.came_to(first, crashed) == TimedOut(timedelta(seconds=10))
    assert executor.came_to(second, crashed) == Released(started=True)
