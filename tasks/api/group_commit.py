"""Group commit: requests of one process that make tasks at the same time share one transaction."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from django.db import connections

from tasks import lifecycle
from tasks.api.problems import is_outage
from tasks.contract import Enqueued, TaskSpec
from tasks.errors import Unavailable
from tasks.models.task import database

Enqueue = Callable[[Sequence[TaskSpec]], Sequence[Enqueued]]


@dataclass(slots=True)
class Wish:
    """What one request wants, and what came of it."""

    spec: TaskSpec
    task: Enqueued | None = None
    error: Exception | None = None
    told: threading.Event = field(default_factory=threading.Event)

    @property
    def settled(self) -> bool:
        return self.task is not None or self.error is not None


class GroupCommit:
    """While one thread commits, the wishes of the others gather, and one of them commits those next.

    A commit costs about the same for one task and for many, and beside busy workers few threads
    that ask for a turn to write get it sooner than many.
    """

    def __init__(self, enqueue: Enqueue = lifecycle.enqueue) -> None:
        self._enqueue = enqueue
        self._lock = threading.Lock()
        self._gathered: list[Wish] = []
        self._led = False  # a thread commits, or has been told to

    def enqueue(self, spec: TaskSpec) -> Enqueued:
        """Returns once the task is committed. Raises what ``lifecycle.enqueue`` would for this spec alone."""
        if connections[database()].in_atomic_block:  # to commit is the caller's affair
            return self._enqueue([spec])[0]
        wish = Wish(spec)
        with self._lock:
            self._gathered.append(wish)
            follows, self._led = self._led, True
        if follows:
            wish.told.wait()
        if not wish.settled:
            self._lead()
        if wish.task is None:
            raise wish.error or Unavailable()
        return wish.task

    def _lead(self) -> None:
        """Commit all that has gathered, one's own wish among it, and hand over to who came meanwhile."""
        with self._lock:
            group, self._gathered = self._gathered, []
        try:
            self._commit(group)
        finally:
            self._hand_over(group)

    def _commit(self, group: Sequence[Wish]) -> None:
        try:
            made = self._enqueue([wish.spec for wish in group])
        except Exception as error:
            if is_outage(error):
                _refuse(group, error)
            elif len(group) == 1:
                group[0].error = error
            else:  # nothing was written: find out whose spec it is
                for wish in group:
                    self._commit([wish])
        else:
            for wish, task in zip(group, made, strict=True):
                wish.task = task

    def _hand_over(self, group: Sequence[Wish]) -> None:
        _refuse([wish for wish in group if not wish.settled], Unavailable())  # this thread is being ended
        outage = next((wish.error for wish in group if is_outage(wish.error)), None)
        with self._lock:
            if outage is not None:  # they would wait as long again, to hear the same
                _refuse(self._gathered, outage)
                group, self._gathered = [*group, *self._gathered], []
            self._led = bool(self._gathered)
            if self._led:
                self._gathered[0].told.set()
        for wish in group:
            wish.told.set()


def _refuse(group: Sequence[Wish], error: Exception) -> None:
    """Each with an exception of its own: one that several threads raise gathers their tracebacks."""
    for wish in group:
        wish.error = type(error)(*error.args)
