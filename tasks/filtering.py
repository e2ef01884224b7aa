"""What a list of tasks can be narrowed by, and how each filter asks the database."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from django.db import connections
from django.db.models import BooleanField, Q
from django.db.models.expressions import RawSQL

from tasks import members
from tasks.fingerprint import FINGERPRINT_CHARS
from tasks.limits import HANDLER_CHARS, QUEUE_RULE, TAG_CHARS, is_queue_name
from tasks.models import TaskQuerySet
from tasks.search import WORKER_CHARS, id_range
from tasks.states import Status

TEXT_CHARS = 200
# An id is made by the process's clock, created_at by the database's: they may disagree by this much.
SKEW = timedelta(hours=1)

Narrow = Callable[[TaskQuerySet, str], TaskQuerySet]


@dataclass(frozen=True, slots=True)
class Filter:
    fits: Callable[[str], bool]
    words: str  # what fits, for people
    narrow: Narrow
    by_key: Narrow | None = None  # narrows what has to be looked at, in the order of the primary key


def is_time(text: str) -> bool:
    try:
        return members.time(text) is not None
    except members.Wrong:
        return False


def _is_text(text: str, *, most: int) -> bool:
    return 0 < len(text) <= most and "\0" not in text


def _same(name: str) -> Narrow:
    return lambda tasks, text: tasks.filter(**{name: text})


def _time(column: str, look: str) -> Narrow:
    return lambda tasks, text: tasks.filter(**{f"{column}__{look}": members.time(text)})


def _made_after(tasks: TaskQuerySet, text: str) -> TaskQuerySet:
    return tasks.filter(pk__gte=_first_id(_moment(text), -SKEW))


def _made_before(tasks: TaskQuerySet, text: str) -> TaskQuerySet:
    return tasks.filter(pk__lt=_first_id(_moment(text), SKEW))


def _moment(text: str) -> datetime:
    moment = members.time(text)
    if moment is None:
        raise ValueError(text)
    return moment


def _first_id(moment: datetime, shift: timedelta) -> UUID:
    """The smallest that a task made then could have: RFC 9562, section 5.7."""
    milliseconds = int((moment.timestamp() + shift.total_seconds()) * 1000)
    return UUID(int=max(0, min(milliseconds, (1 << 48) - 1)) << 80)


def _failed_so(tasks: TaskQuerySet, text: str) -> TaskQuerySet:
    """The group of failures that they belong to, by its fingerprint: those that are failed now."""
    return tasks.filter(status=Status.FAILED, fingerprint=text)


def _tagged(tasks: TaskQuerySet, text: str) -> TaskQuerySet:
    if connections[tasks.db].vendor == "postgresql":
        return tasks.filter(_sql("tasks.tags @> %s::jsonb", json.dumps([text])))
    return tasks.filter(_sql("EXISTS (SELECT 1 FROM json_each(tasks.tags) WHERE value = %s)", text))


def _sql(condition: str, *params: Any) -> RawSQL:
    return RawSQL(condition, params, output_field=BooleanField())  # noqa: S611 - the text is ours


def _containing(tasks: TaskQuerySet, text: str) -> TaskQuerySet:
    return tasks.filter(Q(title__icontains=text) | Q(handler__icontains=text))


def _worked_by(tasks: TaskQuerySet, text: str) -> TaskQuerySet:
    """By the worker's id or its beginning, such as the host."""
    return tasks.filter(worker_id__istartswith=text)


def _same_id(tasks: TaskQuerySet, text: str) -> TaskQuerySet:
    """By the whole id or its beginning."""
    ids = id_range(text)
    return tasks.filter(pk__range=ids) if ids else tasks.none()


_TIME = "must be an RFC 3339 time with an offset, like 2026-01-12T01:37:19Z (a + in it written as %2B)"

TASK_FILTERS: Mapping[str, Filter] = {
    "status": Filter(
        lambda text: text in Status.values, f"must be one of {', '.join(Status.values)}", _same("status")
    ),
    "queue": Filter(is_queue_name, QUEUE_RULE, _same("queue")),
    "handler": Filter(
        partial(_is_text, most=HANDLER_CHARS), f"must be 1 to {HANDLER_CHARS} characters", _same("handler")
    ),
    "tag": Filter(partial(_is_text, most=TAG_CHARS), f"must be 1 to {TAG_CHARS} characters", _tagged),
    "q": Filter(partial(_is_text, most=TEXT_CHARS), f"must be 1 to {TEXT_CHARS} characters", _containing),
    "created_after": Filter(is_time, _TIME, _time("created_at", "gt"), _made_after),
    "created_before": Filter(is_time, _TIME, _time("created_at", "lt"), _made_before),
    "finished_after": Filter(is_time, _TIME, _time("finished_at", "gt")),
    "finished_before": Filter(is_time, _TIME, _time("finished_at", "lt")),
}

# What an operator may narrow by, too.
ALL_FILTERS: Mapping[str, Filter] = {
    **TASK_FILTERS,
    "worker": Filter(
        partial(_is_text, most=WORKER_CHARS), f"must be 1 to {WORKER_CHARS} characters", _worked_by
    ),
    "id": Filter(
        lambda text: id_range(text) is not None, "must be the beginning of an id", _same_id, _same_id
    ),
    "failure": Filter(
        partial(_is_text, most=FINGERPRINT_CHARS), "must be a fingerprint", _failed_so, _failed_so
    ),
}


def narrowed(tasks: TaskQuerySet, filters: Mapping[str, str]) -> TaskQuerySet:
    for name, text in filters.items():
        tasks = ALL_FILTERS[name].narrow(tasks, text)
    return tasks


def narrowed_by_key(tasks: TaskQuerySet, filters: Mapping[str, str]) -> TaskQuerySet:
    """By those filters that the primary key knows, or an index in its order."""
    for name, text in filters.items():
        if by_key := ALL_FILTERS[name].by_key:
            tasks = by_key(tasks, text)
    return tasks
