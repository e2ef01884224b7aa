"""Who runs what, until when: hands leases out to the executors and hears what comes of them."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

from tasks import tally
from tasks.contract import Cancelled, Crashed, Lease, Outcome, Released, TimedOut, outcome_from_wire
from tasks.lifecycle import Extension
from tasks.logs import event
from tasks.worker import counted, wire
from tasks.worker.crew import Crew
from tasks.worker.handle import Executor, Held
from tasks.worker.pace import Pace

logger = logging.getLogger("tasks.dispatcher")

KILL_AFTER = 5.0  # seconds that a handler has to end once it was interrupted
WAIT_AT_MOST = 0.2  # seconds that a lease may wait behind another before somebody else gets it

Gather = Callable[[Lease, Outcome], None]


class Hands:
    """The executors, the leases in their hands, and those that nobody could take yet."""

    def __init__(self, crew: Crew, gather: Gather, lease_for: timedelta | None = None) -> None:
        self._crew = crew
        self._gather = gather
        self._lease_for = lease_for
        self._renewed_at = 0.0  # monotonic: all that was in hand then
        self.pace = Pace()
        self._spare: deque[Held] = deque()
        crew.on_word, crew.on_end = self.hear, self._gone

    # -- questions

    @property
    def empty(self) -> bool:
        return not self._spare and not any(executor.line for executor in self._crew)

    def leases(self) -> list[Lease]:
        return [held.lease for held in self._held()]

    def room(self) -> tuple[int, int]:
        """How many leases could begin at once, and how many more could wait behind short ones."""
        idle = sum(executor.idle for executor in self._crew)
        if self._spare:
            return 0, 0
        ahead = sum(executor.room(self.pace.recent) for executor in self._crew)
        return idle, max(0, ahead - idle)

    def _held(self) -> Iterator[Held]:
        for executor in self._crew:
            yield from executor.line
        yield from self._spare

    # -- leases come in

    def hand_out(self, leases: Iterable[Lease]) -> None:
        for lease in leases:
            expected = self.pace.expect(lease.handler)
            executor = self._taker(lease, expected)
            if executor is None:
                self._spare.append(Held(lease, expected, time.monotonic()))
            else:
                executor.hand(lease, expected)

    def _taker(self, lease: Lease, expected: float) -> Executor | None:
        """The one with the shortest line of those that admit it."""
        shortest = sorted(self._crew, key=lambda executor: len(executor.line))
        return next((executor for executor in shortest if executor.admits(lease, expected)), None)

    def _hand_spares(self) -> None:
        spares, self._spare = self._spare, deque()
        for held in spares:
            executor = self._taker(held.lease, held.expected)
            if executor is None:
                self._spare.append(held)
            else:
                executor.hand(held.lease, held.expected)

    # -- outcomes come back

    def hear(self, executor: Executor) -> None:
        """Take in all that an executor has said."""
        if executor.hung_up:
            return
        try:
            for message in executor.receive():
                self._heed(executor, message)
        except (wire.BrokenWire, KeyError, TypeError, ValueError) as error:
            event(logger, logging.ERROR, "executor.broken", pid=executor.pid, error=repr(error))
            executor.kill(Crashed("it wrote nonsense to its dispatcher"))
        self._crew.hang_up_if_ended(executor)

    def _heed(self, executor: Executor, message: dict[str, Any]) -> None:
        match message:
            case {"ended": [task_id, fence], "seconds": seconds, **outcome}:
                self._ended(executor, (task_id, fence), seconds, outcome_from_wire(outcome))
            case {"counted": entries}:
                tally.here.add(counted.read(entries))
            case {"recalled": keys}:
                self._give_back(executor.take_back({(task_id, fence) for task_id, fence in keys}))
            case {"ready": _}:
                self._crew.is_ready(executor)

    def _ended(self, executor: Executor, key: wire.WireKey, seconds: float, outcome: Outcome) -> None:
        head = executor.head
        if head is None or wire.key_of(head.lease) != key:
            raise wire.BrokenWire("it ended what it had not")
        executor.ended()
        if executor.spent:
            self._crew.retire(executor)
        self.pace.saw(head.lease.handler, seconds, queue=head.lease.queue)
        self._came_to(head, outcome)

    def _came_to(self, held: Held, outcome: Outcome) -> None:
        if not held.lost:
            self._gather(held.lease, outcome)

    def _give_back(self, unbegun: Iterable[Held]) -> None:
        for held in unbegun:
            self._came_to(held, Released(started=False))

    # -- time passes

    def watch(self, now: float) -> None:
        """Do what is due: interrupt, kill, recall, recycle."""
        for executor in self._crew:
            self._watch_head(executor, now)
            if len(executor.line) > 1 and now - self._begun(executor) > WAIT_AT_MOST:
                self.recall(executor)
        while self._spare and now - self._spare[0].since > WAIT_AT_MOST:
            self._give_back([self._spare.popleft()])
        self._hand_spares()

    def _begun(self, executor: Executor) -> float:
        return executor.line[0].begun or 0.0

    def _watch_head(self, executor: Executor, now: float) -> None:
        moment = _deadline(executor)
        if moment is None or now < moment:
            return
        held = executor.line[0]
        if held.interrupted is None:
            executor.interrupt("timeout")
            self._tell(held, "task.interrupted", executor)
        elif executor.killed_for is None:
            self._tell(held, "task.killed", executor)
            executor.kill(_end_by_force(held))

    def _tell(self, held: Held, what: str, executor: Executor) -> None:
        event(
            logger,
            logging.WARNING,
            what,
            task_id=held.lease.task_id,
            handler=held.lease.handler,
            why=held.why,
            pid=executor.pid,
        )

    def next_moment(self) -> float:
        """When ``watch`` has something to do again (monotonic)."""
        moments = [moment for executor in self._crew if (moment := _deadline(executor)) is not None]
        waiting = (executor for executor in self._crew if len(executor.line) > 1 and not executor.recalling)
        moments += [self._begun(executor) + WAIT_AT_MOST for executor in waiting]
        if self._spare:
            moments.append(self._spare[0].since + WAIT_AT_MOST)
        return min(moments, default=float("inf"))

    # -- what is taken back

    def recall(self, executor: Executor) -> None:
        """Take back what an executor has not begun, even from one that holds the GIL and cannot answer.

        It reads all that was sent before it begins a lease. So once the recall is in its
        socket, and all that it said before has been read, what lies behind the head will never begin.
        Should the head be new since then, the executor answers whether it has begun.
        """
        if not executor.recalling:
            executor.recall()
        executor.flush()
        if executor.unsent:
            return
        self.hear(executor)
        executor.recalling = False
        self._give_back(executor.take_back())

    def recall_all(self) -> None:
        for executor in self._crew:
            if len(executor.line) > 1:
                self.recall(executor)
        self._give_back(self._spare)
        self._spare.clear()

    def interrupt_all(self, why: str) -> None:
        for executor in self._crew:
            self._interrupt(executor, why)

    def _interrupt(self, executor: Executor, why: str) -> None:
        if executor.head is not None and executor.head.interrupted is None:
            executor.interrupt(why)
            self._tell(executor.line[0], "task.interrupted", executor)

    def kill_all(self) -> None:
        for executor in self._crew:
            executor.kill(Released(started=True))

    def cancel(self, task_ids: Iterable[UUID]) -> None:
        """Somebody wants these to end."""
        self._end_early(set(task_ids), "cancel")

    def renewed(self, extension: Extension, asked_at: float) -> None:
        """``asked_at``, monotonic: the leases count from no later, however late the answer was heard."""
        self._renewed_at = asked_at
        self.cancel(extension.cancelled)
        self.lose(extension.lost)

    def let_lapse(self, now: float) -> None:
        """Nothing can be renewed now: stop what may run elsewhere already.

        Whatever comes of it is kept: if nobody took the task, its fence still holds.
        """
        if self._lease_for is not None:
            begin = now - self._lease_for.total_seconds()
            over = (held for held in self._held() if max(held.since, self._renewed_at) < begin)
            self._end_early({held.lease.task_id for held in over}, "lost")

    def lose(self, leases: Iterable[Lease]) -> None:
        """Their leases are somebody else's now: stop them, and drop what comes of them."""
        keys = {lease.key for lease in leases}
        lost = [held for held in self._held() if held.lease.key in keys and not held.lost]
        for held in lost:
            held.lost = True
            event(logger, logging.WARNING, "lease.lost", task_id=held.lease.task_id, fence=held.lease.fence)
        self._end_early({held.lease.task_id for held in lost}, "lost")

    def _end_early(self, task_ids: set[UUID], why: str) -> None:
        for executor in self._crew:
            if executor.head is not None and executor.head.lease.task_id in task_ids:
                self._interrupt(executor, why)
            if any(held.lease.task_id in task_ids for held in executor.line if held is not executor.head):
                self.recall(executor)
        for held in [held for held in self._spare if held.lease.task_id in task_ids]:
            self._spare.remove(held)
            self._give_back([held])

    def flush(self) -> None:
        for executor in self._crew:
            if executor.unsent and not executor.hung_up:
                executor.flush()
                if executor.recalling:
                    self.recall(executor)
            if not executor.hung_up:  # also after a recall that sent the rest: its socket would wake us
                self._crew.listen_for_space(executor)

    def _gone(self, executor: Executor) -> None:
        """An executor has ended: what it was running has crashed, unless we ended it ourselves."""
        self.hear(executor)
        how, with_forkserver = self._crew.bury(executor)
        if executor.line:
            ours = with_forkserver or not executor.has_begun
            seen = Released(started=True) if ours else Crashed(how)
            head = executor.line.popleft()
            self._came_to(head, executor.came_to(head.lease, seen))
            self._give_back(executor.line)


def _deadline(executor: Executor) -> float | None:
    """When the head is to be interrupted, or, once it was, killed."""
    head = executor.head
    if head is None or executor.killed_for is not None:
        return None
    if head.interrupted is not None:
        return head.interrupted + KILL_AFTER
    if head.lease.timeout is None or head.begun is None:
        return None
    return head.begun + head.lease.timeout.total_seconds()


def _end_by_force(held: Held) -> Outcome:
    match held.why:
        case "timeout":
            return TimedOut(held.lease.timeout or timedelta(0))
        case "cancel":
            return Cancelled()
        case _:
            return Released(started=True)
