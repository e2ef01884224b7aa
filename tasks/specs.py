"""From JSON to a spec: the one check of what clients ask for, singly, in batches or by schedules."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from typing import Any

from tasks import registry
from tasks.conf import config
from tasks.contract import TaskSpec
from tasks.errors import FieldError, InvalidFields, UnknownHandler
from tasks.limits import (
    BATCH_TASKS,
    HANDLER_CHARS,
    MAX_ATTEMPTS,
    MAX_TIMEOUT,
    MIN_TIMEOUT,
    QUEUE_RULE,
    TAG_CHARS,
    TAGS,
    TITLE_CHARS,
    is_queue_name,
)
from tasks.registry import ServiceTask

MAX_DELAY_SECONDS = 315_360_000  # ten years
ERRORS_SHOWN = 50

_RFC3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)


def spec_from_json(value: Any, *, owner: str, now: Callable[[], datetime], at: str = "") -> TaskSpec:
    """A spec from a parsed JSON value, filled up with what the handler says itself.

    ``now`` is asked only where the value counts from it. ``at``: the JSON pointer of the value in
    the body. Raises InvalidFields with everything that is wrong, or else UnknownHandler.
    """
    if not isinstance(value, dict):
        raise InvalidFields([FieldError(code="type", detail="a task must be an object", pointer=at)])
    given, errors = _read_members(value, at)
    errors += _conflicts(value, given, at)
    if errors:
        raise InvalidFields(errors[:ERRORS_SHOWN])
    handler = _handler(given, at)
    return TaskSpec(
        handler=handler.handler,
        title=given.get("title", handler.title),
        payload=given.get("payload", {}),
        owner=owner,
        queue=given.get("queue", handler.queue_name),
        priority=given.get("priority", handler.priority),
        tags=given.get("tags", tuple(handler.tags)),
        run_at=_run_at(given, now),
        expires_at=given.get("expires_at"),
        max_attempts=given.get("max_attempts", handler.max_attempts),
        timeout=given.get("timeout_seconds", handler.timeout),
    )


def specs_from_json(value: Any, *, owner: str, now: Callable[[], datetime]) -> list[TaskSpec]:
    """The specs of ``{"tasks": [...]}``. Raises as ``spec_from_json``, for all of them together."""
    tasks = _batch(value)
    present = cache(now)  # the same for all
    specs: list[TaskSpec] = []
    errors: list[FieldError] = []
    stranger: UnknownHandler | None = None
    for number, task in enumerate(tasks):
        try:
            specs.append(spec_from_json(task, owner=owner, now=present, at=f"/tasks/{number}"))
        except InvalidFields as error:
            errors += error.fields
        except UnknownHandler as error:
            stranger = stranger or error
        if len(errors) >= ERRORS_SHOWN:
            break
    if errors:
        raise InvalidFields(errors[:ERRORS_SHOWN])
    if stranger is not None:
        raise stranger
    return specs


def _batch(value: Any) -> list[Any]:
    if not isinstance(value, dict) or "tasks" not in value:
        raise InvalidFields([FieldError(code="required", detail="tasks is required", pointer="/tasks")])
    others = [name for name in value if name != "tasks"]
    errors = [_error(name, "unknown", "is not a known member (known: tasks)", "") for name in others]
    tasks = value["tasks"]
    if not isinstance(tasks, list):
        errors.append(_error("tasks", "type", "must be an array", ""))
    elif not 1 <= len(tasks) <= BATCH_TASKS:
        errors.append(_error("tasks", "length", f"must have 1 to {BATCH_TASKS:,} members", ""))
    if errors:
        raise InvalidFields(errors[:ERRORS_SHOWN])
    return list(tasks)


class _Wrong(Exception):
    """What is wrong with one value; the text goes on after the member's name."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


def _read_members(value: dict[str, Any], at: str) -> tuple[dict[str, Any], list[FieldError]]:
    given: dict[str, Any] = {}
    errors: list[FieldError] = []
    for name, member in value.items():
        check = _MEMBERS.get(name)
        try:
            if check is None:
                raise _Wrong("unknown", f"is not a known member (known: {', '.join(_MEMBERS)})")
            given[name] = check(member)
        except _Wrong as wrong:
            errors.append(_error(name, wrong.code, str(wrong), at))
    return given, errors


def _conflicts(value: dict[str, Any], given: dict[str, Any], at: str) -> list[FieldError]:
    """What is wrong between members that are right by themselves."""
    errors = []
    if "title" not in value and "handler" not in value:
        errors.append(_error("title", "required", "is required, or else a handler", at))
    if value.get("run_at") is not None and value.get("delay_seconds") is not None:
        errors.append(_error("delay_seconds", "conflict", "and run_at exclude each other", at))
    if errors:
        return errors
    run_at, expires_at = given.get("run_at"), given.get("expires_at")
    if run_at is not None and expires_at is not None and expires_at <= run_at:
        errors.append(_error("expires_at", "conflict", "must be later than run_at", at))
    return errors


def _error(name: str, code: str, text: str, at: str) -> FieldError:
    pointer = f"{at}/{name.replace('~', '~0').replace('/', '~1')}"
    shown = name if len(name) <= 100 else f"{name[:100]}…"
    return FieldError(code=code, detail=f"{shown} {text}", pointer=pointer)


def _handler(given: dict[str, Any], at: str) -> ServiceTask:
    """The default one need not be public: the operator chose it, not the client."""
    if "handler" not in given:
        return registry.find(config().default_handler)
    try:
        return registry.find_public(given["handler"])
    except UnknownHandler as error:
        raise UnknownHandler(error.name, pointer=f"{at}/handler") from error


def _run_at(given: dict[str, Any], now: Callable[[], datetime]) -> datetime | None:
    delay: timedelta | None = given.get("delay_seconds")
    return given.get("run_at") if delay is None else now() + delay


# -- one check for each member: returns what the spec holds, or raises _Wrong


def _text(value: Any, *, most: int) -> str:
    if not isinstance(value, str):
        raise _Wrong("type", "must be a string")
    if not value.strip():
        raise _Wrong("blank", "must not be blank")
    if len(value) > most:
        raise _Wrong("length", f"must have at most {most:,} characters")
    return value


def _queue(value: Any) -> str:
    if not isinstance(value, str):
        raise _Wrong("type", "must be a string")
    if not is_queue_name(value):
        raise _Wrong("format", QUEUE_RULE)
    return value


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _Wrong("type", "must be an object: the handler's keyword arguments")
    return value


def _whole(value: Any, *, least: int, most: int) -> int:
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    if not whole or isinstance(value, bool):
        raise _Wrong("type", f"must be a whole number from {least} to {most:,}")
    if not least <= value <= most:
        raise _Wrong("range", f"must be from {least} to {most:,}")
    return int(value)


def _seconds(value: Any, *, least: float, most: int) -> timedelta | None:
    if value is None:
        return None
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise _Wrong("type", f"must be a number of seconds from {least:g} to {most:,}, or null")
    if not least <= value <= most:
        raise _Wrong("range", f"must be from {least:g} to {most:,} seconds")
    return timedelta(seconds=value)


def _tags(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(tag, str) for tag in value):
        raise _Wrong("type", "must be an array of strings")
    if len(value) > TAGS:
        raise _Wrong("length", f"must have at most {TAGS} members")
    if not all(tag.strip() and len(tag) <= TAG_CHARS for tag in value):
        raise _Wrong("length", f"must hold strings of 1 to {TAG_CHARS} characters, none of them blank")
    return tuple(dict.fromkeys(value))


def _time(value: Any) -> datetime | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise _Wrong("type", "must be a string or null")
    if not _RFC3339.fullmatch(value):
        raise _Wrong("format", "must be an RFC 3339 time with an offset, like 2026-01-12T01:37:19Z")
    try:
        return datetime.fromisoformat(value.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise _Wrong("range", "is not a time that exists in the years 1 to 9999") from None


_MEMBERS: dict[str, Callable[[Any], Any]] = {
    "title": partial(_text, most=TITLE_CHARS),
    "handler": partial(_text, most=HANDLER_CHARS),
    "payload": _object,
    "queue": _queue,
    "priority": partial(_whole, least=-100, most=100),
    "run_at": _time,
    "expires_at": _time,
    "tags": _tags,
    "delay_seconds": partial(_seconds, least=0, most=MAX_DELAY_SECONDS),
    "max_attempts": partial(_whole, least=1, most=MAX_ATTEMPTS),
    "timeout_seconds": partial(
        _seconds, least=MIN_TIMEOUT.total_seconds(), most=int(MAX_TIMEOUT.total_seconds())
    ),
}
