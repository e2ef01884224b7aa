"""Why a pending task does not run yet, by the rules that a claim goes by."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cached_property

from tasks import clock
from tasks.contract import Claimant, Enqueued
from tasks.lifecycle.workers import ALIVE_FOR
from tasks.models import Queue, Task, Worker
from tasks.models.task import database
from tasks.spans import span
from tasks.states import Status, WaitingFor

WORKERS_SEEN = 1_000  # of those that died without a word, the rows of a day are kept
RECENT_SECONDS = 1.0


class Code(StrEnum):
    READY = "ready"
    SCHEDULED = "scheduled"
    RETRY_BACKOFF = "retry_backoff"
    QUEUE_PAUSED = "queue_paused"
    NO_HANDLER = "no_handler"
    NO_WORKERS = "no_workers"


@dataclass(frozen=True, slots=True)
class Reason:
    code: Code
    detail: str  # for people: what is the matter, and what to do
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """A worker that has a row, alive or not."""

    claimant: Claimant
    last_seen_at: datetime
    drains: bool = False  # it takes nothing more


class Situation:
    """What decides besides the task's row. Read when it is first asked for, and once: for a page of tasks."""

    def __init__(self) -> None:
        self._alias = database()

    @cached_property
    def now(self) -> datetime:
        return clock.now(self._alias)

    @cached_property
    def paused(self) -> Mapping[str, Queue]:
        paused = Queue.objects.using(self._alias).filter(paused_at__isnull=False)
        return {queue.name: queue for queue in paused}

    @cached_property
    def workers(self) -> Sequence[Seen]:
        rows = Worker.objects.using(self._alias).order_by("-last_seen_at")
        columns = ("id", "handlers", "queues", "last_seen_at", "drain_requested_at")
        known = rows.values_list(*columns)[:WORKERS_SEEN]
        return [Seen(_claimant(*who), seen, drain is not None) for *who, seen, drain in known]

    @cached_property
    def living(self) -> Sequence[Claimant]:
        """Those that claim."""
        return [seen.claimant for seen in self._alive if not seen.drains]

    @property
    def draining(self) -> Sequence[Claimant]:
        return [seen.claimant for seen in self._alive if seen.drains]

    @property
    def _alive(self) -> Iterator[Seen]:
        since = self.now - ALIVE_FOR
        return (seen for seen in self.workers if seen.last_seen_at > since)

    # -- what is asked of it

    def why(self, task: Task | Enqueued) -> Reason | None:
        """None: it is not pending. What comes first keeps it from running; the detail names the rest, too."""
        if task.status != Status.PENDING:
            return None
        first, *others = self._obstacles(task)
        if first.code == Code.READY or not (more := [other for other in others if other.code != Code.READY]):
            return first
        return Reason(first.code, " ".join([first.detail, *(other.detail for other in more)]), first.until)

    def _obstacles(self, task: Task | Enqueued) -> Iterator[Reason]:
        """Everything that a claim stops at, and in the end that it would take the task."""
        if task.waiting_for == WaitingFor.TIME and task.run_at and task.run_at > self.now:
            yield _waits_for_time(task, task.run_at)  # a claim promotes what is due
        if queue := self.paused.get(task.queue):
            yield _paused(queue)
        if task.waiting_for == WaitingFor.HANDLER:
            yield self._no_handler(task)
        else:
            yield from self._nobody(task)
        yield Reason(Code.READY, "It waits for a free worker.")

    def _nobody(self, task: Task | Enqueued) -> Iterator[Reason]:
        serving = [worker for worker in self.living if worker.serves(task.queue)]
        if not serving:
            yield Reason(Code.NO_WORKERS, self._no_workers(task.queue))
        elif not any(task.handler in worker.handlers for worker in serving):
            yield self._no_handler(task)

    def _no_workers(self, queue: str) -> str:
        if any(worker.serves(queue) for worker in self.draining):
            return f"The workers that take queue {queue} drain: start another with `manage.py runworkers`."
        last = next((seen for seen in self.workers if seen.claimant.serves(queue)), None)
        since = f"has been seen for {_about(self.now - last.last_seen_at)}" if last else "is running"
        option = f" --queues {queue}" if self.living else ""
        return f"No worker that takes queue {queue} {since}: start one with `manage.py runworkers{option}`."

    def _no_handler(self, task: Task | Enqueued) -> Reason:
        return Reason(
            Code.NO_HANDLER,
            f"No live worker of queue {task.queue} knows the handler {task.handler}: "
            "start one whose TASKSERVICE_APPS brings it.",
        )


class Lately:
    """The situation as it was up to a second ago: for a thousand new tasks a second it is read once."""

    def __init__(self) -> None:
        self._situation: Situation | None = None
        self._read_at = float("-inf")

    def __call__(self) -> Situation:
        now = time.monotonic()
        if self._situation is None or now - self._read_at > RECENT_SECONDS:
            self._situation, self._read_at = Situation(), now
        return self._situation


def _claimant(worker_id: str, handlers: list[str], queues: list[str] | None) -> Claimant:
    served = None if queues is None else tuple(queues)
    return Claimant(worker_id=worker_id, handlers=tuple(handlers), queues=served)


def _waits_for_time(task: Task | Enqueued, run_at: datetime) -> Reason:
    used = task.attempt - task.attempts_before
    if used > 0:
        return Reason(Code.RETRY_BACKOFF, f"Attempt {used + 1} of {task.max_attempts} is due then.", run_at)
    return Reason(Code.SCHEDULED, "Its run_at has not come.", run_at)


def _paused(queue: Queue) -> Reason:
    return Reason(
        Code.QUEUE_PAUSED,
        f"Queue {queue.name} is {pause_in_words(queue)}: "
        f"resume it with `manage.py tasks resume {queue.name}`, or in the admin.",
    )


def pause_in_words(queue: Queue) -> str:
    """Of a queue that is paused: since when, by whom and why, as far as that is known."""
    since = f" since {queue.paused_at:%Y-%m-%d %H:%M} UTC" if queue.paused_at else ""
    by = f" by {queue.paused_by}" if queue.paused_by else ""
    why = f" ({queue.pause_reason})" if queue.pause_reason else ""
    return f"paused{since}{by}{why}"


def _about(length: timedelta) -> str:
    """In its largest unit."""
    return " ".join(span(length).split()[:2])
