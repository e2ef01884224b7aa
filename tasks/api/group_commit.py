"""Group commit: requests of one process that make tasks at the same time share one transaction."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from django.db import connections

from tasks.api.creation import Answered, Asked, create
from tasks.api.problems import is_outage
from tasks.contract import Once
from tasks.errors import Unavailable
from tasks.models.task import database

TASKS_AT_ONCE = 2_000  # of a group; more would hold up everybody who writes


class Commit(Protocol):
    def __call__(self, asked: Sequence[Asked], *, hurried: bool = ...) -> Sequence[Answered | Exception]: ...


@dataclass(slots=True)
class Wish:
    """What one request wants, and what came of it."""

    asked: Asked
    answer: Answered | None = None
    error: Exception | None = None
    told: threading.Event = field(default_factory=threading.Event)

    @property
    def settled(self) -> bool:
        return self.answer is not None or self.error is not None


class GroupCommit:
    """While one thread commits, the wishes of the others gather, and one of them commits those next.

    A commit costs about the same for one task and for many, and beside busy workers few threads
    that ask for a turn to write get it sooner than many.
    """

    def __init__(self, commit: Commit = create) -> None:
        self._transaction = commit
        self._lock = threading.Lock()
        self._gathered: list[Wish] = []
        self._led = False  # a thread commits, or has been told to

    def create(self, asked: Asked) -> Answered:
        """Returns once the tasks are committed. Raises what ``create`` would for this request alone."""
        wish = Wish(asked)
        if connections[database()].in_atomic_block:  # to commit is the caller's affair
            self._commit([wish])
        else:
            self._take_part(wish)
        if wish.answer is None:
            raise wish.error or Unavailable()
        return wish.answer

    def _take_part(self, wish: Wish) -> None:
        with self._lock:
            self._gathered.append(wish)
            follows, self._led = self._led, True
        if follows:
            wish.told.wait()
        if not wish.settled:
            self._lead()

    def _lead(self) -> None:
        """Commit all that has gathered, one's own wish among it, and hand over to who came meanwhile."""
        with self._lock:
            group, self._gathered = _next_group(self._gathered)
        try:
            self._commit(group)
        finally:
            self._hand_over(group)

    def _commit(self, group: Sequence[Wish], *, hurried: bool = False) -> None:
        try:
            answers = self._transaction([wish.asked for wish in group], hurried=hurried)
        except Exception as error:
            if is_outage(error):
                _refuse(group, error)
            elif len(group) == 1:
                group[0].error = error
            else:  # nothing was written: find out whose affair it is
                for wish in group:
                    self._commit([wish], hurried=True)
                    wish.told.set()
        else:
            for wish, answer in zip(group, answers, strict=True):
                if isinstance(answer, Answered):
                    wish.answer = answer
                else:
                    wish.error = answer

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


def _next_group(wishes: Sequence[Wish]) -> tuple[list[Wish], list[Wish]]:
    """The next group, with the first of them, and the others: sent again meanwhile, or too many."""
    keys: set[Once] = set()
    now: list[Wish] = []
    later: list[Wish] = []
    room = TASKS_AT_ONCE
    for wish in wishes:
        once = wish.asked.once
        if now and (once in keys or len(wish.asked.specs) > room):
            later.append(wish)
            continue
        now.append(wish)
        room -= len(wish.asked.specs)
        if once is not None:
            keys.add(once)
    return now, later


def _refuse(group: Sequence[Wish], error: Exception) -> None:
    """Each with an exception of its own: one that several threads raise gathers their tracebacks."""
    for wish in group:
        wish.error = type(error)(*error.args)
