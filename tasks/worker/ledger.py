"""The dispatcher's book-keeping thread: settles what finished and claims what is next, one commit a turn."""

from __future__ import annotations

import logging
import queue
import socket
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import connections, transaction

from tasks import clock, lifecycle
from tasks.contract import Claimant, Lease, Outcome
from tasks.lifecycle import Settlement, Sight
from tasks.lifecycle.again import again
from tasks.models.task import database
from tasks.sqlite.base import DatabaseWrapper

logger = logging.getLogger("tasks.ledger")

LOOK_SECONDS = 0.1  # how often a quiet ledger looks for commits of writers that do not ring

Outcomes = Sequence[tuple[Lease, Outcome]]


NOTHING = Settlement()
Errand = tuple[Callable[[], Any], Callable[..., None]]  # what to do, and whom to tell what came of it


@dataclass(frozen=True, slots=True)
class Wish:
    """What the loop wants of one turn."""

    outcomes: Outcomes = ()
    idle: int = 0  # executors that could begin at once
    ahead: int = 0  # leases that could wait behind short ones
    careful: bool = False  # after a turn that the database refused
    in_hand: bool = True  # something that could be asked to stop

    @property
    def room(self) -> int:
        return self.idle + self.ahead


@dataclass(frozen=True, slots=True)
class Turned:
    """What a turn brought."""

    settlement: Settlement = NOTHING
    leases: Sequence[Lease] = ()
    cancelled: frozenset[UUID] = frozenset()  # tasks of ours that somebody asked to stop
    due_in: timedelta | None = None  # until the next waiting task; None: none waits, or there is more to take


class Ledger:
    """The one database connection of a worker, in a thread of its own.

    The loop hands it one errand at a time and reads what came of it when ``fileno()`` is readable.
    """

    def __init__(self, claimant: Claimant) -> None:
        self.claimant = claimant
        self.alias = database()
        self.busy = False
        self._errands: queue.SimpleQueue[Errand | None] = queue.SimpleQueue()
        self._done: deque[tuple[Callable[..., None], Any, Exception | None]] = deque()
        self._awake, self._alarm = socket.socketpair()
        self._awake.setblocking(False)
        self._thread = threading.Thread(target=self._work, name="ledger", daemon=True)
        self._version: int | None = None
        self.stirred = False  # somebody else has committed something

    # -- for the loop

    def start(self) -> None:
        self._thread.start()

    def fileno(self) -> int:
        return self._awake.fileno()

    def submit(self, errand: Callable[[], Any], then: Callable[..., None]) -> None:
        """Run ``errand`` in the ledger's thread, and ``then(result, error)`` in the loop's."""
        self.busy = True
        self._errands.put((errand, then))

    def collect(self) -> None:
        """In the loop: hear what came of the last errand."""
        try:
            self._awake.recv(4096)
        except BlockingIOError:
            return
        while self._done:
            then, result, error = self._done.popleft()
            self.busy = False
            then(result, error)

    def close(self) -> None:
        self._errands.put(None)
        self._thread.join(timeout=2)  # longer only when the database is stuck: it is not waited for

    # -- in the thread

    def _work(self) -> None:
        while True:
            try:
                errand = self._errands.get(timeout=LOOK_SECONDS)
            except queue.Empty:
                self._look_around()
                continue
            if errand is None:
                connections[self.alias].close()
                return
            self._do(*errand)

    def _do(self, errand: Callable[[], Any], then: Callable[..., None]) -> None:
        result, error = None, None
        try:
            result = errand()
        except Exception as raised:  # the loop decides; this thread must live
            error = raised
            self._hang_up()
        self._done.append((then, result, error))
        self._wake()

    def _wake(self) -> None:
        self._alarm.send(b"!")

    def _hang_up(self) -> None:
        """Whatever state the connection is in: begin with a new one."""
        self._version = None
        try:
            connections[self.alias].close()
        except Exception:
            logger.exception("ledger.close-failed")

    def _look_around(self) -> None:
        try:
            self._look()
        except Exception:  # a database that is gone: the next turn will say so, this thread must live
            self._hang_up()

    def _look(self) -> None:
        """PRAGMA data_version changes when another connection has committed.

        What it was before a new connection's first look nobody knows: that may be a change, too.
        """
        connection = connections[self.alias]
        if not isinstance(connection, DatabaseWrapper) or connection.connection is None:
            return
        [version] = connection.connection.execute("PRAGMA data_version").fetchone()
        if version != self._version:
            self.stirred = True
            self._wake()
        self._version = version

    @again
    def turn(self, wish: Wish) -> Turned:
        """One commit; none when there is nothing to write. If it fails, the loop still has the outcomes."""
        cancelled = lifecycle.asked_to_stop(self.claimant.worker_id) if wish.in_hand else frozenset()
        if wish.outcomes:
            return self._settle_and_claim(wish, cancelled)
        sight = lifecycle.look()
        if not (sight.overdue or (wish.room and sight.offers(self.claimant))):
            return Turned(cancelled=cancelled, due_in=sight.due_in)
        with transaction.atomic(using=self.alias):
            leases, due_in = self._claim(wish, sight)
        return Turned(NOTHING, leases, cancelled, due_in)

    def _settle_and_claim(self, wish: Wish, cancelled: frozenset[UUID]) -> Turned:
        with transaction.atomic(using=self.alias):
            settlement = lifecycle.settle(wish.outcomes, now=clock.now(self.alias))
            leases, due_in = self._claim(wish, lifecycle.look())
        return Turned(settlement, leases, cancelled, due_in)

    def _claim(self, wish: Wish, sight: Sight) -> tuple[Sequence[Lease], timedelta | None]:
        """Also how long until the next task is due; not after the commit: should it fail then, nobody
        would know of the leases.

        Without room, too, what is due is made ready: others may be free for it, and who counts what
        waits is to find it.
        """
        if not wish.room:
            return (), self._promote(sight)
        leases = lifecycle.claim(self.claimant, limit=wish.idle, ahead=wish.ahead, now=sight.now, sight=sight)
        if len(leases) >= wish.room:
            return leases, None
        return leases, lifecycle.look().due_in if sight.overdue else sight.due_in

    def _promote(self, sight: Sight) -> timedelta | None:
        if not sight.overdue:
            return sight.due_in
        lifecycle.promote(now=sight.now)
        return lifecycle.look().due_in

    @again
    def careful_turn(self, wish: Wish) -> Turned:
        """After a turn that the database refused: each outcome by itself."""
        with transaction.atomic(using=self.alias):
            now = clock.now(self.alias)
            settlement = lifecycle.settle_singly(wish.outcomes, now=now)
        return Turned(settlement)
