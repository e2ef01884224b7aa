"""The state machine that Hypothesis drives: each verb is done in both worlds, and both are looked at."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import timedelta
from typing import Any
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tasks import lifecycle
from tasks.contract import (
    Cancelled,
    Crashed,
    ErrorReport,
    Failed,
    Lapsed,
    Lease,
    Outcome,
    Released,
    Succeeded,
    TimedOut,
)
from tasks.errors import DuplicateKey
from tasks.lifecycle import Settlement
from tasks.tests.model.keyed import Keyed
from tasks.tests.simulation.desk import QUEUES, Desk, Wish
from tasks.tests.simulation.rules import Rules
from tasks.tests.simulation.verbs import verbs
from tasks.unique import OnConflict, Unique, UniqueWhile

ERROR = ErrorReport("app.Error", "no")
STEP = timedelta(milliseconds=1)
seconds = st.integers(0, 60).map(lambda number: timedelta(seconds=number))
workers = st.sampled_from(["one", "two", "three"])
outcomes: st.SearchStrategy[Outcome | None] = st.one_of(
    st.none(),  # it succeeds
    st.builds(Failed, st.just(ERROR), st.booleans(), st.none() | seconds),
    st.sampled_from([TimedOut(timedelta(seconds=5)), Crashed("killed by SIGKILL"), Cancelled(), Lapsed()]),
    st.builds(Released, st.booleans()),
)
uniques = st.builds(
    Unique,
    key=st.sampled_from(["k", "l"]),
    while_=st.sampled_from(UniqueWhile),
    on_conflict=st.sampled_from(OnConflict),
    ttl=st.integers(1, 90).map(lambda number: timedelta(seconds=number)),
)


RECENT = 6  # of which one is drawn: some are held, and some have ended
# Not from bundles: one that is still empty ends the life, uncounted, where a rule draws lists of it.
ids = st.runner().flatmap(lambda machine: st.sampled_from(list(machine.watcher.seen)))
leases = st.runner().flatmap(lambda machine: st.sampled_from(machine.leases[-RECENT:]))


class Machine(RuleBasedStateMachine):
    """What one world answers the other has to answer, too; afterwards all rows are the same."""

    def __init__(self) -> None:
        super().__init__()
        self._stack = ExitStack()
        self.real = self._stack.enter_context(verbs(random.Random(0)))
        self.model = Keyed(random.Random(0))
        self.watcher = Rules(self.real)
        self.leases: list[Lease] = []  # also those that have ended

    def teardown(self) -> None:
        self._stack.close()

    def in_both[T](self, act: Callable[[Desk], T]) -> tuple[T, T]:
        """Each at the same moment, of which there was none before."""
        self.real.now += STEP
        self.model.now = self.real.now
        return act(self.real), act(self.model)

    @initialize(
        priorities=st.lists(st.sampled_from([0, 5]), min_size=2, max_size=4), first=outcomes, late=outcomes
    )
    def begin(self, priorities: list[int], first: Outcome | None, late: Outcome | None) -> None:
        """A task ends, perhaps for another to begin it, and its first worker does not know: each life has
        such a case, for half of the rules are left out of it.
        """
        for priority in priorities:
            self.enqueue(None, None, priority=priority)
        self.claim("one", 2, 0)
        lease = self.leases[0]
        self.settle([(lease, first)])
        self.claim("two", 3, 0)
        self.extend([lease])
        self.settle([(lease, late)])

    # -- clients

    @rule(
        queue=st.sampled_from(QUEUES),
        priority=st.sampled_from([0, 5]),
        max_attempts=st.sampled_from([1, 2, 5]),
        delay=st.none() | seconds,
        expires_in=st.none() | st.just(timedelta(0)) | seconds,
        unique=st.none() | uniques,
    )
    def enqueue(self, delay: timedelta | None, expires_in: timedelta | None, **given: Any) -> None:
        given["run_at"] = None if delay is None else self.real.now + delay
        given["expires_at"] = None if expires_in is None else self.real.now + expires_in
        made, modelled = self.in_both(lambda desk: _made_by(desk, Wish(**given)))
        assert made == modelled
        if made is not None:
            self.watcher.enqueued(made)

    @rule(some=st.lists(ids, min_size=1, max_size=3, unique=True))
    def cancel(self, some: list[UUID]) -> None:
        answer, modelled = self.in_both(lambda desk: desk.cancel(some))
        assert sorted(answer.cancelled) == modelled.cancelled
        assert sorted(answer.requested) == modelled.requested
        assert answer.finished == modelled.finished
        self.watcher.cancelled(some, answer)

    @rule(some=st.lists(ids, min_size=1, max_size=3, unique=True), delay=st.none() | seconds)
    def retry(self, some: list[UUID], delay: timedelta | None) -> None:
        run_at = None if delay is None else self.real.now + delay
        moved, modelled = self.in_both(lambda desk: desk.retry(some, run_at=run_at))
        assert moved == modelled
        self.watcher.retried(moved)

    @rule(id_=ids)
    def run_now(self, id_: UUID) -> None:
        status, modelled = self.in_both(lambda desk: desk.run_now(id_))
        assert status == modelled
        self.watcher.run_now(id_)

    @rule(queue=st.sampled_from(QUEUES))
    def pause(self, queue: str) -> None:
        assert lifecycle.pause([queue]) == (queue not in self.model.paused)
        self.model.paused.add(queue)

    @rule(queue=st.sampled_from(QUEUES))
    def resume(self, queue: str) -> None:
        assert lifecycle.resume([queue]) == (queue in self.model.paused)
        self.model.paused.discard(queue)

    # -- workers

    @rule(worker=workers, limit=st.integers(0, 3), ahead=st.integers(0, 2))
    def claim(self, worker: str, limit: int, ahead: int) -> None:
        """A limit of 0 only makes ready what is due."""
        given, modelled = self.in_both(lambda desk: desk.claim(worker, limit=limit, ahead=ahead))
        assert [_proof(lease) for lease in given] == [_proof(lease) for lease in modelled]
        self.watcher.claimed(worker, given)
        self.leases += given

    @rule(some=st.lists(leases, min_size=1, max_size=3))
    def extend(self, some: list[Lease]) -> None:
        extension, modelled = self.in_both(lambda desk: desk.extend(some))
        assert (extension.held, extension.cancelled) == (modelled.held, modelled.cancelled)
        assert set(extension.lost) == set(modelled.lost)
        self.watcher.extended(some, extension)

    @rule(some=st.lists(st.tuples(leases, outcomes), min_size=1, max_size=4))
    def settle(self, some: list[tuple[Lease, Outcome | None]]) -> None:
        """Also of leases that are lost, and twice of the same."""
        ended = [(lease, outcome or Succeeded(str(lease.fence))) for lease, outcome in some]
        settlement, modelled = self.in_both(lambda desk: desk.settle(ended))
        assert _written(settlement) == _written(modelled)
        assert {lease.key for lease in settlement.lost} == {lease.key for lease in modelled.lost}
        self.watcher.settled(ended, settlement)

    @rule(some=st.lists(leases, min_size=1, max_size=3, unique_by=lambda lease: lease.key))
    def release(self, some: list[Lease]) -> None:
        unbegun: list[tuple[Lease, Outcome]] = [(lease, Released(started=False)) for lease in some]
        self.real.now += STEP
        self.model.now = self.real.now
        written = self.model.settle(unbegun).written
        assert lifecycle.release(some, now=self.real.now) == len(written)
        self.watcher.settled(unbegun, Settlement(written))

    @rule(
        spared=st.lists(ids, max_size=2),
        dead=st.lists(workers, max_size=1),
        begun=st.none() | st.lists(leases, max_size=2),
    )
    def reap(self, spared: list[UUID], dead: list[str], begun: list[Lease] | None) -> None:
        keys = None if begun is None else [lease.key for lease in begun]
        settlement, modelled = self.in_both(
            lambda desk: desk.reap(spared=spared, dead=dead, begun_by=lambda _: keys)
        )
        assert _written(settlement) == _written(modelled)
        self.watcher.reaped(settlement, spared, dead)

    # -- time

    @rule(some=seconds)
    def let_time_pass(self, some: timedelta) -> None:
        self.real.now += some

    @rule()
    def expire(self) -> None:
        count, modelled = self.in_both(lambda desk: desk.expire())
        assert count == modelled
        self.watcher.expired()

    # -- after each

    @invariant()
    def both_worlds_are_the_same(self) -> None:
        assert self.watcher.seen == self.real.rows() == self.model.rows()
        for row in self.watcher.seen.values():
            self.watcher.expect_sound(row)


def _made_by(desk: Desk, wish: Wish) -> UUID | None:
    """None: it was refused."""
    try:
        return desk.enqueue(wish)
    except DuplicateKey:
        return None


def _proof(lease: Lease) -> Sequence[Any]:
    """What a lease says of its row."""
    return lease.key, lease.attempt, lease.attempts_before, lease.max_attempts, lease.crashes, lease.releases


def _written(settlement: Settlement) -> list[Any]:
    return sorted((lease.key, how) for lease, _, how in settlement.written)
