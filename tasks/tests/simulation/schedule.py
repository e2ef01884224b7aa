"""One life of a queue: a few tasks, a few workers, and what chance does to them, all decided by a seed."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection
from datetime import timedelta
from itertools import accumulate
from uuid import UUID

from tasks.contract import LeaseKey, Outcome
from tasks.states import FINISHED, Status
from tasks.tests.simulation.desk import LEASE_FOR, QUEUES, Desk, Wish
from tasks.tests.simulation.rules import Rules
from tasks.tests.simulation.stories import Broken
from tasks.tests.simulation.workers import CRASH, ENDS, Fate, Worker

TASKS = 4  # at most
STEP = timedelta(milliseconds=1)  # no two things happen at one moment
RECOVERED_WITHIN = LEASE_FOR + timedelta(seconds=5)
TURNS_TO_THE_END = 60
NAPS = [timedelta(seconds=seconds) for seconds in (0.3, 1, 2, 5, 9)]
CORRECTIONS = [timedelta(seconds=seconds) for seconds in (-9, -1, -0.3, 40)]
LEAPS = [timedelta(seconds=seconds) for seconds in (31, 45, 300, 4000)]
HOSTS = ("one", "one", "other")


class Schedule:
    """``desk`` and ``rng`` belong together: whatever draws from it draws in the same order each time."""

    def __init__(self, desk: Desk, rng: random.Random) -> None:
        self.desk = desk
        self.rng = rng
        self.rules = Rules(desk)
        self.told: list[str] = []  # what happened, in order
        self.elapsed = timedelta(0)
        self._ids: list[UUID] = []
        self._names = 0
        self._dead: list[Worker] = []
        self._workers = [self._new_worker(host) for host in HOSTS[: rng.choice((1, 2, 2, 3))]]

    def run(self) -> None:
        for _ in range(self.rng.choice((1, 1, 2, 3))):
            self.make()
        weights = self.rng.choice(MOODS)
        for _ in range(self.rng.randrange(8, 34)):
            [act] = self.rng.choices(ACTS, cum_weights=weights)
            self._pass(STEP)
            self.told.append(act.__name__)
            act(self)
        self.told.append("come_to_an_end")
        self.come_to_an_end()

    # -- clients

    def make(self) -> None:
        if len(self._ids) >= TASKS:
            return
        rng, now = self.rng, self.desk.now
        wish = Wish(
            queue=rng.choice(QUEUES),
            priority=rng.choice((0, 0, 5)),
            max_attempts=rng.choice((1, 2, 3, 5, 20)),
            run_at=now + rng.choice(NAPS) if rng.random() < 0.2 else None,
            expires_at=now + timedelta(seconds=20) if rng.random() < 0.1 else None,
        )
        self._ids.append(self.desk.enqueue(wish))
        self.rules.enqueued(self._ids[-1])

    def cancel(self) -> None:
        ids = [self._any()]
        self.rules.cancelled(ids, self.desk.cancel(ids))

    def retry(self) -> None:
        self.rules.retried(self.desk.retry([self._any()]))

    def run_now(self) -> None:
        id_ = self._any()
        if self.desk.run_now(id_) is Status.PENDING:
            self.rules.run_now(id_)

    def _any(self) -> UUID:
        return self.rng.choice(self._ids)

    # -- time

    def nap(self) -> None:
        self._pass(self.rng.choice(NAPS))

    def leap(self) -> None:
        """Nobody did anything meanwhile."""
        self._pass(self.rng.choice(LEAPS))

    def _pass(self, time: timedelta) -> None:
        self.desk.now += time
        self.elapsed += time

    def set_clock(self) -> None:
        self.desk.now += self.rng.choice(CORRECTIONS)
        self.rules.clock_was_set = True
        self.reap()
        self.begin()

    # -- workers

    def _new_worker(self, host: str) -> Worker:
        self._names += 1
        return Worker(f"worker-{self._names}", host, self.desk, self.rules, self.rng, lambda: self.elapsed)

    def _someone(self) -> Worker | None:
        awake = [worker for worker in self._workers if not worker.paused]
        return self.rng.choice(awake) if awake else None

    def turn(self) -> None:
        if worker := self._someone():
            worker.turn()

    def refused_turn(self) -> None:
        if worker := self._someone():
            worker.turn(Fate.REFUSED)

    def unheard_turn(self) -> None:
        if worker := self._someone():
            worker.turn(Fate.UNHEARD)

    def begin(self) -> None:
        if ready := [worker for worker in self._workers if worker.can_begin]:
            self.rng.choice(ready).begin()

    def end(self) -> None:
        if worker := self._busy():
            worker.end(self._outcome())

    def _busy(self) -> Worker | None:
        busy = [worker for worker in self._workers if worker.runs]
        return self.rng.choice(busy) if busy else None

    def _outcome(self) -> Outcome | None:
        return self.rng.choice(ENDS) if self.rng.random() < 0.6 else None

    def take(self) -> None:
        if worker := self._someone():
            worker.turn()
            worker.begin()

    def work(self) -> None:
        """The usual: claim, run, settle, at once."""
        self._work(self._outcome())

    def crash(self) -> None:
        self._work(CRASH)
        self.nap()

    def _work(self, outcome: Outcome | None) -> None:
        if worker := self._someone():
            worker.turn()
            worker.begin()
            worker.end(outcome)
            worker.turn()

    def extend(self) -> None:
        if worker := self._someone():
            worker.extend()

    def reap(self) -> None:
        if worker := self._someone():
            self._reap(worker)

    def _reap(self, worker: Worker) -> None:
        """A worker knows of its own host who is dead, and what anybody has begun there."""
        here = {other.id: other for other in (*self._dead, *self._workers) if other.host == worker.host}
        dead = [other.id for other in self._dead if other.host == worker.host]

        def begun_by(name: str) -> Collection[LeaseKey] | None:
            return here[name].begun if name in here else None

        worker.reap(dead, begun_by)

    def expire(self) -> None:
        self.desk.expire()
        self.rules.expired()

    def pause(self) -> None:
        """Stopped, while its executors go on."""
        (self._busy() or self.rng.choice(self._workers)).paused = True

    def stall(self) -> None:
        """Stopped for more than a lease; somebody else goes on with its task."""
        self.take()
        self.pause()
        self.leap()
        self.reap()
        self.take()
        if self.rng.random() < 0.5:
            self.end()

    def wake(self) -> None:
        for worker in self._workers:
            if worker.paused:
                worker.paused = False
                if self.rng.random() < 0.7:  # else a turn was on its way
                    worker.extend()

    def kill(self) -> None:
        self._bury(self.rng.choice(self._workers))

    def _bury(self, worker: Worker) -> None:
        worker.die()
        self._dead.append(worker)
        self._workers[self._workers.index(worker)] = self._new_worker(worker.host)

    def shut_down(self) -> None:
        if worker := self._someone():
            worker.shut_down()
            self._bury(worker)

    def cut_short(self) -> None:
        """A worker that takes something and is told to stop."""
        if worker := self._someone():
            worker.turn()
            worker.begin()
            worker.shut_down()
            self._bury(worker)

    # -- the end

    def come_to_an_end(self) -> None:
        """All die but one that is new, on another host: whatever was left lying ends, in its bound."""
        for worker in list(self._workers):
            self._bury(worker)
        last = self._new_worker("last")
        self._pass(max(self.desk.now, self.rules.latest) - self.desk.now + RECOVERED_WITHIN)
        self._reap(last)
        left = [row for row in self.rules.seen.values() if row.status is Status.PROCESSING]
        if left:
            raise Broken("recovery has its bound", str(left))
        for _ in range(TURNS_TO_THE_END):
            self.expire()
            last.turn()
            while last.can_begin or last.runs:
                last.begin()
                last.end()
            last.turn(claiming=False)
            if all(row.status in FINISHED for row in self.rules.seen.values()) and last.idle:
                return
            self._pass(timedelta(minutes=10))
            last.extend()
        raise Broken("everything comes to an end", str(self.rules.seen))


Act = Callable[[Schedule], None]

# what may happen, and how often: on an ordinary day, when much is killed, when somebody deploys all day, and
# when most tasks kill their executor
CHANCES: list[tuple[Act, int, int, int, int]] = [
    (Schedule.turn, 6, 4, 1, 2),
    (Schedule.take, 6, 6, 1, 3),
    (Schedule.work, 6, 2, 1, 2),
    (Schedule.crash, 1, 4, 0, 25),
    (Schedule.begin, 6, 6, 1, 2),
    (Schedule.end, 8, 5, 1, 2),
    (Schedule.make, 3, 2, 1, 3),
    (Schedule.extend, 4, 3, 1, 2),
    (Schedule.reap, 4, 5, 1, 2),
    (Schedule.nap, 5, 3, 2, 6),
    (Schedule.leap, 3, 5, 0, 6),
    (Schedule.set_clock, 2, 2, 0, 0),
    (Schedule.cancel, 4, 3, 1, 2),
    (Schedule.retry, 4, 2, 1, 2),
    (Schedule.run_now, 2, 2, 1, 8),
    (Schedule.expire, 2, 1, 1, 0),
    (Schedule.refused_turn, 1, 2, 1, 0),
    (Schedule.unheard_turn, 1, 3, 1, 1),
    (Schedule.kill, 1, 3, 1, 1),
    (Schedule.pause, 1, 1, 0, 0),
    (Schedule.stall, 1, 8, 0, 2),
    (Schedule.wake, 2, 8, 1, 2),
    (Schedule.shut_down, 1, 1, 2, 0),
    (Schedule.cut_short, 0, 1, 30, 0),
]
ACTS, *_days = zip(*CHANCES, strict=True)
MOODS = [list(accumulate(chances)) for chances in _days]
