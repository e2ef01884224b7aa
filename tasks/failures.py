"""Failures by fingerprint: each process adds what it has seen, now and then, and any may look."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import IntegerField, QuerySet
from django.db.models.expressions import RawSQL
from django.utils import timezone

from tasks.contract import ErrorReport
from tasks.fingerprint import FRAME_CHARS
from tasks.lifecycle.again import again
from tasks.lifecycle.settling import Ended, fingerprint_of
from tasks.limits import ROWS_AT_ONCE
from tasks.models import Failure, Task, TaskQuerySet
from tasks.models.task import database
from tasks.states import Status
from tasks.storable import storable_text

MOST = 500  # groups that one process gathers; what is made up anew for each error must not fill the memory


class Seen(NamedTuple):
    """How often since the last writing, and the latest sample."""

    handler: str
    error: ErrorReport
    task_id: UUID
    times: int
    first: datetime
    last: datetime

    def joined(self, later: Seen) -> Seen:
        return later._replace(times=self.times + later.times, first=self.first)


class Sightings:
    """What this process has seen fail. Safe for threads."""

    def __init__(self, *, most: int = MOST) -> None:
        self._lock = threading.Lock()
        self._seen: dict[str, Seen] = {}
        self._most = most

    def add(self, ended: Iterable[Ended]) -> None:
        """Of attempts that have a row: those that failed, and not those that somebody cancelled."""
        now = timezone.now()
        with self._lock:
            for lease, _, how in ended:
                key = fingerprint_of(lease, how)
                if key and how.error:
                    self._join(key, Seen(lease.handler, how.error, lease.task_id, 1, now, now))

    def _join(self, key: str, seen: Seen) -> None:
        if key in self._seen:
            self._seen[key] = self._seen[key].joined(seen)
        elif len(self._seen) < self._most:
            self._seen[key] = seen

    def take(self) -> Mapping[str, Seen]:
        """What has gathered; from now on it gathers anew."""
        with self._lock:
            taken, self._seen = self._seen, {}
        return taken

    def put_back(self, taken: Mapping[str, Seen]) -> None:
        """It could not be written down."""
        with self._lock:
            later, self._seen = self._seen, dict(taken)
            for key, seen in later.items():
                self._join(key, seen)


here = Sightings()


def write_down(sightings: Sightings = here) -> None:
    """Add what has gathered; where that fails, it is kept for the next time."""
    taken = sightings.take()
    if not taken:
        return
    try:
        _add(taken)
    except BaseException:
        sightings.put_back(taken)
        raise


_ADD = """
INSERT INTO failures (fingerprint, handler, error_type, frame, message, traceback, task_id, count,
  first_seen_at, last_seen_at)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (fingerprint) DO UPDATE SET count = failures.count + excluded.count,
  message = excluded.message, traceback = excluded.traceback, task_id = excluded.task_id,
  last_seen_at = CASE WHEN excluded.last_seen_at > failures.last_seen_at
    THEN excluded.last_seen_at ELSE failures.last_seen_at END
"""


@again
def _add(taken: Mapping[str, Seen]) -> None:
    """In the order of the fingerprints: two that add at once must not wait for each other."""
    alias = database()
    with transaction.atomic(using=alias), connections[alias].cursor() as cursor:
        cursor.executemany(_ADD, [_row(key, taken[key], connections[alias]) for key in sorted(taken)])


def _row(key: str, seen: Seen, connection: BaseDatabaseWrapper) -> tuple[Any, ...]:
    """In the order of ``_ADD``."""
    error = seen.error
    task_id = Failure._meta.get_field("task_id").get_db_prep_value(seen.task_id, connection)
    first, last = map(connection.ops.adapt_datetimefield_value, (seen.first, seen.last))
    frame = storable_text(error.frame)[:FRAME_CHARS]  # an executor may have been led astray
    told = (key, seen.handler, error.type, frame, error.message, error.traceback)
    return (*told, task_id, seen.times, first, last)


def forget(*, before: datetime) -> bool:
    """Delete groups that were last seen before that. Returns whether there may be more of them.

    Who adds to a group at this moment has locked it, and would wait for others that are locked here: what
    is locked is left alone, it has just been seen.
    """
    alias = database()
    failures = Failure.objects.using(alias)
    old = failures.filter(last_seen_at__lt=before).order_by("last_seen_at", "pk")
    keys = list(old.values_list("pk", flat=True)[:ROWS_AT_ONCE])
    if not keys:  # without a transaction: nothing is to be written
        return False
    with transaction.atomic(using=alias):
        still = failures.filter(pk__in=keys, last_seen_at__lt=before).order_by("pk")
        locked = list(still.select_for_update(skip_locked=True).values_list("pk", flat=True))
        failures.filter(pk__in=locked).delete()
    return len(locked) == ROWS_AT_ONCE


# One question for a page of groups; the limit keeps a group of millions from being counted.
_STILL_FAILED = f"""(SELECT count(*) FROM (
  SELECT 1 FROM tasks WHERE status = '{Status.FAILED.value}' AND tasks.fingerprint = failures.fingerprint
  LIMIT %s
) AS counted)"""  # noqa: S608 - constants


def with_failed(failures: QuerySet[Failure], *, most: int) -> QuerySet[Failure]:
    """Each with ``failed``: how many of its tasks are, ``most + 1`` at most."""
    number = RawSQL(_STILL_FAILED, (most + 1,), output_field=IntegerField())  # noqa: S611 - constants
    return failures.annotate(failed=number)


def named(fingerprint: str) -> str:
    """``mail.send: smtplib.SMTPDataError``; the fingerprint itself when the group is forgotten."""
    group = Failure.objects.using(database()).filter(pk=fingerprint).only("handler", "error_type").first()
    return f"{group.handler}: {group.error_type}" if group else fingerprint


def failed_by(fingerprint: str) -> TaskQuerySet:
    """The tasks that have failed so and are not retried yet, newest first: in the order of an index."""
    tasks = Task.objects.using(database()).filter(status=Status.FAILED, fingerprint=fingerprint)
    return tasks.order_by("-pk")


def still_failed(fingerprint: str, *, most: int) -> int:
    """How many those are, ``most + 1`` at most."""
    return failed_by(fingerprint).values("pk")[: most + 1].count()
