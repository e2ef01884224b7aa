"""How tasks come to be."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Any

from django.db import transaction

from tasks import bell, clock, registry, tally, tracing
from tasks.book import Book, Row
from tasks.conf import config
from tasks.contract import Enqueued, TaskSpec
from tasks.errors import DuplicateKey, TooLarge
from tasks.ids import new_task_id
from tasks.lifecycle.again import again
from tasks.lifecycle.keys import Told, Wish, make_keyed
from tasks.models.task import database
from tasks.statements import INSERTED
from tasks.states import WaitingFor
from tasks.storable import to_json

Texts = dict[str, Any]  # the columns that hold JSON


@again
def enqueue(specs: Sequence[TaskSpec]) -> list[Enqueued]:
    """Make tasks, all or none, in one commit, or within the caller's transaction.

    Where another task has the unique key of one, the other comes back, ``deduplicated``, or
    DuplicateKey is raised, as the spec says. Raises UnknownHandler, TooLarge, or what
    ``storable.to_json`` raises for values that JSON cannot carry; nothing was written then.
    """
    if not specs:
        return []
    texts = _checked(specs)
    keyed = any(spec.unique for spec in specs)
    with transaction.atomic(using=database(), savepoint=keyed):  # what a conflict undoes is undone alone
        return _all_of(_write(specs, texts))


@again
def enqueue_each(specs: Sequence[TaskSpec]) -> list[Told]:
    """As ``enqueue``, but one that a unique key forbids is left out alone: in its place is the error."""
    if not specs:
        return []
    texts = _checked(specs)
    with transaction.atomic(using=database(), savepoint=False):
        return _write(specs, texts)


def _checked(specs: Sequence[TaskSpec]) -> list[Texts]:
    """First: what is refused must not spoil the caller's transaction."""
    for spec in specs:
        registry.find(spec.handler)
    return [_texts(spec) for spec in specs]


def _write(specs: Sequence[TaskSpec], texts: Sequence[Texts]) -> list[Told]:
    alias = database()
    now = clock.now(alias)
    made = [_enqueued(spec, now) for spec in specs]
    book = Book(alias)
    rows = [_row(task, columns, book) for task, columns in zip(made, texts, strict=True)]
    if any(spec.unique for spec in specs):
        told = _make_mixed(book, specs, made, rows, now)
    else:
        book.insert(rows)
        told = [*made]
    bell.ring_on_commit(alias)
    made_of = [(task.queue, task.handler) for task in _new(told)]
    transaction.on_commit(partial(tally.here.created, made_of), using=alias)
    return told


def _new(told: Sequence[Told]) -> list[Enqueued]:
    return [one for one in told if not isinstance(one, DuplicateKey) and not one.deduplicated]


def _all_of(told: Sequence[Told]) -> list[Enqueued]:
    """Raises the first DuplicateKey, which names nothing that is not made because of it."""
    for one in told:
        if isinstance(one, DuplicateKey):
            raise one.unnamed() if one.task_id in {task.id for task in _new(told)} else one
    return [one for one in told if not isinstance(one, DuplicateKey)]


def _make_mixed(
    book: Book, specs: Sequence[TaskSpec], made: Sequence[Enqueued], rows: Sequence[Row], now: datetime
) -> list[Told]:
    """Tasks with and without a unique key."""
    if plain := [row for spec, row in zip(specs, rows, strict=True) if spec.unique is None]:
        book.insert(plain)
    wishes = [
        Wish(spec.unique, task, row, spec.unique.until(now))
        for spec, task, row in zip(specs, made, rows, strict=True)
        if spec.unique is not None
    ]
    keyed = iter(make_keyed(book, wishes, now))
    return [task if spec.unique is None else next(keyed) for spec, task in zip(specs, made, strict=True)]


def _enqueued(spec: TaskSpec, now: datetime) -> Enqueued:
    waits = spec.run_at is not None and spec.run_at > now
    return Enqueued(
        id=new_task_id(),
        title=spec.title,
        created_at=now,
        handler=spec.handler,
        owner=spec.owner,
        queue=spec.queue,
        priority=spec.priority,
        args=spec.args,
        payload=spec.payload,
        tags=spec.tags,
        run_at=spec.run_at,
        expires_at=spec.expires_at,
        ready_at=None if waits else now,
        waiting_for=WaitingFor.TIME if waits else None,
        timeout_seconds=None if spec.timeout is None else spec.timeout.total_seconds(),
        max_attempts=spec.max_attempts,
        unique_key=None if spec.unique is None else spec.unique.key,
        traceparent=tracing.of_new_task(spec.traceparent),
    )


def _texts(spec: TaskSpec) -> Texts:
    """The columns that hold JSON."""
    args, payload, tags = to_json(list(spec.args)), to_json(spec.payload), to_json(list(spec.tags))
    expect_small(args, payload)
    return {"args": args, "payload": payload, "tags": tags}


def expect_small(args: str, payload: str) -> None:
    """JSON texts. Raises TooLarge."""
    limit = config().max_payload_bytes
    if len(args.encode()) + len(payload.encode()) > limit:
        raise TooLarge("payload", limit_bytes=limit)


def _row(task: Enqueued, texts: Texts, book: Book) -> tuple[Any, ...]:
    """In the order of ``INSERTED``."""
    stored = {"id": book.id(task.id), **texts}
    stored |= {name: book.time(getattr(task, name)) for name in _TIMES}
    return tuple(stored[name] if name in stored else getattr(task, name) for name in INSERTED)


_TIMES = ("run_at", "expires_at", "created_at", "ready_at")
