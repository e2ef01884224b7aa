"""What one can ask of tasks."""

from __future__ import annotations

from typing import Any

from tasks.api.openapi import examples
from tasks.api.openapi.operations import NOTHING, Body, Operation, Reply
from tasks.api.openapi.parameters import FILTERS, PAGING
from tasks.grants import Scope

MAKE, READ, STEER = "Make tasks", "Read and wait", "Steer"
ID = "$response.body#/id"


def _link(operation: str, says: str) -> dict[str, Any]:
    return {"operationId": operation, "parameters": {"task_id": ID}, "description": says}


LINKS = {
    "read": _link("readTask", "The task as it is now."),
    "attempts": _link("listAttempts", "Its attempts."),
    "events": _link("followTask", "Its changes, as they come."),
    "change": _link("changeTask", "Change it while it is pending."),
    "run-now": _link("runTaskNow", "Let it wait no longer."),
    "cancel": _link("cancelTask", "Cancel it."),
    "retry": _link("retryTask", "Run it again, once it has finished."),
    "delete": _link("deleteTask", "Remove it."),
}
BY_QUERY = {"operationId": "readTaskByQuery", "parameters": {"id": ID}, "description": "The same task."}


def _task(says: str, example: Any, *headers: str) -> Reply:
    return Reply(says=says, schema="Task", example=example, headers=headers, links=LINKS)


_READ_REPLIES = {
    200: _task("The task.", examples.COMPLETED, "ETag", "Preference-Applied"),
    304: Reply(says="It is as it was.", headers=("ETag", "Preference-Applied")),
}
_KEYED = ("idempotency-mismatch", "idempotency-in-flight")
_CREATION = ("unknown-handler", "duplicate", *_KEYED)
_STEERED = ("not-found", "conflict-state", *_KEYED)
REPLAYED = "Idempotency-Replayed"

OPERATIONS = (
    Operation(
        method="post",
        path="/tasks",
        id="createTask",
        tag=MAKE,
        summary="Make a task",
        says="The answer comes after the task was committed and flushed to disk, and with `Prefer: wait` "
        "once it has finished. The body is read as JSON whatever the Content-Type says.",
        scope=Scope.CREATE,
        parameters=("idempotency_key", "prefer", "until"),
        body=Body(
            schema="NewTask",
            examples={"just a title": {"title": "My first task"}, "with a handler": examples.WISH},
        ),
        replies={
            200: Reply(
                says="It has the `unique.key` that was asked for.",
                schema="Task",
                example=examples.DEDUPLICATED,
                headers=("Location", "Preference-Applied", "Idempotency-Replayed"),
                links=LINKS,
            ),
            201: Reply(
                says="It was made.",
                schema="Task",
                example=examples.PENDING,
                headers=("Location", "Preference-Applied", "Idempotency-Replayed"),
                links={**LINKS, "read by query": BY_QUERY},
            ),
        },
        problems=_CREATION,
    ),
    Operation(
        method="post",
        path="/tasks/batch",
        id="createTasks",
        tag=MAKE,
        summary="Make many tasks",
        says="1 to 1,000 of them in one commit, all or none, from a body of up to 8 MiB. The answer is in "
        "the same order; an error names its task by its place, such as `/tasks/3/priority`.",
        scope=Scope.CREATE,
        parameters=("idempotency_key",),
        body=Body(schema="NewTasks", examples={"two": {"tasks": [examples.WISH, {"title": "Another"}]}}),
        replies={
            200: Reply(
                says="None was made: others have their unique keys.",
                schema="Tasks",
                example={"items": [examples.DEDUPLICATED]},
                headers=("Idempotency-Replayed",),
            ),
            201: Reply(
                says="All were made, but those whose unique key another has.",
                schema="Tasks",
                example={"items": [examples.PENDING]},
                headers=("Idempotency-Replayed",),
            ),
        },
        problems=_CREATION,
    ),
    Operation(
        method="get",
        path="/tasks",
        id="listTasks",
        tag=READ,
        summary="List tasks",
        says="Newest first, unless told otherwise; the filters hold together. Follow `next` until it is "
        "null: each task that existed throughout is on exactly one page, whatever is written meanwhile. A "
        "page may hold fewer than its limit and still have a `next`: where matches are rare, or after 8 MiB.",
        scope=Scope.READ,
        parameters=(*FILTERS, "sort", *PAGING),
        replies={
            200: Reply(
                says="A page of them.",
                schema="TaskPage",
                example=examples.page(examples.COMPLETED, "/tasks"),
                headers=("Link",),
            )
        },
        problems=("invalid-field",),
    ),
    Operation(
        method="get",
        path="/tasks/{task_id}",
        id="readTask",
        tag=READ,
        summary="Read a task",
        says="At once, or with `Prefer: wait` as soon as it is as wished.",
        scope=Scope.READ,
        parameters=("task_id", "until", "prefer", "if_none_match"),
        replies=_READ_REPLIES,
        problems=("invalid-field", "not-found"),
    ),
    Operation(
        method="get",
        path="/task",
        id="readTaskByQuery",
        tag=READ,
        summary="Read a task by query",
        says="The same as `GET /tasks/{task_id}`.",
        scope=Scope.READ,
        parameters=("id", "until", "prefer", "if_none_match"),
        replies=_READ_REPLIES,
        problems=("invalid-field", "not-found"),
    ),
    Operation(
        method="get",
        path="/tasks/{task_id}/attempts",
        id="listAttempts",
        tag=READ,
        summary="List the attempts of a task",
        says="Newest first: each attempt that did not succeed, and before them the one that runs or "
        "succeeded, which comes beyond the limit of the first page.",
        scope=Scope.READ,
        parameters=("task_id", *PAGING),
        replies={
            200: Reply(
                says="A page of them.",
                schema="AttemptPage",
                example=examples.page(examples.ATTEMPT, f"/tasks/{examples.TASK_ID}/attempts"),
                headers=("Link",),
            )
        },
        problems=("invalid-field", "not-found"),
    ),
    Operation(
        method="get",
        path="/tasks/{task_id}/events",
        id="followTask",
        tag=READ,
        summary="Follow a task",
        says="Server-sent events: each is a `status` with the task as data, the first at once, then one for "
        "each change; the stream ends when the task has finished. A comment comes every 15 seconds.",
        scope=Scope.READ,
        parameters=("task_id", "last_event_id"),
        replies={
            200: Reply(
                says="The stream.",
                schema="Event",
                content_type="text/event-stream",
                example=examples.EVENTS,
            ),
            204: Reply(says="Nothing new can come any more."),
        },
        problems=("not-found",),
    ),
    Operation(
        method="patch",
        path="/tasks/{task_id}",
        id="changeTask",
        tag=STEER,
        summary="Change a pending task",
        says="What is not named stays as it is.",
        scope=Scope.MANAGE,
        parameters=("task_id", "idempotency_key"),
        body=Body(schema="Changes", examples={"sooner": {"priority": 50}}),
        replies={200: _task("As it is now.", examples.PENDING | {"priority": 50}, REPLAYED)},
        problems=_STEERED,
    ),
    Operation(
        method="post",
        path="/tasks/{task_id}/run-now",
        id="runTaskNow",
        tag=STEER,
        summary="Run a pending task now",
        says="It does not wait for its `run_at`, or for its next attempt, any longer.",
        scope=Scope.MANAGE,
        parameters=("task_id", "idempotency_key"),
        body=NOTHING,
        replies={200: _task("It is ready.", examples.PENDING, REPLAYED)},
        problems=_STEERED,
    ),
    Operation(
        method="post",
        path="/tasks/{task_id}/cancel",
        id="cancelTask",
        tag=STEER,
        summary="Cancel a task",
        says="One that runs is asked to stop: it ends `cancelled`, or as it ends by itself "
        "if that comes first.",
        scope=Scope.MANAGE,
        parameters=("task_id", "idempotency_key"),
        body=Body(schema="Cancel", examples={"why": {"reason": "not needed"}}, required=False),
        replies={
            200: _task(
                "It was pending: no attempt starts any more. Or it ran, and is cancelled already.",
                examples.CANCELLED,
                REPLAYED,
            ),
            202: _task("It runs, and was asked to stop.", examples.STOPPING, REPLAYED),
        },
        problems=_STEERED,
    ),
    Operation(
        method="post",
        path="/tasks/{task_id}/retry",
        id="retryTask",
        tag=STEER,
        summary="Run a finished task again",
        says="It keeps its id and its attempts, and gets a new budget of them.",
        scope=Scope.MANAGE,
        parameters=("task_id", "idempotency_key"),
        body=Body(
            schema="Retry",
            examples={"as it was": {}, "otherwise": {"payload": {"month": "2026-02"}}},
            required=False,
        ),
        replies={200: _task("It is pending again.", examples.PENDING | {"attempt": 3}, REPLAYED)},
        problems=_STEERED,
    ),
    Operation(
        method="delete",
        path="/tasks/{task_id}",
        id="deleteTask",
        tag=STEER,
        summary="Remove a task",
        says="With its attempts. One that runs has to be cancelled first.",
        scope=Scope.MANAGE,
        parameters=("task_id",),
        body=NOTHING,
        replies={204: Reply(says="It is gone.")},
        problems=("not-found", "conflict-state"),
    ),
)
