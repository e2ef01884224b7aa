"""Tasks that filters and a search choose: found along an index, in steps of a length that is known."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from heapq import nlargest, nsmallest
from operator import attrgetter
from typing import Any
from uuid import UUID

from tasks import stats
from tasks.filtering import narrowed, narrowed_by_key
from tasks.matching import matching
from tasks.models import Task, TaskQuerySet
from tasks.models.task import database
from tasks.search import Term, parse
from tasks.states import Status

LIVE = frozenset({Status.PENDING, Status.PROCESSING})
LIVE_IDS = 5_000  # up to so many pending or processing tasks, their own indexes tell which they are
LIVE_STEP = 1_000  # of those, which are named one by one
STEP = 1_000  # tasks that the first statement looks at; the next at twice as many while that is quick
LARGEST_STEP = 16_000
QUICK = 0.1  # seconds
REACH = 50_000  # tasks that one answer looks at
SECONDS = 2.0  # for one answer, where payloads are so large that its reach would take longer
COUNTED = 10_000  # where counting ends


@dataclass(frozen=True, slots=True)
class Place:
    """Where a look begins: beside one task, to the older or to the newer ones."""

    beside: UUID | None = None
    newer: bool = False

    def beyond(self, tasks: TaskQuerySet) -> TaskQuerySet:
        """The tasks on the side it looks to, the nearest first."""
        if self.newer:
            return (tasks.filter(pk__gt=self.beside) if self.beside else tasks).order_by("pk")
        return (tasks.filter(pk__lt=self.beside) if self.beside else tasks).order_by("-pk")

    def nearest(self, ids: Sequence[UUID], limit: int) -> list[UUID]:
        """The ids on the side it looks to, the nearest first."""
        edge, number = self.beside, attrgetter("int")  # a UUID compares slowly
        if self.newer:
            return nsmallest(limit, (id_ for id_ in ids if edge is None or id_.int > edge.int), key=number)
        return nlargest(limit, (id_ for id_ in ids if edge is None or id_.int < edge.int), key=number)

    def up_to(self, tasks: TaskQuerySet, end: UUID | None) -> TaskQuerySet:
        if end is None:
            return tasks
        return tasks.filter(pk__lte=end) if self.newer else tasks.filter(pk__gte=end)


@dataclass(frozen=True, slots=True)
class Rail:
    """Tasks in the order of their ids, all that match among them. ``ids``: when these are known."""

    tasks: TaskQuerySet
    ids: Sequence[UUID] | None = None

    def ahead(self, place: Place, length: int) -> tuple[TaskQuerySet, UUID | None, int]:
        """The next of them, the last one's id if there are more, and how many they are at most."""
        if self.ids is not None:
            length = min(length, LIVE_STEP)
            near = place.nearest(self.ids, length + 1)
            edge = near[length - 1] if len(near) > length else None
            return place.beyond(self.tasks.filter(pk__in=near[:length])), edge, len(near[:length])
        ahead = place.beyond(self.tasks)
        edge = next(iter(ahead.values_list("pk", flat=True)[length - 1 : length]), None)
        return place.up_to(ahead, edge), edge, length


@dataclass(frozen=True, slots=True)
class Step:
    """``tasks``: those of it that match; ``end``: where the next step begins, None when there is none."""

    tasks: TaskQuerySet
    end: UUID | None
    looked_at: int  # at most


@dataclass(frozen=True, slots=True)
class Counted:
    number: int
    whole: bool  # these are all


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What is chosen. ``filters``: names of ``ALL_FILTERS``; all of it holds together."""

    filters: Mapping[str, str] = field(default_factory=dict)
    search: str = ""  # terms alone, as they were typed
    names_only: bool = False  # whoever asks may not look into payloads and errors
    statuses: frozenset[Status] = frozenset(Status)
    spared: str = ""  # a handler whose tasks are never meant
    newest: UUID | None = None  # what was made after this task is not meant

    @property
    def terms(self) -> tuple[Term, ...]:
        return parse(self.search).terms

    @property
    def wanted(self) -> frozenset[Status]:
        one = self.filters.get("status")
        return self.statuses & {Status(one)} if one else self.statuses

    @property
    def is_listed(self) -> bool:
        """Whether an index lists what matches, and nothing else."""
        others = set(self.filters) - {"status", "id"}
        rare = bool(self.wanted) and (self.wanted == set(Status) or self._has_index)
        return rare and not (others or self.search or self.spared)

    @property
    def _has_index(self) -> bool:
        return self.wanted in ({Status.FAILED}, {Status.CANCELLED})

    def rail(self) -> Rail:
        listed = narrowed_by_key(Task.objects.using(database()), self.filters)
        if self.newest:
            listed = listed.filter(pk__lte=self.newest)
        if not self.wanted:
            return Rail(listed.none(), [])
        if self._has_index:
            [only] = self.wanted
            return Rail(listed.filter(status=only))
        if self.wanted <= LIVE and (ids := stats.live_ids(*self.wanted, limit=LIVE_IDS)) is not None:
            return Rail(listed, ids)
        return Rail(listed)

    def matches(self, tasks: TaskQuerySet) -> TaskQuerySet:
        tasks = matching(narrowed(tasks, self.filters), self.terms, names_only=self.names_only)
        if self.spared:
            tasks = tasks.exclude(handler=self.spared)
        # one value alone: an index of a single status serves no list of several
        return tasks if self.statuses >= set(Status) else tasks.filter(status__in=sorted(self.wanted))

    def steps(self, place: Place | None = None, *, reach: int | None = None) -> Iterator[Step]:
        """Step by step from a place on, ``reach`` tasks in all; as long as it is quick, they get longer."""
        here, rail, length = place or Place(), self.rail(), STEP
        while reach is None or reach > 0:
            began = time.monotonic()
            ahead, end, looked_at = rail.ahead(here, length if reach is None else min(length, reach))
            yield Step(self.matches(ahead), end, looked_at)
            if end is None:
                return
            here, reach = replace(here, beside=end), None if reach is None else reach - looked_at
            if time.monotonic() - began < QUICK:
                length = min(2 * length, LARGEST_STEP)

    def count(
        self, *, most: int | None = None, reach: int | None = None, seconds: float | None = None
    ) -> Counted:
        """The newest first; how far, and how many are looked at: else ``COUNTED``, ``REACH``, ``SECONDS``."""
        most = COUNTED if most is None else most
        reach = REACH if reach is None else reach
        until = time.monotonic() + (SECONDS if seconds is None else seconds)
        number, end = 0, None
        if self.is_listed:
            number = _up_to(self.matches(self.rail().tasks.order_by("-pk")), most)
            return Counted(min(number, most), number <= most)
        for step in self.steps(reach=reach):
            number, end = number + _up_to(step.tasks, most - number), step.end
            if number > most:
                return Counted(most, whole=False)
            if time.monotonic() > until:
                break
        return Counted(number, whole=end is None)

    # -- to be kept

    def as_json(self) -> dict[str, Any]:
        return {
            "filters": dict(self.filters),
            "search": self.search,
            "names_only": self.names_only,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any], **more: Any) -> Selection:
        return cls(filters=value["filters"], search=value["search"], names_only=value["names_only"], **more)


def _up_to(tasks: TaskQuerySet, most: int) -> int:
    return int(tasks.values("pk")[: most + 1].count())


@dataclass(frozen=True, slots=True)
class Page:
    """Some of a selection, in the order in which they were met."""

    tasks: list[Task]
    full: bool  # there are more behind the last one
    end: UUID | None  # of the last that was looked at, when looking ended before the page was full
    looked_at: int


def page_of(selection: Selection, place: Place, size: int) -> Page:
    """By an index, or by looking at the nearest ``REACH`` of those that one lists."""
    if selection.is_listed:
        found = list(_light(selection.matches(place.beyond(selection.rail().tasks)))[: size + 1])
        return Page(found[:size], len(found) > size, None, 0)
    until, looked_at, end = time.monotonic() + SECONDS, 0, None
    tasks: list[Task] = []
    for step in selection.steps(place, reach=REACH):
        tasks += _light(step.tasks)[: size + 1 - len(tasks)]
        looked_at, end = looked_at + step.looked_at, step.end
        if len(tasks) > size:
            return Page(tasks[:size], True, None, looked_at)
        if time.monotonic() > until:
            break
    return Page(tasks, False, end, looked_at)


def _light(tasks: TaskQuerySet) -> TaskQuerySet:
    return tasks.defer("args", "payload", "result", "tags")
