"""Which tasks are on a page of the list, found in bounded time whatever is asked for."""

from __future__ import annotations

from typing import Any

from tasks import stats
from tasks.api.pagination import Listing, Page, counted, page_of
from tasks.filtering import TASK_FILTERS, narrowed, narrowed_by_key
from tasks.grants import Grant
from tasks.models import Task, TaskQuerySet
from tasks.models.task import database
from tasks.pending import Situation
from tasks.resource import resource
from tasks.states import Status

RARE_WALK = 10_000  # rows that lie far apart
LIVE_IDS = 1_000  # up to so many pending or processing tasks are listed by their ids


def find_page(seen: TaskQuerySet, wanted: Listing, grant: Grant) -> tuple[Page, dict[str, Any]]:
    """The page, of the tasks that a request may see; and how many there are, if that is wanted."""
    matches = narrowed_by_key(narrowed(seen, wanted.filters), wanted.filters)
    listed = Task.objects.using(database()).visible_to(grant.for_all_queues())  # by an index
    listed = narrowed_by_key(listed, wanted.filters)
    count = counted(matches, wanted, among=listed)
    return _page(matches, listed, wanted, grant), count


def _page(matches: TaskQuerySet, listed: TaskQuerySet, wanted: Listing, grant: Grant) -> Page:
    """By an index where there is one for the filters, or else by a walk of bounded length."""
    situation = Situation()

    def show(task: Task) -> dict[str, Any]:
        return resource(task, situation)

    unlisted = [name for name in wanted.filters if TASK_FILTERS[name].by_key is None]
    narrow = bool(unlisted) or grant.queues is not None
    match wanted.filters:
        case {"status": Status.PENDING | Status.PROCESSING as status}:
            if (ids := stats.live_ids(Status(status), limit=LIVE_IDS)) is not None:
                return page_of(matches.filter(pk__in=ids), wanted, show)
        case {"status": Status.FAILED | Status.CANCELLED as status} if grant.sees_all:
            more = len(unlisted) > 1 or grant.queues is not None
            return page_of(
                matches, wanted, show, among=listed.filter(status=status) if more else None, walk=RARE_WALK
            )
    return page_of(matches, wanted, show, among=listed if narrow else None)
