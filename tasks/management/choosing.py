"""Which tasks a command is about: some by their ids, or all that match filters."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable, Iterator, Mapping
from itertools import batched
from typing import Any
from uuid import UUID

from tasks.filtering import TASK_FILTERS
from tasks.limits import ROWS_AT_ONCE
from tasks.models import Task, TaskQuerySet
from tasks.models.task import database
from tasks.operations import HANDLER, Verb, newest
from tasks.selection import Counted, Selection

LOOKED_AT = 1_000_000  # of a table, to count what matches
LOOK_SECONDS = 10.0

HELP = {
    "status": "pending, processing, completed, failed or cancelled",
    "queue": "the queue is this one",
    "handler": "the handler is this one",
    "tag": "this is one of its tags",
    "q": "the title or the handler contains this",
    "created_after": "RFC 3339, such as 2026-01-12T01:37:19Z",
    "created_before": "the same",
    "finished_after": "the same",
    "finished_before": "the same",
}


def add_filters(parser: ArgumentParser) -> None:
    """The filters of GET /tasks, under the same names; they hold together."""
    group = parser.add_argument_group("filters, which hold together")
    for name in TASK_FILTERS:
        option = f"--{name.replace('_', '-')}"
        group.add_argument(option, type=_fitting(name), metavar="…", help=HELP.get(name))


def _fitting(name: str) -> Callable[[str], str]:
    def fitting(text: str) -> str:
        if not TASK_FILTERS[name].fits(text):
            raise ArgumentTypeError(TASK_FILTERS[name].words.partition(" (")[0])
        return text

    return fitting


def filters_of(options: Mapping[str, Any]) -> dict[str, str]:
    return {name: options[name] for name in TASK_FILTERS if options.get(name) is not None}


def task_id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is not the id of a task") from None


def all_tasks() -> TaskQuerySet:
    return Task.objects.using(database())


def newest_matching(filters: Mapping[str, str], limit: int) -> Iterator[Task]:
    for step in Selection(filters=filters).steps():
        for task in step.tasks.defer("args")[:limit]:
            yield task
            limit -= 1
        if limit <= 0:
            return


class Matching:
    """All that match at one moment: counted first, then acted upon; what comes later is not among them."""

    def __init__(self, filters: Mapping[str, str], verb: Verb) -> None:
        self._newest = newest()
        self._selection = Selection(
            filters=filters, statuses=verb.statuses, spared=HANDLER, newest=self._newest
        )

    def count(self) -> Counted:
        """Not further than anybody wants to know: that is quicker than to look at each."""
        if self._newest is None:
            return Counted(0, whole=True)
        return self._selection.count(reach=LOOKED_AT, seconds=LOOK_SECONDS)

    def pages(self) -> Iterator[tuple[UUID, ...]]:
        """Ids, as many at a time as one transaction may move."""
        if self._newest is None:
            return
        for step in self._selection.steps():
            yield from batched(list(step.tasks.values_list("pk", flat=True)), ROWS_AT_ONCE)
