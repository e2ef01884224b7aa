"""Waiting for a task: whoever does sleeps, and one thread looks for all of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import batched
from typing import Any
from uuid import UUID

from django.db import DatabaseError, InterfaceError, connections

from tasks.api.patience import is_waiter
from tasks.limits import ROWS_AT_ONCE
from tasks.models import Task
from tasks.models.task import database

LOOK_SECONDS = 0.1
SEATS = 8  # waiters that use the database at the same time, each by a connection of its own
SEEN = (
    "status", "attempt", "fence", "title", "queue", "priority", "run_at", "ready_at", "waiting_for",
    "expires_at", "max_attempts", "cancel_requested_at", "finished_at",
)  # fmt: skip

State = tuple[Any, ...] | None  # what is seen of a task; None: there is none


def may_wait() -> bool:
    return is_waiter() and not _room.closed


@contextmanager
def seated() -> Iterator[None]:
    """Around a request: a hundred waiters that wake at once shall not open a hundred connections."""
    if not is_waiter():
        yield
        return
    with _seats:
        try:
            yield
        finally:
            connections.close_all()


def state_of(task: Task) -> State:
    return tuple(getattr(task, name) for name in SEEN)


@dataclass(slots=True, eq=False)
class Waiter:
    task_id: UUID
    state: State
    woken: threading.Event = field(default_factory=threading.Event)


class WaitingRoom:
    """All that wait in this process. While there are any a thread looks at their tasks, in one query."""

    def __init__(self) -> None:
        self.closed = False
        self._lock = threading.Lock()
        self._waiters: set[Waiter] = set()
        self._looks = False

    def close(self) -> None:
        """The process ends: nobody waits any longer."""
        with self._lock:
            self.closed = True
            for waiter in self._waiters:
                waiter.woken.set()

    @contextmanager
    def waiting(self, task_id: UUID, state: State) -> Iterator[Waiter]:
        """``woken`` is set once the task is in another state than this."""
        waiter = Waiter(task_id, state)
        try:
            with self._lock:
                self._waiters.add(waiter)
                if self.closed:
                    waiter.woken.set()
                elif not self._looks:
                    threading.Thread(target=self._look, name="watcher", daemon=True).start()
                    self._looks = True
            yield waiter
        finally:
            with self._lock:
                self._waiters.discard(waiter)

    def _look(self) -> None:
        try:
            while waiters := self._still_waiting():
                self._wake(waiters)
                time.sleep(LOOK_SECONDS)
        except BaseException:
            with self._lock:
                self._looks = False  # the next one to wait starts another
            raise
        finally:
            connections.close_all()

    def _still_waiting(self) -> list[Waiter]:
        with self._lock:
            self._looks = bool(self._waiters) and not self.closed
            return list(self._waiters) if self._looks else []

    def _wake(self, waiters: list[Waiter]) -> None:
        states: dict[UUID, State] = {}
        try:
            for ids in batched({waiter.task_id for waiter in waiters}, ROWS_AT_ONCE):
                rows = Task.objects.using(database()).filter(pk__in=ids).values_list("pk", *SEEN)
                states |= {pk: tuple(seen) for pk, *seen in rows}
        except (DatabaseError, InterfaceError):  # who waits finds out by himself, at the end of his time
            connections.close_all()
            return
        for waiter in waiters:
            if states.get(waiter.task_id) != waiter.state:
                waiter.woken.set()


_seats = threading.BoundedSemaphore(SEATS)
_room = WaitingRoom()
close = _room.close


def wait_until(
    condition: Callable[[Task], bool], find: Callable[[], Task], *, seconds: float
) -> tuple[Task, bool]:
    """The task, as soon as it is as wanted, or as it is in the end; and whether it was waited for at all.

    No connection and no transaction is held meanwhile. Raises what ``find`` raises.
    """
    task = find()
    deadline = time.monotonic() + seconds
    waited = False
    while may_wait() and not condition(task) and (left := deadline - time.monotonic()) > 0:
        waited = True
        wait_for_change(task, seconds=left)
        task = find()
    return task, waited


def wait_for_change(task: Task, *, seconds: float) -> bool:
    """Whether it came in time, as far as is known. The seat is free meanwhile."""
    with _room.waiting(task.pk, state_of(task)) as waiter:
        connections.close_all()
        _seats.release()
        try:
            return waiter.woken.wait(seconds)
        finally:
            _seats.acquire()
