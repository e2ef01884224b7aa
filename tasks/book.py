"""The hot statements over one database: what they take, and what comes back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from itertools import batched
from typing import Any
from uuid import UUID

from django.db import connections
from django.utils import timezone

from tasks import statements
from tasks.contract import LeaseKey
from tasks.postgres import arrays, plan_anew
from tasks.statements import INT, JSON, REPLACED, SETTLED, TEXT, UUID_

Row = tuple[Any, ...]
BATCH = 512  # rows of one VALUES; SQLite allows 32,766 parameters


class Book:
    """The hot statements over one database."""

    def __init__(self, alias: str) -> None:
        self._connection = connections[alias]
        self._postgres = self._connection.vendor == "postgresql"

    # -- values on their way in

    def id(self, value: UUID) -> Any:
        return value if self._postgres else value.hex

    def time(self, value: datetime | None) -> Any:
        return self._connection.ops.adapt_datetimefield_value(value)

    def _time_from(self, value: datetime) -> datetime:
        """SQLite keeps times in UTC, and gives them back naive."""
        return value if self._postgres else value.replace(tzinfo=UTC)

    # -- statements

    def insert(self, rows: Sequence[Row]) -> None:
        """``rows`` in the order of ``INSERTED``."""
        with self._connection.cursor() as cursor:
            if self._postgres:
                cursor.execute(statements.insert(True, len(rows)), _given(rows))
            else:
                cursor.executemany(statements.insert(False, 1), rows)

    def insert_keyed(self, rows: Sequence[Row]) -> int:
        """``rows`` in the order of ``INSERTED`` and ``KEYED``. How many were: others' keys are taken."""
        with self._connection.cursor() as cursor:
            if self._postgres:
                cursor.execute(statements.insert_keyed(True, len(rows)), _given(rows))
            else:
                cursor.executemany(statements.insert_keyed(False, 1), rows)
            return int(cursor.rowcount)

    def holders(self, keys: Iterable[tuple[str, str]], now: datetime) -> list[Row]:
        """For (owner, key): (owner, key, id, fence, status, queue, whether its time is over)."""
        rows = self._rows_in_batches(statements.HOLDERS, (TEXT, TEXT), sorted(keys), self.time(now))
        return [(*row[:2], *_key(row[2:]), *row[4:6], bool(row[6])) for row in rows]

    def replace(self, rows: Sequence[Row]) -> list[bool]:
        """(id, fence) and ``REPLACED``. Returns, for each row, whether it was pending, and had its key."""
        return self._held(statements.REPLACE, (UUID_, INT, *REPLACED.values()), rows)

    def give_up(self, ids: Iterable[UUID], now: datetime) -> None:
        """The unique keys of these, if their time is over."""
        with self._connection.cursor() as cursor:
            cursor.executemany(statements.GIVE_UP, [(self.id(id_), self.time(now)) for id_ in sorted(ids)])

    def ready_queues(self) -> list[str]:
        """The queues that have ready tasks and are not paused, by name: one index step for each."""
        return [queue for [queue] in self._fetch(statements.READY_QUEUES)]

    def next_due(self) -> datetime | None:
        """The earliest time that a task waits for."""
        rows = self._fetch(statements.NEXT_DUE)
        return self._time_from(rows[0][0]) if rows else None

    def sight(self) -> tuple[datetime, datetime | None, list[str]]:
        """The time, ``next_due`` and ``ready_queues``."""
        if self._postgres:
            [(now, next_due, queues)] = self._fetch(statements.SIGHT)
            return now, next_due, queues
        return timezone.now(), self.next_due(), self.ready_queues()

    def asked_to_stop(self, worker_id: str) -> list[UUID]:
        return [_key((id_, 0))[0] for [id_] in self._fetch(statements.ASKED_TO_STOP, (worker_id,))]

    def promote(self, now: datetime, *, limit: int) -> int:
        return len(self._fetch(statements.promote(self._postgres), (self.time(now), limit)))

    def claim(
        self,
        queue: str,
        handlers: Sequence[str],
        *,
        worker_id: str,
        now: datetime,
        lease_expires_at: datetime,
        limit: int,
        ahead: bool = False,
    ) -> list[Row]:
        """The claimed rows, which begin in the order of ``CLAIMED``, first ready first.

        ``ahead``: they will wait behind others; none on its last attempt then, and looks no further
        than twice the limit for some that have more.
        """
        moment = self.time(now)
        picked = (queue, moment, *handlers, *((2 * limit, limit) if ahead else (limit,)))
        claim = statements.claim_ahead if ahead else statements.claim
        rows = self._fetch(
            claim(self._postgres, len(handlers)),
            (*picked, self.time(lease_expires_at), worker_id, moment, moment),
        )
        return sorted(rows, key=_claim_order)  # RETURNING has no order of its own

    def complete(self, rows: Sequence[Row], now: datetime) -> list[bool]:
        """(id, fence, result): completes what is still held. Returns, for each row, whether it was."""
        return self._held(statements.COMPLETE, (UUID_, INT, JSON), rows, self.time(now))

    def settle(self, rows: Sequence[Row]) -> list[bool]:
        """Write decisions, in the order of ``SETTLED``. Returns, for each row, whether it was still held."""
        return self._held(statements.SETTLE, tuple(SETTLED.values()), rows)

    def lock(self, keys: Iterable[LeaseKey]) -> dict[LeaseKey, str | None]:
        """Lock what is still held; key -> why somebody asked for its end, None: nobody did. In id order."""
        rows = self._keyed(statements.LOCK_IN_ORDER if self._postgres else statements.LOCK, keys)
        return {_key(row): (row[3] or "") if row[2] is not None else None for row in rows}

    def extend(self, keys: Iterable[LeaseKey], until: datetime) -> dict[LeaseKey, bool]:
        """Prolong what is still held; key -> whether somebody asked for its end."""
        return self._asked(statements.EXTEND, keys, self.time(until))

    def record(self, rows: Sequence[Row]) -> None:
        """Rows of ``attempts``, in the order of ``RECORDED``."""
        with self._connection.cursor() as cursor:
            cursor.executemany(statements.record(), rows)

    # -- requests that are sent again

    def reserve(self, rows: Sequence[Row], *, too_old: datetime) -> set[Row]:
        """(owner, path, key, fingerprint, created_at), sorted: the keys that nobody had, or has any more."""
        flat = [value for row in rows for value in row]
        return set(self._fetch(statements.reserve(len(rows)), (*flat, self.time(too_old))))

    def kept(self, key: Row, *, too_old: datetime) -> Row | None:
        """(fingerprint, status, body, location) for (owner, path, key); None where it is too old, too."""
        rows = self._fetch(statements.KEPT, (*key, self.time(too_old)))
        return rows[0] if rows else None

    def keep(self, rows: Sequence[Row]) -> None:
        """(status, body, location, owner, path, key)."""
        with self._connection.cursor() as cursor:
            cursor.executemany(statements.KEEP, rows)

    def forget(self, too_old: datetime, *, limit: int) -> int:
        with self._connection.cursor() as cursor:
            cursor.execute(statements.FORGET, (self.time(too_old), limit))
            return int(cursor.rowcount)

    # -- what is not kept for ever

    def any_outlived(self, status: str, before: datetime, now: datetime) -> bool:
        """A plain read: locks nothing."""
        return bool(self._fetch(statements.outlived(False, status), (self.time(before), self.time(now), 1)))

    def prune(self, status: str, before: datetime, now: datetime, *, limit: int) -> int:
        """Delete tasks of a status that finished before a time, with their attempts. Returns how many."""
        asked = self.time(before), self.time(now), limit
        rows = self._fetch(statements.outlived(self._postgres, status), asked)
        if rows:
            with self._connection.cursor() as cursor:
                for statement in statements.remove(len(rows)):
                    cursor.execute(statement, [id_ for [id_] in rows])
        return len(rows)

    # -- how

    def _fetch(self, sql: str, params: Sequence[Any] = ()) -> list[Row]:
        with self._connection.cursor() as cursor:
            cursor.execute(sql, params)
            return cursor.fetchall()  # type: ignore[no-any-return]  # rows are untyped

    def _asked(self, sql: str, keys: Iterable[LeaseKey], *params: Any) -> dict[LeaseKey, bool]:
        return {_key(row): row[2] is not None for row in self._keyed(sql, keys, *params)}

    def _keyed(self, sql: str, keys: Iterable[LeaseKey], *params: Any) -> Iterator[Row]:
        given = [(self.id(id_), fence) for id_, fence in sorted(keys)]
        return self._rows_in_batches(sql, (UUID_, INT), given, *params)

    def _held(self, sql: str, types: Row, rows: Sequence[Row], *params: Any) -> list[bool]:
        """For each row, by the id and the fence that it begins with, whether the statement changed it."""
        given = sorted(rows, key=_id) if self._postgres else rows  # the order of locks; SQLite has but one
        changed = {row[:2] for row in self._rows_in_batches(sql, types, given, *params)}
        return [row[:2] in changed for row in rows]

    def _rows_in_batches(self, sql: str, types: Row, rows: Sequence[Row], *params: Any) -> Iterator[Row]:
        for batch in batched(rows, BATCH):
            filled = batch if self._postgres else _padded(batch)
            given = _given(batch) if self._postgres else [value for row in filled for value in row]
            text = sql.format(rows=statements.rows(self._postgres, types, len(filled)))
            with self._batch_of(len(batch)):
                found = self._fetch(text, (*given, *params))
            yield from found

    def _batch_of(self, size: int) -> AbstractContextManager[None]:
        return plan_anew(self._connection.alias) if self._postgres and size > 1 else nullcontext()


def _id(row: Row) -> int:
    return row[0].int  # type: ignore[no-any-return]  # a UUID, which itself takes long to compare


def _key(row: Row) -> LeaseKey:
    id_, fence, *_ = row
    return (id_ if isinstance(id_, UUID) else UUID(id_)), fence


def _given(rows: Sequence[Row]) -> Sequence[Any]:
    """The parameters of ``statements.rows`` on PostgreSQL."""
    return arrays(rows) if len(rows) > 1 else rows[0]


def _padded(batch: Sequence[Row]) -> Sequence[Row]:
    """Up to the next power of two rows: few different texts, so that SQLite's statement cache holds."""
    missing = (1 << (len(batch) - 1).bit_length()) - len(batch)
    return [*batch, *[(None,) * len(batch[0])] * missing]


def _claim_order(row: Row) -> tuple[Any, ...]:
    return -row[12], row[13], row[0]
