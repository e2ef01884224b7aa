"""The loop of a worker: one selector for executors, signals, bell and ledger."""

from __future__ import annotations

import logging
import selectors
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

from tasks.contract import Lease, Outcome, Released
from tasks.lifecycle import REFUSED, Extension, Settlement
from tasks.logs import event
from tasks.worker.crew import Crew
from tasks.worker.duties import Duty
from tasks.worker.ending import Ending
from tasks.worker.hands import KILL_AFTER, Hands
from tasks.worker.ledger import Ledger, Turned, Wish
from tasks.worker.report import Report
from tasks.worker.stop import StopSignals
from tasks.worker.vitals import Vitals
from tasks.worker.wakeup import Rings

logger = logging.getLogger("tasks.dispatcher")

POLL_SECONDS = 1.0  # the longest sleep, where there is no bell
LOOK_AFTER_EXECUTORS_SECONDS = 1.0  # how often their memory and age are looked at
RETRY_SECONDS = (0.1, 0.2, 0.5, 1.0)  # after a turn that the database refused, one after the other
RETRY_DUTY_SECONDS = 2.0  # after one that failed; longer than those, so that turns go on meanwhile
LAST_SETTLE_SECONDS = 5.0  # to hand everything back, once all executors have ended


@dataclass(frozen=True, slots=True)
class Plan:
    """How this worker is to run."""

    executors: int
    grace: timedelta
    lease_for: timedelta | None = None  # None: who cannot write here knows that nobody can


class Dispatcher:
    """Lets the executors work until a signal says stop."""

    def __init__(
        self,
        plan: Plan,
        *,
        selector: selectors.BaseSelector,
        crew: Crew,
        ledger: Ledger,
        duties: Sequence[Duty],
        bell: Rings | None,
        signals: StopSignals,
        report: Report,
        vitals: Vitals | None = None,
    ) -> None:
        self._plan = plan
        self._selector = selector
        self._crew = crew
        self._ledger = ledger
        self._duties = list(duties)
        self._bell = bell
        self._signals = signals
        self._report = report
        self._hands = Hands(crew, self.gather, plan.lease_for)
        self._ending = Ending(signals, vitals or Vitals(), plan.grace, lambda: len(self._hands.leases()))
        self._gathered: list[tuple[Lease, Outcome]] = []
        self._arrived: list[Lease] = []  # claimed, and about to be handed out
        self._in_flight: Sequence[tuple[Lease, Outcome]] = ()
        self._want = True  # there may be something to claim
        self._look = True  # there may be something to see: a cancel, a task that is due
        self._look_at = 0.0
        self._check_executors_at = 0.0
        self._failures = 0
        self._failing: set[str] = set()  # a turn, or the names of duties
        self._retry_at = 0.0
        self._ended_at: float | None = None  # since when no executor has anything in hand any more
        self._killed = False

    def gather(self, lease: Lease, outcome: Outcome) -> None:
        """Keep an outcome until a turn has settled it."""
        self._gathered.append((lease, outcome))

    # -- the loop

    def run(self) -> int:
        """Work until told to stop. Returns the exit code: 0 when everything was settled or handed back."""
        self._register()
        self._crew.start(self._plan.executors)
        while not self._over(time.monotonic()):
            self._step()
        return 0 if self._all_settled and not self._crew.hopeless else 1

    def _register(self) -> None:
        read = selectors.EVENT_READ
        self._selector.register(self._signals, read, self._signals.drain)
        self._selector.register(self._ledger, read, self._hear_ledger)
        if self._bell is not None:
            self._selector.register(self._bell, read, self._hear_bell)

    def _step(self) -> None:
        for key, _ in self._selector.select(self._patience(time.monotonic())):
            key.data()
        now = time.monotonic()
        self._heed_signals(now)
        self._hands.watch(now)
        if self._failures:
            self._hands.let_lapse(now)
        self._retire_executors(now)
        self._feed_ledger(now)  # before the leases that came go out, so that the ledger is not kept waiting
        self._hand_out()
        self._hands.flush()
        if self._ending.since is None:  # last: to start a process takes a while
            self._crew.keep_up(self._plan.executors, now)
        self._report.now_and_then(now)

    def _patience(self, now: float) -> float:
        """Seconds until something is due by itself."""
        hands, crew = self._hands.next_moment(), self._crew.next_start()
        moments = [hands, crew, self._check_executors_at, self._stop_moment()]
        if not self._ledger.busy:
            own = [self._look_at, *(duty.due for duty in self._duties)]
            moments.append(max(self._retry_at, now if self._gathered else min(own)))
        return max(0.0, min(moments) - now)

    def _hear_bell(self) -> None:
        if self._bell is not None:
            self._bell.drain()
        self._rouse()

    def _rouse(self) -> None:
        self._want = self._look = True

    def _retire_executors(self, now: float) -> None:
        if now >= self._check_executors_at:
            self._check_executors_at = now + LOOK_AFTER_EXECUTORS_SECONDS
            self._crew.retire_worn()
        self._crew.stop_retired()

    # -- the ledger

    def _feed_ledger(self, now: float) -> None:
        """One errand at a time: what is due first, else a turn with all that gathered meanwhile."""
        if self._ledger.busy or now < self._retry_at:
            return
        duty = min(self._duties, key=lambda duty: duty.due)
        if duty.due <= now:
            duty.put_off(now)
            errand = partial(duty.run, self._leases())
            self._ledger.submit(errand, partial(self._after_duty, duty, now))
            return
        if now >= self._look_at:
            self._rouse()
        idle, ahead = self._room()
        if self._gathered or self._look or (self._want and idle + ahead):
            outcomes, self._gathered = self._gathered, []
            in_hand = bool(self._arrived) or not self._hands.empty
            self._begin_turn(Wish(outcomes, idle, ahead, in_hand=in_hand), self._ledger.turn)

    def _room(self) -> tuple[int, int]:
        """How many leases to ask for: to begin at once, and to wait behind others."""
        if self._ending.since is not None:
            return 0, 0
        idle, ahead = self._hands.room()
        taken = len(self._arrived)
        return max(0, idle - taken), max(0, ahead - max(0, taken - idle))

    def _hand_out(self) -> None:
        leases, self._arrived = self._arrived, []
        if self._ending.since is None:
            self._hands.hand_out(leases)
        else:
            self._gathered += [(lease, Released(started=False)) for lease in leases]

    def _leases(self) -> list[Lease]:
        """All that is in hand or not yet settled."""
        unsettled = (*self._in_flight, *self._gathered)
        return [*self._hands.leases(), *self._arrived, *(lease for lease, _ in unsettled)]

    def _begin_turn(self, wish: Wish, turn: Callable[[Wish], Turned]) -> None:
        self._in_flight = wish.outcomes
        self._look = False
        if wish.idle + wish.ahead:
            self._want = False
        poll_seconds = POLL_SECONDS if self._bell is None else self._bell.poll_seconds
        self._look_at = time.monotonic() + poll_seconds
        self._ledger.submit(partial(turn, wish), partial(self._after_turn, wish))

    def _hear_ledger(self) -> None:
        if self._ledger.stirred:
            self._ledger.stirred = False
            self._rouse()
        self._ledger.collect()

    def _after_turn(self, wish: Wish, turned: Turned | None, error: Exception | None) -> None:
        if turned is None:
            self._turn_failed(wish, error)
            return
        self._recovered("turn")
        self._in_flight = ()
        self._report.ran(self._hands.pace.take_runs(), busy=self._crew.busy)
        self._report.settled(turned.settlement)
        self._report.claimed(turned.leases)
        if len(turned.leases) >= wish.idle + wish.ahead > 0:
            self._want = True  # there may be more
        self._expect(turned.due_in)
        self._arrived += turned.leases
        self._hands.cancel(turned.cancelled)

    def _expect(self, due_in: timedelta | None) -> None:
        """Wake up when the next waiting task is due; were too many due for one turn, the next one goes on."""
        if due_in is None:
            return
        if due_in > timedelta(0):
            self._look_at = min(self._look_at, time.monotonic() + due_in.total_seconds())
        else:
            self._want = self._look = True

    def _turn_failed(self, wish: Wish, error: Exception | None) -> None:
        """Nothing was written: the outcomes are ours again."""
        self._rouse()
        if isinstance(error, REFUSED) and wish.outcomes and not wish.careful:
            self._begin_turn(Wish(wish.outcomes, careful=True), self._ledger.careful_turn)
            return
        self._in_flight = ()
        self._gathered = [*wish.outcomes, *self._gathered]
        self._failed("turn", error)

    def _after_duty(self, duty: Duty, asked_at: float, result: Any, error: Exception | None) -> None:
        if error is not None:
            duty.due = min(duty.due, time.monotonic() + RETRY_DUTY_SECONDS)
            self._failed(duty.name, error)
            return
        self._recovered(duty.name)
        if result is True:
            duty.go_on_soon(time.monotonic())
        if isinstance(result, Extension):
            self._report.renewed(result)
            self._hands.renewed(result, asked_at)
        if isinstance(result, Settlement) and result.written:
            self._report.reaped(result)
            self._rouse()

    def _failed(self, what: str, error: Exception | None) -> None:
        pause = RETRY_SECONDS[min(self._failures, len(RETRY_SECONDS) - 1)]
        self._retry_at = time.monotonic() + pause
        self._failures += 1
        self._failing.add(what)
        self._report.database_failed(what, error, self._failures)

    def _recovered(self, what: str) -> None:
        """What has failed must succeed: a duty that only reads does so while nobody can write."""
        self._failing.discard(what)
        if self._failures and not self._failing:
            event(logger, logging.INFO, "database.recovered", failures=self._failures)
            self._rouse()
            self._failures = 0

    # -- the end

    def close(self) -> None:
        self._crew.close()

    @property
    def _all_settled(self) -> bool:
        return self._hands.empty and not (self._arrived or self._gathered or self._ledger.busy)

    def _heed_signals(self, now: float) -> None:
        if self._ending.heed(now, hopeless=self._crew.hopeless):
            self._hands.recall_all()
        if self._signals.at_once and not self._killed:
            self._killed = True
            self._hands.kill_all()
        elif now >= self._ending.until:
            self._hands.interrupt_all("stop")

    def _stop_moment(self) -> float:
        return float("inf") if self._hands.empty else self._ending.next_moment()

    def _over(self, now: float) -> bool:
        if self._ending.since is None:
            return False
        if self._all_settled:
            return True
        if self._ended_at is None and self._hands.empty:
            self._ended_at = now
        ended_at = self._ended_at or self._ending.until + KILL_AFTER
        return now > ended_at + LAST_SETTLE_SECONDS
