"""The book in memory with unique keys, which the simulation does without."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from tasks.errors import DuplicateKey
from tasks.states import Status
from tasks.tests.simulation.desk import Row, Wish
from tasks.tests.simulation.memory import Memory
from tasks.unique import OnConflict, Unique, UniqueWhile

UNFINISHED = (Status.PENDING, Status.PROCESSING)


class Keyed(Memory):
    def enqueue(self, wish: Wish) -> UUID:
        if wish.unique is None:
            return super().enqueue(wish)
        id_ = self.new_id()
        holder = self._holder(wish.unique.key)
        if holder is None:
            self._rows[id_] = self._with_key(self.row_of(wish, id_), wish.unique)
            return id_
        return self._second(wish, wish.unique, holder)

    def _second(self, wish: Wish, unique: Unique, holder: Row) -> UUID:
        if unique.on_conflict == OnConflict.RETURN:
            return holder.id
        if unique.on_conflict == OnConflict.REJECT or holder.status is not Status.PENDING:
            raise DuplicateKey(holder.id, "has the key")
        asked = self.row_of(wish, holder.id)
        changed = holder._replace(
            queue=asked.queue,
            priority=asked.priority,
            max_attempts=asked.max_attempts,
            run_at=asked.run_at,
            expires_at=asked.expires_at,
            ready_at=(holder.ready_at or self.now) if asked.waiting_for is None else None,
            waiting_for=asked.waiting_for,
            attempts_before=holder.attempt,
            crashes=0,
            releases=0,
        )
        self._rows[holder.id] = self._with_key(changed, unique)
        return holder.id

    def _with_key(self, row: Row, unique: Unique) -> Row:
        until = unique.until(self.now)
        return row._replace(
            unique_key=unique.key,
            unique_while=unique.while_.value,
            unique_until=until,
            unique_fence=row.fence,
        )

    def _holder(self, key: str) -> Row | None:
        """Who has it; one whose time is over gives it up."""
        holders = (row for row in self._rows.values() if row.unique_key == key and _counts(row))
        holder = next(holders, None)
        if holder is not None and self._is_over(holder.unique_until):
            self._rows[holder.id] = holder._replace(unique_while=None)
            return None
        return holder

    def retry(self, ids: Sequence[UUID], *, run_at: datetime | None = None) -> int:
        """Who had a key takes it again; of several finished ones with the same key, the first."""
        finished = (row for id_ in sorted(set(ids)) if (row := self._rows.get(id_)) and row.finished_at)
        keys = {row.id: row.unique_key for row in finished if row.unique_key and row.unique_while}
        holders = {key: self._holder(key) for key in set(keys.values())}
        taken = {key: holder.id for key, holder in holders.items() if holder is not None}
        blocked = {id_ for id_, key in keys.items() if taken.setdefault(key, id_) != id_}
        return super().retry([id_ for id_ in ids if id_ not in blocked], run_at=run_at)


def _counts(row: Row) -> bool:
    match row.unique_while:
        case UniqueWhile.TTL:
            return True
        case UniqueWhile.LIVE:
            return row.status in UNFINISHED
        case UniqueWhile.PENDING:
            return row.status is Status.PENDING and row.fence == row.unique_fence
        case _:
            return False
