"""Members of JSON objects that clients send: one check for each kind, and all that is wrong told at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any

from tasks.errors import FieldError
from tasks.limits import QUEUE_RULE, TAG_CHARS, TAGS, is_queue_name

ERRORS_SHOWN = 50

_RFC3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)


Check = Callable[[Any], Any]  # returns what is meant, or raises Wrong


class Wrong(Exception):
    """What is wrong with one value; the text goes on after the member's name."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class WrongWithin(Exception):
    """What is wrong with the members of an object; their pointers begin at it."""

    def __init__(self, errors: Sequence[FieldError]) -> None:
        super().__init__(f"{len(errors)} errors")
        self.errors = errors


def read_members(
    value: Mapping[str, Any], checks: Mapping[str, Check], at: str = ""
) -> tuple[dict[str, Any], list[FieldError]]:
    """What is right, by name, and what is wrong. ``at``: the object's JSON pointer in the body.

    It ends where no more errors are shown: a batch has room for a million of them.
    """
    given: dict[str, Any] = {}
    errors: list[FieldError] = []
    for name, member in value.items():
        if len(errors) >= ERRORS_SHOWN:
            break
        check = checks.get(name)
        try:
            if check is None:
                raise Wrong("unknown", f"is not a known member (known: {', '.join(checks)})")
            given[name] = check(member)
        except Wrong as wrong:
            errors.append(error_at(name, wrong.code, str(wrong), at))
        except WrongWithin as within:
            errors += [replace(error, pointer=f"{at}/{name}{error.pointer}") for error in within.errors]
    return given, errors


def error_at(name: str, code: str, text: str, at: str) -> FieldError:
    pointer = f"{at}/{name.replace('~', '~0').replace('/', '~1')}"
    shown = name if len(name) <= 100 else f"{name[:100]}…"
    return FieldError(code=code, detail=f"{shown} {text}", pointer=pointer)


# -- one check for each kind


def text(value: Any, *, most: int) -> str:
    if not isinstance(value, str):
        raise Wrong("type", "must be a string")
    if not value.strip():
        raise Wrong("blank", "must not be blank")
    if len(value) > most:
        raise Wrong("length", f"must have at most {most:,} characters")
    return value


def one_of[Choice: Enum](choices: type[Choice], value: Any) -> Choice:
    if not isinstance(value, str):
        raise Wrong("type", "must be a string")
    if value not in choices:
        raise Wrong("choice", f"must be one of {', '.join(str(choice.value) for choice in choices)}")
    return choices(value)


def queue(value: Any) -> str:
    if not isinstance(value, str):
        raise Wrong("type", "must be a string")
    if not is_queue_name(value):
        raise Wrong("format", QUEUE_RULE)
    return value


def object_(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Wrong("type", "must be an object: the handler's keyword arguments")
    return value


def object_or_null(value: Any) -> dict[str, Any] | None:
    return None if value is None else object_(value)


def whole(value: Any, *, least: int, most: int) -> int:
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    if not whole or isinstance(value, bool):
        raise Wrong("type", f"must be a whole number from {least} to {most:,}")
    if not least <= value <= most:
        raise Wrong("range", f"must be from {least} to {most:,}")
    return int(value)


def seconds(value: Any, *, least: float, most: int) -> timedelta | None:
    if value is None:
        return None
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise Wrong("type", f"must be a number of seconds from {least:g} to {most:,}, or null")
    if not least <= value <= most:
        raise Wrong("range", f"must be from {least:g} to {most:,} seconds")
    return timedelta(seconds=value)


def tags(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(tag, str) for tag in value):
        raise Wrong("type", "must be an array of strings")
    if len(value) > TAGS:
        raise Wrong("length", f"must have at most {TAGS} members")
    if not all(tag.strip() and len(tag) <= TAG_CHARS for tag in value):
        raise Wrong("length", f"must hold strings of 1 to {TAG_CHARS} characters, none of them blank")
    return tuple(dict.fromkeys(value))


def time(value: Any) -> datetime | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise Wrong("type", "must be a string or null")
    if not _RFC3339.fullmatch(value):
        raise Wrong("format", "must be an RFC 3339 time with an offset, like 2026-01-12T01:37:19Z")
    try:
        return datetime.fromisoformat(value.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise Wrong("range", "is not a time that exists in the years 1 to 9999") from None
