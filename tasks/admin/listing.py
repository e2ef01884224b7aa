"""The list of tasks: pages along the primary key that neither count, sort nor walk a large table."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from heapq import nlargest, nsmallest
from operator import attrgetter
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest

from tasks.admin.filters import StatusFilter, TaskFilter
from tasks.ids import made_at
from tasks.models import Task
from tasks.pending import Situation

if TYPE_CHECKING:
    Tasks = QuerySet[Task]

OLDER, NEWER = "older_than", "newer_than"

_START_OF_ID = re.compile(r"[0-9a-f]{6,32}")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page begins: beside one task, looking to the older or to the newer ones."""

    beside: UUID | None = None
    newer: bool = False

    @classmethod
    def taken_from(cls, params: dict[str, list[str]]) -> Place:
        """Takes its parameters out, so that a link to another filter begins at the newest again."""
        older, newer = params.pop(OLDER, None), params.pop(NEWER, None)
        try:
            return cls(UUID(newer[-1]), newer=True) if newer else cls(UUID(older[-1]) if older else None)
        except ValueError as error:
            raise IncorrectLookupParameters from error

    def beyond(self, tasks: Tasks) -> Tasks:
        """The tasks on the side it looks to, the nearest first."""
        if self.newer:
            return tasks.filter(pk__gt=self.beside).order_by("pk")
        return (tasks.filter(pk__lt=self.beside) if self.beside else tasks).order_by("-pk")

    def nearest(self, ids: Iterable[UUID], limit: int) -> list[UUID]:
        """The ids on the side it looks to, the nearest first."""
        edge, number = self.beside, attrgetter("int")  # a UUID compares slowly
        if edge is None:
            return nlargest(limit, ids, key=number)
        if self.newer:
            return nsmallest(limit, (id_ for id_ in ids if id_.int > edge.int), key=number)
        return nlargest(limit, (id_ for id_ in ids if id_.int < edge.int), key=number)

    def up_to(self, tasks: Tasks, end: UUID | None) -> Tasks:
        if end is None:
            return tasks
        return tasks.filter(pk__lte=end) if self.newer else tasks.filter(pk__gte=end)


def id_range(term: str) -> tuple[UUID, UUID] | None:
    """The smallest and the largest id that begin like this; None when no id can be meant."""
    start = term.strip().lower().replace("-", "")
    if not _START_OF_ID.fullmatch(start):
        return None
    return UUID(start.ljust(32, "0")), UUID(start.ljust(32, "f"))


def search(tasks: Tasks, term: str) -> Tasks:
    """By id or the beginning of one, if there is such a task; else by title."""
    ids = id_range(term)
    if ids and tasks.model.objects.using(tasks.db).filter(pk__range=ids).exists():
        return tasks.filter(pk__range=ids)
    return tasks.filter(title__icontains=term.strip()) if term.strip() else tasks


class TaskChangeList(ChangeList):
    """Newest first. Where filters or a title need a look at each task, a page looks at so many at most."""

    reach = 20_000  # tasks that one page looks at, where no index tells which of them match
    live_reach = 1_000  # the same for pending and processing ones, which are named one by one
    across = 1_000  # tasks that one action moves, when all that match are chosen

    place: Place
    end: UUID | None  # the last task that was looked at, when there are more behind it
    rows: list[Task]
    full: bool  # there are more of these behind the last row

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> Tasks:
        if not hasattr(self, "place"):  # an action asks again
            self._tidy_params()
            self.place = Place.taken_from(self.filter_params)
        found: Tasks = super().get_queryset(request, exclude_parameters)
        if self.status.live_ids is not None:
            return self.place.beyond(self._among(found, self.status.live_ids))
        self.end = self._end() if self.narrowed else None
        return self.place.up_to(self.place.beyond(self._walked(found)), self.end)

    def _among(self, tasks: Tasks, ids: list[UUID]) -> Tasks:
        near = self.place.nearest(ids, self.live_reach + 1)
        self.end = near[self.live_reach - 1] if len(near) > self.live_reach else None
        return tasks.filter(pk__in=near[: self.live_reach])

    def _tidy_params(self) -> None:
        """A form sends its empty fields too; and no text of a row has a NUL in it."""
        given = self.filter_params
        if any("\0" in value for values in given.values() for value in values):
            raise IncorrectLookupParameters
        self.filter_params = {name: values for name, values in given.items() if any(values)}
        self.params = {name: value for name, value in self.params.items() if name in self.filter_params}

    @property
    def status(self) -> StatusFilter:
        return next(spec for spec in self.filter_specs if isinstance(spec, StatusFilter))

    @property
    def _narrowing(self) -> list[TaskFilter]:
        return [spec for spec in self.filter_specs if isinstance(spec, TaskFilter)]

    def _walked(self, tasks: Tasks) -> Tasks:
        for narrow in self._narrowing:
            tasks = narrow.walk(tasks)
        return tasks

    def _end(self) -> UUID | None:
        ids = id_range(self.query)
        walked = self._walked(self.root_queryset)
        if ids and walked.filter(pk__range=ids).exists():
            return None
        return self.place.beyond(walked).values_list("pk", flat=True)[self.reach - 1 : self.reach].first()

    def get_results(self, request: HttpRequest) -> None:
        self._look()
        if self.place.newer and not self.full and self.end is None:  # nothing newer: begin at the newest
            self.place = Place()
            self.queryset = self.get_queryset(request)
            self._look()
        self.result_list = self.rows
        self.result_count = self._count()
        self.show_full_result_count, self.full_result_count = False, None
        self.show_admin_actions = bool(self.rows)
        self.can_show_all, self.multi_page = False, False

    def _look(self) -> None:
        light = self.queryset.defer("args", "payload", "result", "tags")
        rows = list(light[: self.list_per_page + 1])
        self.full = len(rows) > self.list_per_page
        self.rows = rows[: self.list_per_page]
        situation = Situation()
        for task in self.rows:
            vars(task)["why"] = situation.why(task)
        if self.place.newer:
            self.rows.reverse()

    def _count(self) -> int:
        """How many are chosen when all of this list is: ``across`` at most."""
        if not self.full or self.place.beside:
            return len(self.rows)
        return int(self.queryset.values("pk")[: self.across].count())

    # -- what the templates ask

    @property
    def pills(self) -> Iterator[dict[str, Any]]:
        return self.status.choices(self)

    @property
    def fields(self) -> list[TaskFilter]:
        """The filters that the form shows; the status has links of its own."""
        return [spec for spec in self._narrowing if spec is not self.status]

    @property
    def carried(self) -> list[tuple[str, str]]:
        """Parameters that the form passes on unseen."""
        seen = {"q", *(narrow.parameter_name for narrow in self.fields)}
        return [(name, value) for name, value in self.params.items() if name not in seen]

    @property
    def narrowed(self) -> bool:
        return bool(self.get_filters_params() or self.query)

    @property
    def choosable(self) -> str:
        which = "all" if self.result_count < self.across else "the newest"
        return f"{which} {self.result_count:,}"

    @property
    def older(self) -> str:
        """The address of the next page; empty on the last one."""
        if self.place.newer or self.full:
            return self._address(OLDER, self.rows[-1].pk if self.rows else self.place.beside)
        return self._address(OLDER, self.end)

    @property
    def newer(self) -> str:
        if self.place.newer and not self.full:
            return self._address(NEWER, self.end)
        first = self.rows[0].pk if self.rows else self.place.beside
        return self._address(NEWER, first) if self.place.beside else ""

    def _address(self, side: str, beside: UUID | None) -> str:
        return self.get_query_string({side: str(beside)}) if beside else ""

    @property
    def looked_back_to(self) -> datetime | None:
        """Set when the page is not full because looking ended: how far back it went."""
        return made_at(self.end) if self.end and not self.full and not self.place.newer else None

    @property
    def looked_at(self) -> str:
        return f"{self.reach if self.status.live_ids is None else self.live_reach:,}"

    @property
    def size_in_words(self) -> str:
        if self.place.beside or not self.full:
            return f"{len(self.rows):,} task{'' if len(self.rows) == 1 else 's'}"
        more = "+" if self.result_count == self.across else ""
        return f"{len(self.rows):,} of {self.result_count:,}{more} tasks"
