"""What is asked and what the answer means, without sending anything: for both clients."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import uuid4

import httpx2

from taskservice_client.errors import ApiError
from taskservice_client.task import Attempt, Task

WAIT_SECONDS = 50  # of one request; the service allows 60
AGAIN = frozenset({429, 503})  # it says itself that the same may work later
IN_FLIGHT = "idempotency-in-flight"  # so does a 409 for this: what was sent before is being decided
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 10.0  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    method: str
    path: str
    params: Mapping[str, Any] = field(default_factory=dict)
    json: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    repeatable: bool = True  # also where nobody knows whether it arrived


def create(
    handler: str | None, payload: Mapping[str, Any] | None, members: Mapping[str, Any], key: str | None
) -> Call:
    given = {"handler": handler, "payload": payload, **members}
    body = {name: _json(value) for name, value in given.items() if value is not None}
    return Call(method="POST", path="/tasks", json=body, headers=_key(key))


def create_many(specs: Iterable[Mapping[str, Any]], key: str | None) -> Call:
    tasks = [{name: _json(value) for name, value in spec.items()} for spec in specs]
    return Call(method="POST", path="/tasks/batch", json={"tasks": tasks}, headers=_key(key))


def get(task_id: str, *, wait_seconds: float = 0) -> Call:
    wait = min(int(wait_seconds), WAIT_SECONDS)
    return Call(method="GET", path=f"/tasks/{task_id}", headers={"Prefer": f"wait={wait}"} if wait else {})


def page(filters: Mapping[str, Any]) -> Call:
    return Call(method="GET", path="/tasks", params={name: _json(value) for name, value in filters.items()})


def steer(task_id: str, deed: str, key: str | None, **members: Any) -> Call:
    body = {name: _json(value) for name, value in members.items() if value is not None}
    return Call(method="POST", path=f"/tasks/{task_id}/{deed}", json=body or None, headers=_key(key))


def change(task_id: str, members: Mapping[str, Any], key: str | None) -> Call:
    body = {name: _json(value) for name, value in members.items()}
    return Call(method="PATCH", path=f"/tasks/{task_id}", json=body, headers=_key(key))


def delete(task_id: str) -> Call:
    return Call(method="DELETE", path=f"/tasks/{task_id}", repeatable=False)


def attempts(task_id: str) -> Call:
    return Call(method="GET", path=f"/tasks/{task_id}/attempts")


def _key(chosen: str | None) -> dict[str, str]:
    return {"Idempotency-Key": str(uuid4()) if chosen is None else chosen}


def _json(value: Any) -> Any:
    """Times as the service reads them."""
    if not isinstance(value, datetime):
        return value
    if value.tzinfo is None:
        raise ValueError(f"{value!r} has no time zone")
    return value.isoformat()


def is_final(response: httpx2.Response) -> bool:
    """Whether the same request would be answered the same."""
    if response.status_code in AGAIN:
        return False
    return response.status_code != 409 or not str(_problem(response).get("type")).endswith(f"/{IN_FLIGHT}")


def value_of(response: httpx2.Response) -> Any:
    """The answer's JSON, None without one. Raises ApiError."""
    if response.is_success:
        return response.json() if response.content else None
    raise ApiError(response.status_code, _problem(response))


def _problem(response: httpx2.Response) -> Mapping[str, Any]:
    try:
        problem = response.json()
    except ValueError:  # of a proxy, perhaps
        problem = None
    return problem if isinstance(problem, dict) else {"detail": response.text[:200]}


def tasks_of(value: Any) -> list[Task]:
    return [Task.of(item) for item in value["items"]]


def attempts_of(value: Any) -> list[Attempt]:
    return [Attempt.of(item) for item in value["items"]]


def arguments(call: Call, timeout: float) -> dict[str, Any]:
    """For the ``request`` of either kind of HTTP client; what is waited for comes on top of the timeout."""
    wait = int(call.headers.get("Prefer", "wait=0").partition("=")[2])
    given: dict[str, Any] = {"headers": dict(call.headers), "timeout": timeout + wait}
    if call.params:
        given["params"] = dict(call.params)
    return given if call.json is None else {**given, "json": call.json}


def may_repeat(call: Call, error: httpx2.TransportError) -> bool:
    """What never reached the service can always be sent again."""
    return call.repeatable or isinstance(
        error, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.PoolTimeout
    )


def pause_before(attempt: int, response: httpx2.Response | None) -> float:
    """Seconds before this attempt (the second is 2): as the service says, or else longer and longer."""
    told = response.headers.get("Retry-After", "") if response is not None else ""
    grown: float = min(FIRST_PAUSE * 2 ** (attempt - 2), LONGEST_PAUSE)
    least = float(told) if told.isdecimal() else 0.0
    return max(least, grown) * random.uniform(1.0, 1.3)  # noqa: S311 - so that many don't come at once
