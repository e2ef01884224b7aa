"""From JSON to a spec: the one check of what clients ask for, singly, in batches or by schedules."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import datetime, timedelta
from difflib import get_close_matches
from functools import cache, partial
from itertools import islice
from typing import Any

from tasks import members, registry
from tasks.conf import config
from tasks.contract import TaskSpec
from tasks.errors import FieldError, InvalidFields, UnknownHandler
from tasks.limits import (
    BATCH_TASKS,
    CHANGEABLE,
    HANDLER_CHARS,
    MAX_ATTEMPTS,
    MAX_TIMEOUT,
    MIN_TIMEOUT,
    REASON_CHARS,
    TITLE_CHARS,
    expires_too_soon,
)
from tasks.registry import ServiceTask
from tasks.unique import Unique, unique_from_json

MAX_DELAY_SECONDS = 315_360_000  # ten years
NEAR = 0.75  # of 1: how alike a handler's name is that was perhaps meant


def spec_from_json(
    value: Any,
    *,
    owner: str,
    queues: Collection[str] | None = None,
    now: Callable[[], datetime],
    at: str = "",
) -> TaskSpec:
    """A spec from a parsed JSON value, filled up with what the handler says itself.

    ``queues``: whoever asks may know of tasks in these alone; None: in all. ``now`` is asked only
    where the value counts from it. ``at``: the JSON pointer of the value in the body. Raises
    InvalidFields with everything that is wrong, or else UnknownHandler.
    """
    try:
        return _spec(value, owner=owner, queues=queues, now=now, at=at)
    except UnknownHandler as error:
        raise _with_a_near_name(error, queues) from error


def _spec(
    value: Any, *, owner: str, queues: Collection[str] | None, now: Callable[[], datetime], at: str
) -> TaskSpec:
    if not isinstance(value, dict):
        raise InvalidFields([FieldError(code="type", detail="a task must be an object", pointer=at)])
    given, errors = members.read_members(value, MEMBERS, at)
    errors += _conflicts(value, given, now, at)
    if errors:
        raise InvalidFields(errors[: members.ERRORS_SHOWN])
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
        unique=_unique(given, queues, at),
    )


def specs_from_json(
    value: Any, *, owner: str, queues: Collection[str] | None = None, now: Callable[[], datetime]
) -> list[TaskSpec]:
    """The specs of ``{"tasks": [...]}``. Raises as ``spec_from_json``, for all of them together."""
    tasks = _batch(value)
    present = cache(now)  # the same for all
    specs: list[TaskSpec] = []
    errors: list[FieldError] = []
    stranger: UnknownHandler | None = None
    for number, task in enumerate(tasks):
        try:
            at = f"/tasks/{number}"
            specs.append(_spec(task, owner=owner, queues=queues, now=present, at=at))
        except InvalidFields as error:
            errors += error.fields
        except UnknownHandler as error:
            stranger = stranger or error
        if len(errors) >= members.ERRORS_SHOWN:
            break
    if errors:
        raise InvalidFields(errors[: members.ERRORS_SHOWN])
    if stranger is not None:
        raise _with_a_near_name(stranger, queues)
    return specs


def changes_from_json(value: Any) -> dict[str, Any]:
    """The columns that ``PATCH`` changes. Raises InvalidFields."""
    if not value:
        detail = "a member to change is required"
        raise InvalidFields([FieldError(code="required", detail=detail, pointer="")])
    given = _read(value, CHANGES)
    if "tags" in given:
        given["tags"] = list(given["tags"])
    if timeout := given.get("timeout_seconds"):
        given["timeout_seconds"] = timeout.total_seconds()
    return given


def reason_from_json(value: Any) -> str | None:
    """Why a task is cancelled, if that is said. Raises InvalidFields."""
    reason: str | None = _read(value, CANCEL).get("reason")
    return reason


def retry_from_json(value: Any) -> dict[str, Any]:
    """The arguments of ``lifecycle.retry``. Raises InvalidFields."""
    return _read(value, RETRY)


def _read(value: Any, checks: dict[str, Callable[[Any], Any]]) -> dict[str, Any]:
    given, errors = members.read_members(value, checks)
    if errors:
        raise InvalidFields(errors[: members.ERRORS_SHOWN])
    return given


def _batch(value: Any) -> list[Any]:
    if not isinstance(value, dict) or "tasks" not in value:
        raise InvalidFields([FieldError(code="required", detail="tasks is required", pointer="/tasks")])
    others = islice((name for name in value if name != "tasks"), members.ERRORS_SHOWN)
    errors = [
        members.error_at(name, "unknown", "is not a known member (known: tasks)", "") for name in others
    ]
    tasks = value["tasks"]
    if not isinstance(tasks, list):
        errors.append(members.error_at("tasks", "type", "must be an array", ""))
    elif not 1 <= len(tasks) <= BATCH_TASKS:
        errors.append(members.error_at("tasks", "length", f"must have 1 to {BATCH_TASKS:,} members", ""))
    if errors:
        raise InvalidFields(errors[: members.ERRORS_SHOWN])
    return list(tasks)


def _conflicts(
    value: dict[str, Any], given: dict[str, Any], now: Callable[[], datetime], at: str
) -> list[FieldError]:
    """What is wrong between members that are right by themselves."""
    errors = []
    if "title" not in value and "handler" not in value:
        errors.append(members.error_at("title", "required", "is required, or else a handler", at))
    if value.get("run_at") is not None and value.get("delay_seconds") is not None:
        errors.append(members.error_at("delay_seconds", "conflict", "and run_at exclude each other", at))
    if expires_too_soon(given.get("run_at"), given.get("expires_at")):
        errors.append(members.error_at("expires_at", "conflict", "must be later than run_at", at))
    elif (expires_at := given.get("expires_at")) is not None and expires_at <= now():
        errors.append(members.error_at("expires_at", "range", "must be in the future", at))
    return errors


def _handler(given: dict[str, Any], at: str) -> ServiceTask:
    """The default one need not be public: the operator chose it, not the client."""
    if "handler" not in given:
        return registry.find(config().default_handler)
    try:
        return registry.find_public(given["handler"])
    except UnknownHandler as error:
        raise UnknownHandler(error.name, pointer=f"{at}/handler") from error


def _with_a_near_name(error: UnknownHandler, queues: Collection[str] | None) -> UnknownHandler:
    """Of handlers whose queue whoever asks may know of. Not for each of a batch: it takes long."""
    names = registry.public_names(queues)
    near = get_close_matches(error.name, names, n=1, cutoff=NEAR)
    return UnknownHandler(error.name, pointer=error.pointer, near=near[0] if near else None)


def _run_at(given: dict[str, Any], now: Callable[[], datetime]) -> datetime | None:
    delay: timedelta | None = given.get("delay_seconds")
    return given.get("run_at") if delay is None else now() + delay


def _unique(given: dict[str, Any], queues: Collection[str] | None, at: str) -> Unique | None:
    unique: Unique | None = given.get("unique")
    return None if unique is None else replace(unique, queues=queues, at=at)


MEMBERS: dict[str, Callable[[Any], Any]] = {
    "title": partial(members.text, most=TITLE_CHARS),
    "handler": partial(members.text, most=HANDLER_CHARS),
    "payload": members.object_,
    "queue": members.queue,
    "priority": partial(members.whole, least=-100, most=100),
    "run_at": members.time,
    "expires_at": members.time,
    "tags": members.tags,
    "delay_seconds": partial(members.seconds, least=0, most=MAX_DELAY_SECONDS),
    "max_attempts": partial(members.whole, least=1, most=MAX_ATTEMPTS),
    "timeout_seconds": partial(
        members.seconds, least=MIN_TIMEOUT.total_seconds(), most=int(MAX_TIMEOUT.total_seconds())
    ),
    "unique": unique_from_json,
}
CHANGES = {name: check for name, check in MEMBERS.items() if name in CHANGEABLE}
CANCEL: dict[str, Callable[[Any], Any]] = {"reason": partial(members.text, most=REASON_CHARS)}
RETRY: dict[str, Callable[[Any], Any]] = {"run_at": members.time, "payload": members.object_or_null}
