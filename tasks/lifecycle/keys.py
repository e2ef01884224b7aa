"""Unique keys: of the tasks that ask for one, a single task has it at a time; the index says when."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from itertools import takewhile
from typing import Any, NamedTuple
from uuid import UUID

from tasks.book import Book, Row
from tasks.contract import Enqueued
from tasks.errors import DuplicateKey, Unavailable
from tasks.models import Task
from tasks.models.task import database
from tasks.statements import INSERTED, REPLACED
from tasks.states import Status
from tasks.unique import OnConflict, Unique

ROUNDS = 5  # for keys that change hands while they are asked for

Key = tuple[str, str]  # an owner and a key
Told = Enqueued | DuplicateKey  # what a wish has come to


class Holder(NamedTuple):
    """The task that has a key, as it was when it was read."""

    id: UUID
    fence: int
    status: str
    queue: str
    over: bool  # its time is: whoever wants the key may take it


class Taken(NamedTuple):
    """Why a wish has come to nothing: this task has its key. ``id`` None: who asks may not know of it."""

    id: UUID | None
    status: str


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

    def replacing_row(self, book: Book, holder: Holder) -> Row:
        """The holder's id and fence, and the rest in the order of REPLACED."""
        stored = dict(zip(INSERTED, self.row, strict=True))
        stored |= {"unique_while": self.unique.while_.value, "unique_until": book.time(self.until)}
        return (book.id(holder.id), holder.fence, *(stored[name] for name in REPLACED))


def holders(book: Book, keys: Collection[Key], now: datetime) -> dict[Key, Holder]:
    return {(owner, key): Holder(*rest) for owner, key, *rest in book.holders(keys, now)}


def make_keyed(book: Book, wishes: Sequence[Wish], now: datetime) -> list[Told]:
    """What each comes to, as if they came one after the other; one that is refused has written nothing.

    Within a transaction, and in few statements, however many want one key. Raises Unavailable when
    a key keeps changing hands.
    """
    left: dict[Key, list[Wish]] = {}
    for wish in wishes:
        left.setdefault(wish.key, []).append(wish)
    told: dict[UUID, Told] = {}
    while left:
        alike = {key: _alike(waiting) for key, waiting in left.items()}
        outcomes = _make_turn(book, {key: _doer(some) for key, some in alike.items()}, now)
        for key, some in alike.items():
            told |= dict(_told(some, outcomes[key]))
        unheard = {key: [wish for wish in some if wish.task.id not in told] for key, some in left.items()}
        left = {key: some for key, some in unheard.items() if some}
    return [told[wish.task.id] for wish in wishes]


def _alike(wishes: Sequence[Wish]) -> list[Wish]:
    """The first of them, and those after it that may know as much: what one is told, holds for the others."""
    queues = wishes[0].unique.queues
    return list(takewhile(lambda wish: wish.unique.queues == queues, wishes))


def _doer(wishes: Sequence[Wish]) -> Wish:
    """Whose wish is written: of many that replace, the last."""
    if wishes[0].unique.on_conflict != OnConflict.REPLACE:
        return wishes[0]
    return [wish for wish in wishes if wish.unique.on_conflict == OnConflict.REPLACE][-1]


def _told(wishes: Sequence[Wish], outcome: Enqueued | Taken) -> Iterator[tuple[UUID, Told]]:
    """What follows from the outcome of ``_doer``: for the first, and for others as far as it goes."""
    return _turned_away(wishes, outcome) if isinstance(outcome, Taken) else _served(wishes, outcome)


def _turned_away(wishes: Sequence[Wish], taken: Taken) -> Iterator[tuple[UUID, Told]]:
    replacing = wishes[0].unique.on_conflict == OnConflict.REPLACE
    for wish in wishes:
        if wish.unique.on_conflict == OnConflict.REPLACE and not replacing:
            return  # it may be pending
        if wish.unique.on_conflict != OnConflict.RETURN or taken.id is None:
            yield wish.task.id, _refused(wish, taken)


def _served(wishes: Sequence[Wish], holder: Enqueued) -> Iterator[tuple[UUID, Told]]:
    first, doer, shown = wishes[0], _doer(wishes), holder
    for wish in wishes:
        if wish.unique.on_conflict == OnConflict.REPLACE:
            if first.unique.on_conflict != OnConflict.REPLACE:
                return
            shown = holder if wish is doer else replace(holder, **_asked(wish))
        if wish is first:
            yield wish.task.id, shown
        elif wish.unique.on_conflict == OnConflict.REJECT:
            yield wish.task.id, _refused(wish, Taken(holder.id, holder.status))
        else:
            yield wish.task.id, replace(shown, deduplicated=True)


def _refused(wish: Wish, taken: Taken) -> DuplicateKey:
    why = f"has the unique key {wish.unique.key!r}"
    if wish.unique.on_conflict == OnConflict.REPLACE and taken.id is not None:
        why += f", and cannot be replaced: it is {taken.status}"
    return DuplicateKey(taken.id, why, at=wish.unique.at)


def _make_turn(book: Book, turn: Mapping[Key, Wish], now: datetime) -> dict[Key, Enqueued | Taken]:
    """One wish for each key."""
    outcomes: dict[Key, Enqueued | Taken] = {}
    for _ in range(ROUNDS):
        left = {key: turn[key] for key in sorted(turn.keys() - outcomes.keys())}  # the order of locks
        if not left:
            return outcomes
        held = holders(book, left.keys(), now)
        counting = {key: holder for key, holder in held.items() if not holder.over}
        outcomes |= _meet(book, left, counting)
        book.give_up([holder.id for holder in held.values() if holder.over], now)
        free = [wish for key, wish in left.items() if key not in counting]
        if free and book.insert_keyed([wish.keyed_row(book) for wish in free]) == len(free):
            outcomes |= {wish.key: wish.task for wish in free}
    if turn.keys() - outcomes.keys():
        raise Unavailable("A unique key keeps changing hands.")
    return outcomes


def _meet(book: Book, turn: Mapping[Key, Wish], held: Mapping[Key, Holder]) -> dict[Key, Enqueued | Taken]:
    """What wishes come to whose keys somebody has; without those that nobody has any more, it seems."""
    outcomes: dict[Key, Enqueued | Taken] = {}
    replacing: list[Key] = []
    found: dict[Key, UUID] = {}
    for key, holder in held.items():
        deed = _deed(turn[key], holder)
        if not isinstance(deed, OnConflict):
            outcomes[key] = deed
        elif deed == OnConflict.REPLACE:
            replacing.append(key)
        else:
            found[key] = holder.id
    rows = [turn[key].replacing_row(book, held[key]) for key in replacing]
    found |= {key: held[key].id for key, moved in zip(replacing, book.replace(rows), strict=True) if moved}
    tasks = Task.objects.using(database()).in_bulk(found.values()) if found else {}
    return outcomes | {key: _as_enqueued(tasks[id_]) for key, id_ in found.items() if id_ in tasks}


def _deed(wish: Wish, holder: Holder) -> Enqueued | Taken | OnConflict:
    """What is to be done yet, or what has come of it."""
    unique = wish.unique
    if holder.id == wish.task.id:  # just inserted, among others that were not
        return wish.task
    if unique.queues is not None and holder.queue not in unique.queues:
        return Taken(None, holder.status)
    if unique.on_conflict == OnConflict.REJECT:
        return Taken(holder.id, holder.status)
    if unique.on_conflict == OnConflict.REPLACE and holder.status != Status.PENDING:
        return Taken(holder.id, holder.status)
    return unique.on_conflict


def without_their_key(book: Book, keys: Mapping[UUID, Key], now: datetime) -> dict[UUID, UUID]:
    """Of finished tasks that had a key: those that cannot have it again, and who has it.

    Within a transaction, it sets free what is over. Of several with one key, the first is to have it.
    """
    held = holders(book, set(keys.values()), now)
    book.give_up([holder.id for holder in held.values() if holder.over], now)
    taken = {key: holder.id for key, holder in held.items() if not holder.over}
    return {id_: taken[key] for id_, key in sorted(keys.items()) if taken.setdefault(key, id_) != id_}


def _asked(wish: Wish) -> dict[str, Any]:
    """What a task takes over that is replaced; who and when it is, and what it has been through, stays."""
    return {name: getattr(wish.task, name) for name in REPLACED if name in INSERTED}


def _as_enqueued(task: Task) -> Enqueued:
    columns = [field.name for field in fields(Enqueued) if field.name != "deduplicated"]
    return Enqueued(**{name: getattr(task, name) for name in columns}, deduplicated=True)
