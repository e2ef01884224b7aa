"""The OpenAPI document, put together from the operations and from the rules that the service goes by."""

from __future__ import annotations

from functools import cache
from typing import Any

from tasks.api.bodies import MAX_BATCH_BYTES, MAX_BODY_BYTES
from tasks.api.openapi import other_operations, queue_operations, queue_schemas, task_operations
from tasks.api.openapi.operations import Operation
from tasks.api.openapi.parameters import HEADERS, PARAMETERS
from tasks.api.openapi.problems import response, responses_of_the_server
from tasks.api.openapi.schemas import schemas
from tasks.grants import Scope

OPERATIONS: tuple[Operation, ...] = (
    *task_operations.OPERATIONS,
    *queue_operations.OPERATIONS,
    *other_operations.OPERATIONS,
)

TAGS = {
    task_operations.MAKE: "A request that makes tasks can be sent again if it has an `Idempotency-Key`.",
    task_operations.READ: "Ask for one, wait for it, follow it, or page through all of them.",
    task_operations.STEER: "Change what has not begun, stop what runs, run again what has finished.",
    queue_operations.QUEUES: "How they stand, and what holds one back, lets it go on or empties it.",
    queue_operations.WORKERS: "Who runs tasks, and on what.",
    other_operations.TOKENS: "Who may do what; for those who may do everything.",
    other_operations.SERVICE: "For probes, tools and people; no token is asked for.",
}
SCOPES = {
    Scope.CREATE: "make tasks",
    Scope.READ: "every GET of tasks, queues and workers",
    Scope.METRICS: "the numbers of the whole service, of every queue",
    Scope.MANAGE: "cancel, retry, change, run now, delete",
    Scope.QUEUES: "pause, resume and purge queues and drain workers, for the tasks of every owner; with "
    "`tasks:read`, the numbers of whole queues",
    Scope.ADMIN: "all of it, for the tasks of every owner, and tokens",
}
LIMITS = {
    "Body of a request": f"{MAX_BODY_BYTES // 1024} KiB; {MAX_BATCH_BYTES // 1024**2} MiB for a batch",
    "Depth of JSON": "64 levels",
    "Integers": "from -2^63 to 2^63 - 1",
    "Head of a request": "64 KiB, 64 fields of 8,190 bytes, 8,190 bytes for the path and query",
    "Time for a whole request to arrive": "20 seconds",
}
ABOUT = (
    "JSON in, JSON out; paths have no trailing slash, and nothing redirects. What is documented here only "
    "grows: be ready for members that you do not know. Every time is UTC with six digits and a `Z`. Every "
    "GET answers HEAD as well, and every path OPTIONS."
)


@cache
def document() -> dict[str, Any]:
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = operation.as_item()
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Task service",
            "version": "1",
            "summary": "Background work for anything that speaks HTTP.",
            "description": f"{ABOUT}\n\n{_limits()}",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/", "description": "This service"}],
        "tags": [{"name": name, "description": says} for name, says in TAGS.items()],
        "paths": paths,
        "components": {
            "securitySchemes": {"token": _token()},
            "schemas": schemas() | queue_schemas.schemas(),
            "parameters": dict(PARAMETERS),
            "headers": dict(HEADERS),
            "responses": _problems(),
        },
    }


def _problems() -> dict[str, Any]:
    told = [slugs for operation in OPERATIONS for slugs in operation.problems_by_status().values()]
    return {".".join(slugs): response(slugs) for slugs in told} | responses_of_the_server()


def _limits() -> str:
    return "Limits:\n\n" + "\n".join(f"- {what}: {limit}" for what, limit in LIMITS.items())


def _token() -> dict[str, str]:
    scopes = "; ".join(f"`{scope}`: {allows}" for scope, allows in SCOPES.items())
    says = f"Where tokens are required every request carries one. Its scopes: {scopes}."
    return {"type": "http", "scheme": "bearer", "bearerFormat": "tsk_…", "description": says}
