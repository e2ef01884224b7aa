"""A dispatcher and its executors, as the queue sees them: what it has in hand, and what it does next."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterable
from datetime import timedelta
from enum import Enum, auto
from uuid import UUID

from tasks.contract import (
    Cancelled,
    Crashed,
    ErrorReport,
    Failed,
    Lease,
    LeaseKey,
    Outcome,
    Released,
    Succeeded,
    TimedOut,
)
from tasks.tests.simulation.desk import LEASE_FOR, BegunBy, Desk
from tasks.tests.simulation.rules import Rules

WAITING_AT_MOST = LEASE_FOR / 2
ERROR = ErrorReport("app.Error", "no")
ENDS: list[Outcome] = [
    Failed(ERROR),
    Failed(ERROR),
    Failed(ERROR, retry_in=timedelta(0)),
    Failed(ERROR, retry_in=timedelta(seconds=40)),
    Failed(ERROR, retryable=False),
    TimedOut(timedelta(seconds=5)),
    CRASH := Crashed("killed by SIGSEGV"),
    CRASH,
]


Elapsed = Callable[[], timedelta]  # how much time has really passed, whatever clocks say


class Fate(Enum):
    """Of a transaction."""

    COMMITTED = auto()
    REFUSED = auto()  # nothing was written, and its worker knows
    UNHEARD = auto()  # committed, but its worker believes that it was not


class Worker:
    """What happens to it is chosen by others; what it does then is what the real one does."""

    def __init__(
        self, name: str, host: str, desk: Desk, rules: Rules, rng: random.Random, elapsed: Elapsed
    ) -> None:
        self.id = name
        self.host = host
        self.paused = False
        self.executors = 1 + (rng.random() < 0.3)
        self.begun: set[LeaseKey] = set()  # marks: all that its executors have ever begun
        self._desk = desk
        self._rules = rules
        self._rng = rng
        self._elapsed = elapsed
        self._came_at: dict[LeaseKey, timedelta] = {}
        self._hand: list[Lease] = []  # in the order in which they begin
        self._running: list[Lease] = []
        self._gathered: list[tuple[Lease, Outcome]] = []

    @property
    def leases(self) -> list[Lease]:
        return [*self._running, *self._hand, *(lease for lease, _ in self._gathered)]

    @property
    def idle(self) -> bool:
        return not (self._running or self._hand or self._gathered)

    @property
    def can_begin(self) -> bool:
        return bool(self._hand) and len(self._running) < self.executors

    @property
    def runs(self) -> bool:
        return bool(self._running)

    # -- its executors

    def begin(self) -> None:
        if self.can_begin:
            lease = self._hand.pop(0)
            if self._elapsed() - self._came_at[lease.key] > WAITING_AT_MOST:  # nobody has called it back
                self._gathered.append((lease, Released(started=False)))
                return
            self.begun.add(lease.key)
            self._running.append(lease)
            self._rules.began(lease)

    def end(self, outcome: Outcome | None = None) -> None:
        """The handler that has run longest returns, or comes to this outcome."""
        if not self._running:
            return
        lease = self._running.pop(0)
        outcome = outcome or Succeeded(str(lease.fence))
        if isinstance(outcome, Crashed) and self.executors == 1:
            self._give_back(self._hand)
        self._came_to(lease, outcome)

    def _came_to(self, lease: Lease, outcome: Outcome) -> None:
        self._rules.is_over(lease)
        self._gathered.append((lease, outcome))

    def _give_back(self, unbegun: Iterable[Lease]) -> None:
        for lease in list(unbegun):
            self._hand.remove(lease)
            self._gathered.append((lease, Released(started=False)))

    # -- its ledger

    def turn(self, fate: Fate = Fate.COMMITTED, *, claiming: bool = True) -> None:
        """Settle what has gathered, and claim as much as there is room for, in one transaction."""
        if fate is Fate.REFUSED:
            return
        cancelled = self._desk.asked_to_stop(self.id)
        settled = self._settle(self._gathered)
        leases = self._claim() if claiming else []
        if fate is Fate.COMMITTED:
            del self._gathered[:settled]
            self._hand += leases
            self._came_at |= dict.fromkeys([lease.key for lease in leases], self._elapsed())
            self._stop(cancelled)

    def _settle(self, outcomes: list[tuple[Lease, Outcome]]) -> int:
        if outcomes:
            self._rules.settled(outcomes, self._desk.settle(outcomes))
        return len(outcomes)

    def _claim(self) -> list[Lease]:
        idle = max(0, self.executors - len(self._running) - len(self._hand))
        ahead = self._rng.choice((0, 0, 2)) if idle else 0
        if not idle:
            return []
        leases = self._desk.claim(self.id, limit=idle, ahead=ahead)
        self._rules.claimed(self.id, leases)
        return leases

    def _stop(self, cancelled: Collection[UUID]) -> None:
        """Somebody asked for their end: what runs may end as it likes, too."""
        if cancelled:
            self._give_back([lease for lease in self._hand if lease.task_id in cancelled])
            for lease in [lease for lease in self._running if lease.task_id in cancelled]:
                if self._rng.random() < 0.7:
                    self._running.remove(lease)
                    self._came_to(lease, Cancelled())

    def extend(self) -> None:
        leases = self.leases
        if leases:
            extension = self._desk.extend(leases)
            self._rules.extended(leases, extension)
            self._lose({lease.key for lease in extension.lost})
            self._stop(extension.cancelled)

    def _lose(self, keys: Collection[LeaseKey]) -> None:
        """What comes of them is dropped; what had come already is left to the fence."""
        self._hand = [lease for lease in self._hand if lease.key not in keys]
        for lease in [lease for lease in self._running if lease.key in keys]:
            self._running.remove(lease)
            self._rules.is_over(lease)

    def reap(self, dead: Collection[str], begun_by: BegunBy) -> None:
        """What lapsed, what the dead held, and what is ours and we know nothing of."""
        spared = {lease.task_id for lease in self.leases}
        taken_from = {self.id, *dead}
        settlement = self._desk.reap(spared=spared, dead=taken_from, begun_by=begun_by)
        self._rules.reaped(settlement, spared, taken_from)

    # -- its end

    def shut_down(self) -> None:
        """SIGTERM: what runs is out of grace."""
        self._give_back(self._hand)
        while self._running:
            self._came_to(self._running.pop(0), Released(started=True))
        self.turn(claiming=False)

    def die(self) -> None:
        """kill -9, and its executors with it."""
        for lease in self._running:
            self._rules.is_over(lease)
