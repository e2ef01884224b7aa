"""The list of tasks: pages along the primary key that neither count, sort nor walk a large table."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.http import urlencode

from tasks import stats
from tasks.admin.chosen import NEWER, OLDER, BadAddress, Chosen, chosen
from tasks.admin.filters import StatusFilter, TaskFilter
from tasks.admin.rights import rights_of
from tasks.ids import made_at
from tasks.models import Task
from tasks.pending import Situation
from tasks.selection import Counted, Page, Place, page_of
from tasks.states import Status

if TYPE_CHECKING:
    Tasks = QuerySet[Task]


class TaskChangeList(ChangeList):
    """Newest first. Where no index tells which tasks match, a page looks at so many at most."""

    place: Place
    chosen: Chosen
    page: Page
    rows: list[Task]

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> Tasks:
        """All tasks: which of them are on the page, ``get_results`` finds out."""
        if not hasattr(self, "chosen"):  # an action asks again
            self._tidy_params()
            try:
                self.place = self._place()
                may = rights_of(request).look_inside
                self.chosen = chosen({**self.params, "q": self.query}, may_see_payloads=may)
            except BadAddress as error:
                raise IncorrectLookupParameters from error
            self.filter_specs, self.has_filters, strangers, _, self.has_active_filters = self.get_filters(
                request
            )
            if strangers:
                raise IncorrectLookupParameters
        tasks: Tasks = self.root_queryset.none() if self.chosen.complaint else self.root_queryset
        return tasks

    def _place(self) -> Place:
        """Takes its parameters out, so that a link to another filter begins at the newest again."""
        older, newer = self.filter_params.pop(OLDER, None), self.filter_params.pop(NEWER, None)
        try:
            return Place(UUID(newer[-1]), newer=True) if newer else Place(UUID(older[-1]) if older else None)
        except ValueError as error:
            raise BadAddress from error

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

    def get_results(self, request: HttpRequest) -> None:
        self._look()
        if self.place.newer and not self.page.full and self.page.end is None:
            self.place = Place()  # nothing newer: begin at the newest
            self._look()
        self.result_list = self.rows
        self.result_count = len(self.rows)
        self.show_full_result_count, self.full_result_count = False, None
        self.show_admin_actions = bool(self.rows)
        self.can_show_all, self.multi_page = False, False

    def _look(self) -> None:
        if self.chosen.complaint:
            self.page = Page([], False, None, 0)
        else:
            self.page = page_of(self.chosen.selection, self.place, self.list_per_page)
        self.rows = self.page.tasks[::-1] if self.place.newer else [*self.page.tasks]
        situation = Situation()
        for task in self.rows:
            vars(task)["why"] = situation.why(task)
            vars(task)["hides_error"] = self.chosen.selection.names_only

    # -- what the templates ask

    @property
    def pills(self) -> Iterator[dict[str, Any]]:
        return self.status.choices(self)

    @property
    def fields(self) -> list[TaskFilter]:
        """The filters that the form shows; the status has links of its own."""
        return [spec for spec in self._narrowing if spec.is_field]

    @property
    def in_use(self) -> int:
        return sum(bool(spec.value()) for spec in self.fields)

    @property
    def chips(self) -> list[dict[str, str]]:
        """What the search box has made filters of, each with the way to be rid of it."""
        others = [spec for spec in self._narrowing if not spec.is_field and spec is not self.status]
        return [
            {
                "name": str(spec.title),
                "value": str(spec.value()),
                "without": self.get_query_string(remove=[str(spec.parameter_name)]),
            }
            for spec in others
            if spec.value()
        ]

    @property
    def carried(self) -> list[tuple[str, str]]:
        """Parameters that the form passes on unseen."""
        seen = {"q", OLDER, NEWER, *(narrow.parameter_name for narrow in self.fields)}
        return [(name, value) for name, value in self.params.items() if name not in seen]

    @property
    def narrowed(self) -> bool:
        return self.chosen.narrowed

    @property
    def count(self) -> Counted | None:
        """How many match in all; None where that would take a look at each, and where the page shows it."""
        selection = self.chosen.selection
        if self.place.beside or not self.page.full:
            return None
        if set(selection.filters) == {"status"} and not selection.search:
            number, most = stats.count(Status(selection.filters["status"])), stats.COUNTED
            return None if number is None else Counted(min(number, most), number <= most)
        return selection.count() if selection.is_listed else None

    @property
    def bulk(self) -> str:
        """Where an operation upon all that match begins."""
        return f"{reverse('admin:tasks_operation_add')}?{self.bulk_query}"

    @property
    def bulk_query(self) -> str:
        return urlencode({**self.chosen.given, **({"q": self.chosen.query} if self.chosen.query else {})})

    @property
    def older(self) -> str:
        """The address of the next page; empty on the last one."""
        if self.place.newer or self.page.full:
            return self._address(OLDER, self.rows[-1].pk if self.rows else self.place.beside)
        return self._address(OLDER, self.page.end)

    @property
    def newer(self) -> str:
        if self.place.newer and not self.page.full:
            return self._address(NEWER, self.page.end)
        first = self.rows[0].pk if self.rows else self.place.beside
        return self._address(NEWER, first) if self.place.beside else ""

    def _address(self, side: str, beside: UUID | None) -> str:
        return self.get_query_string({side: str(beside)}) if beside else ""

    @property
    def looked_back_to(self) -> datetime | None:
        """Set when the page is not full because looking ended: how far back it went."""
        return made_at(self.page.end) if self.page.end and not self.place.newer else None

    @property
    def looked_at(self) -> str:
        return f"{self.page.looked_at:,}"

    @property
    def size_in_words(self) -> str:
        shown = len(self.rows)
        if counted := self.count:
            return f"{shown:,} of {counted.number:,}{'' if counted.whole else '+'} tasks"
        more = " shown, and there are more" if self.page.full else ""
        return f"{shown:,} task{'' if shown == 1 else 's'}{more}"
