"""The wish of a task to be the only one with its key: what it says, and reading it from JSON."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from typing import Any

from django.db import models

from tasks import members
from tasks.errors import FieldError

KEY_CHARS = 255
MAX_TTL_SECONDS = 315_360_000  # ten years


class UniqueWhile(models.TextChoices):
    """How long a task keeps others with its key from being made."""

    PENDING = "pending"  # until a worker first takes it
    LIVE = "live"  # until it has finished
    TTL = "ttl"  # until its ttl is over, finished or not


class OnConflict(StrEnum):
    """What becomes of a wish for a second one."""

    RETURN = "return"  # the first is the answer
    REJECT = "reject"
    REPLACE = "replace"  # the first, while it is pending, takes over what the second asks for


@dataclass(frozen=True, slots=True, kw_only=True)
class Unique:
    """``ttl`` ends it at the latest then, whatever ``while_`` says."""

    key: str
    while_: UniqueWhile = UniqueWhile.LIVE
    on_conflict: OnConflict = OnConflict.RETURN
    ttl: timedelta | None = None
    queues: Collection[str] | None = None  # whoever asks may know of tasks in these alone; None: in all
    at: str = ""  # the JSON pointer of its task in the body

    @property
    def may_refuse(self) -> bool:
        return self.on_conflict != OnConflict.RETURN or self.queues is not None

    def until(self, now: datetime) -> datetime | None:
        return None if self.ttl is None else now + self.ttl


def unique_from_json(value: Any) -> Unique:
    """A check of ``members``. Raises Wrong or WrongWithin."""
    if not isinstance(value, dict):
        raise members.Wrong("type", "must be an object with a key")
    given, errors = members.read_members(value, MEMBERS)
    if "key" not in value:
        errors.append(members.error_at("key", "required", "is required", ""))
    if given.get("while") == UniqueWhile.TTL and value.get("ttl_seconds") is None:
        errors.append(_TTL_MISSING)
    if errors:
        raise members.WrongWithin(errors)
    return Unique(
        key=given["key"],
        while_=given.get("while", UniqueWhile.LIVE),
        on_conflict=given.get("on_conflict", OnConflict.RETURN),
        ttl=given.get("ttl_seconds"),
    )


_TTL_MISSING = FieldError(
    code="required", detail='ttl_seconds is required with while "ttl"', pointer="/ttl_seconds"
)
MEMBERS: dict[str, members.Check] = {
    "key": partial(members.text, most=KEY_CHARS),
    "while": partial(members.one_of, UniqueWhile),
    "on_conflict": partial(members.one_of, OnConflict),
    "ttl_seconds": partial(members.seconds, least=1, most=MAX_TTL_SECONDS),
}
