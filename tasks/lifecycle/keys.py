"""Unique keys: of the tasks that ask for one, a single task has it at a time; the index says when."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from django.db.models import F
from django.db.models.functions import Coalesce

from tasks.book import Book, Row
from tasks.contract import Enqueued
from tasks.errors import DuplicateKey, Unavailable
from tasks.models import Task
from tasks.models.task import database
from tasks.states import Status
from tasks.unique import OnConflict, Unique

ROUNDS = 5  # for keys that change hands while they are asked for

Key = tuple[str, str]  # an owner and a key


class Holder(NamedTuple):
    """The task that has a key, as it was when it was read."""

    id: UUID
    fence: int
    status: str
    queue: str
    over: bool  # its time is: whoever wants the key may take it


@dataclass(frozen=True, slots=True)
class Wish:
    """A task that is to have a key, and its row if it is made."""

    unique: Unique
    task: Enqueued
    row: Row  # in the order of INSERTED
    until: datetime | None  # when its ttl is over

    @property
    def key(self) -> Key:
        return self.task.owner, self.unique.key

    def keyed_row(self, book: Book) -> Row:
        """In the order of INSERTED and KEYED."""
        return (*self.row, self.unique.key, self.unique.while_.value, book.time(self.until), 0)


def holders(book: Book, keys: Collection[Key], now: datetime) -> dict[Key, Holder]:
    return {(owner, key): Holder(*rest) for owner, key, *rest in book.holders(keys, now)}


def make_keyed(book: Book, wishes: Sequence[Wish], now: datetime) -> list[Enqueued]:
    """For each wish its task, or the one that has its key; as if they came one after the other.

    Within a transaction. Raises DuplicateKey, or Unavailable when a key keeps changing hands.
    """
    known: dict[Key, Enqueued] = {}  # nobody else can change what this transaction has made
    answers: dict[UUID, Enqueued] = {}
    for turn in _turns(wishes):
        new = {key: wish for key, wish in turn.items() if not _is_answered(wish, known)}
        known |= _make_turn(book, new, known, now)
        for key, wish in turn.items():
            answers[wish.task.id] = known[key] if key in new else replace(known[key], deduplicated=True)
    return [answers[wish.task.id] for wish in wishes]


def _turns(wishes: Sequence[Wish]) -> Iterator[dict[Key, Wish]]:
    """In each, no key twice."""
    left = list(wishes)
    while left:
        turn: dict[Key, Wish] = {}
        later = [wish for wish in left if turn.setdefault(wish.key, wish) is not wish]
        yield turn
        left = later


def _is_answered(wish: Wish, known: Mapping[Key, Enqueued]) -> bool:
    return wish.key in known and wish.unique.on_conflict == OnConflict.RETURN


def _make_turn(
    book: Book, turn: Mapping[Key, Wish], known: Mapping[Key, Enqueued], now: datetime
) -> dict[Key, Enqueued]:
    answers: dict[Key, Enqueued] = {}
    for _ in range(ROUNDS):
        left = {key: turn[key] for key in sorted(turn.keys() - answers.keys())}  # the order of locks
        if not left:
            return answers
        held = holders(book, left.keys(), now)
        for key in left.keys() & {key for key, holder in held.items() if not holder.over}:
            if answer := _answer(left[key], held[key], known.get(key), now):
                answers[key] = answer
        book.give_up([holder.id for holder in held.values() if holder.over], now)
        free = [wish for key, wish in left.items() if key not in held or held[key].over]
        if free and book.insert_keyed([wish.keyed_row(book) for wish in free]) == len(free):
            answers |= {wish.key: wish.task for wish in free}
    if turn.keys() - answers.keys():
        raise Unavailable("A unique key keeps changing hands.")
    return answers


def _answer(wish: Wish, holder: Holder, made_here: Enqueued | None, now: datetime) -> Enqueued | None:
    """What a wish is told whose key somebody has. None: not any more, it seems."""
    unique = wish.unique
    if holder.id == wish.task.id:  # just inserted, among others that were not
        return wish.task
    named = None if made_here is not None and not made_here.deduplicated else holder.id
    if unique.queues is not None and holder.queue not in unique.queues:
        raise DuplicateKey(None, f"has the unique key {unique.key!r}", at=unique.at)
    if unique.on_conflict == OnConflict.REJECT:
        raise DuplicateKey(named, f"has the unique key {unique.key!r}", at=unique.at)
    if unique.on_conflict == OnConflict.REPLACE:
        if holder.status != Status.PENDING:
            why = f"has the unique key {unique.key!r}, and cannot be replaced: it is {holder.status}"
            raise DuplicateKey(named, why, at=unique.at)
        if not _replace(wish, holder, now):
            return None
    found = Task.objects.using(database()).filter(pk=holder.id).first()
    return None if found is None else _as_enqueued(found)


def without_their_key(book: Book, keys: Mapping[UUID, Key], now: datetime) -> dict[UUID, UUID]:
    """Of finished tasks that had a key: those that cannot have it again, and who has it.

    Within a transaction, it sets free what is over. Of several with one key, the first is to have it.
    """
    held = holders(book, set(keys.values()), now)
    book.give_up([holder.id for holder in held.values() if holder.over], now)
    taken = {key: holder.id for key, holder in held.items() if not holder.over}
    return {id_: taken[key] for id_, key in sorted(keys.items()) if taken.setdefault(key, id_) != id_}


# what a task keeps that is replaced: who and when it is, and what it has been through
_KEPT = {"id", "created_at", "owner", "status", "attempt", "attempts_before", "crashes", "releases", "fence"}
_KEPT |= {"attempted_at", "started_at", "finished_at", "result", "error", "worker_id", "lease_expires_at"}
_KEPT |= {"cancel_requested_at", "cancel_reason", "unique_key", "deduplicated"}


def _replace(wish: Wish, holder: Holder, now: datetime) -> int:
    """The same id, all else as asked for now, with a new budget. 0: it was claimed meanwhile."""
    task = wish.task
    asked = {field.name: getattr(task, field.name) for field in fields(task) if field.name not in _KEPT}
    asked |= {"args": list(task.args), "tags": list(task.tags)}
    if task.waiting_for is None:  # it keeps its place if it was ready
        asked["ready_at"] = Coalesce("ready_at", now)
    pending = Task.objects.using(database()).filter(
        pk=holder.id, fence=holder.fence, status=Status.PENDING, unique_while__isnull=False
    )
    return pending.update(
        **asked,
        attempts_before=F("attempt"),
        crashes=0,
        releases=0,
        unique_while=wish.unique.while_,
        unique_until=wish.until,
        unique_fence=F("fence"),
    )


def _as_enqueued(task: Task) -> Enqueued:
    columns = [field.name for field in fields(Enqueued) if field.name != "deduplicated"]
    return Enqueued(**{name: getattr(task, name) for name in columns}, deduplicated=True)
