"""Requests that make tasks: what each asks for, what it is told, and one transaction for several of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice

from django.db import OperationalError, transaction

from tasks import clock, lifecycle, postgres
from tasks.api.problems import refusal
from tasks.contract import Enqueued, Kept, Once, TaskSpec
from tasks.errors import DuplicateKey, KeyInFlight, KeyReused, TaskServiceError
from tasks.lifecycle.again import again
from tasks.lifecycle.once import WAIT
from tasks.models.task import database

WAIT_OF_MANY = timedelta(seconds=0.5)  # for a key, where other requests wait meanwhile


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    status: int
    body: str
    location: str = ""
    replayed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    specs: Sequence[TaskSpec]
    answer: Callable[[Sequence[Enqueued]], Answered]  # for the tasks that were made
    once: Once | None = None


Told = Sequence[Enqueued] | DuplicateKey  # what came of one request


@again
def create(asked: Sequence[Asked], *, hurried: bool = False) -> list[Answered | Exception]:
    """One transaction for all; none of them has the key of another. ``hurried``: others wait for them.

    An exception among the answers is of that request alone. Raises what ``lifecycle.enqueue``
    does; nothing was written then.
    """
    alias = database()
    try:
        with transaction.atomic(using=alias):  # a savepoint within a caller's: what is refused spoils nothing
            kept = _reserve(
                [one.once for one in asked if one.once is not None], patient=len(asked) == 1 and not hurried
            )
            fresh = [one for one in asked if one.once not in kept]
            answers = [_answer(one, told) for one, told in zip(fresh, _make(fresh), strict=True)]
            lifecycle.keep(
                (one.once, to_keep(one.once, answer))
                for one, answer in zip(fresh, answers, strict=True)
                if one.once is not None
            )
    except OperationalError as error:
        if postgres.lock_was_not_free(error):
            raise KeyInFlight from error
        raise
    first = iter(answers)
    return [replay(one.once, kept) or next(first) for one in asked]


def _reserve(keys: Sequence[Once], *, patient: bool) -> Mapping[Once | None, Kept]:
    if not keys:
        return {}
    return lifecycle.reserve(keys, now=clock.now(database()), wait=WAIT if patient else WAIT_OF_MANY)


def _make(fresh: Sequence[Asked]) -> list[Told]:
    """Together, but for those of which a unique key may forbid a part, and with it the whole."""
    shared = [one for one in fresh if not _is_for_itself(one)]
    each = iter(lifecycle.enqueue_each([spec for one in shared for spec in one.specs]))
    return [_alone(one) if _is_for_itself(one) else _next_of(each, one) for one in fresh]


def _is_for_itself(one: Asked) -> bool:
    return len(one.specs) > 1 and any(spec.unique and spec.unique.may_refuse for spec in one.specs)


def _alone(one: Asked) -> Told:
    try:
        return lifecycle.enqueue(one.specs)
    except DuplicateKey as error:
        return error


def _next_of(each: Iterator[Enqueued | DuplicateKey], one: Asked) -> Told:
    tasks = []
    for told in islice(each, len(one.specs)):
        if isinstance(told, DuplicateKey):  # it is the only one
            return told
        tasks.append(told)
    return tasks


def _answer(one: Asked, told: Told) -> Answered | DuplicateKey:
    return told if isinstance(told, DuplicateKey) else one.answer(told)


def to_keep(once: Once, answered: Answered | TaskServiceError) -> Kept:
    """An error that is kept is a conflict, which a later request would perhaps not meet."""
    if isinstance(answered, TaskServiceError):
        refused = refusal(answered)
        answered = Answered(status=refused.status_code, body=refused.content.decode())
    return Kept(
        fingerprint=once.fingerprint,
        status=answered.status,
        body=answered.body,
        location=answered.location,
    )


def replay(once: Once | None, kept: Mapping[Once | None, Kept]) -> Answered | Exception | None:
    """None: it was the first of its kind."""
    if once is None or once not in kept:
        return None
    found = kept[once]
    if found.fingerprint != once.fingerprint:
        return KeyReused()
    if not found.status:
        return KeyInFlight()
    return Answered(status=found.status, body=found.body, location=found.location, replayed=True)
