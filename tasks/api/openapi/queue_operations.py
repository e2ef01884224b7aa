"""What one can ask of queues and of workers."""

from __future__ import annotations

from typing import Any

from tasks.api.openapi import examples
from tasks.api.openapi.operations import NOTHING, Body, Operation, Reply
from tasks.api.openapi.parameters import PAGING
from tasks.api.openapi.task_operations import REPLAYED
from tasks.grants import Scope

QUEUES, WORKERS = "Queues", "Workers"
NAMED = ("queue_name", "idempotency_key")
KEYED = ("idempotency-mismatch", "idempotency-in-flight")


def _state(says: str, paused: dict[str, Any] | None) -> dict[int, Reply]:
    shown = {"name": "invoices", "paused": paused}
    return {200: Reply(says=says, schema="QueueState", example=shown, headers=(REPLAYED,))}


OPERATIONS = (
    Operation(
        method="get",
        path="/queues",
        id="listQueues",
        tag=QUEUES,
        summary="List queues",
        says="By name: those in which a task is pending, runs or has failed, that a handler or a worker "
        "names, in which anything happened in the last hour, or that were ever paused. A token that may not "
        "steer them sees those in which the newest 10,000 tasks of its owner are, and counts these alone. "
        "One that names queues sees exactly these.",
        scope=Scope.READ,
        parameters=tuple(PAGING),
        replies={
            200: Reply(
                says="A page of them.",
                schema="QueuePage",
                example=examples.page(examples.QUEUE, "/queues"),
                headers=("Link",),
            )
        },
        problems=("invalid-field",),
    ),
    Operation(
        method="get",
        path="/queues/{name}",
        id="readQueue",
        tag=QUEUES,
        summary="Read a queue",
        says="As in the list.",
        scope=Scope.READ,
        parameters=("queue_name",),
        replies={200: Reply(says="How it stands.", schema="Queue", example=examples.QUEUE)},
        problems=("not-found",),
    ),
    Operation(
        method="post",
        path="/queues/{name}/pause",
        id="pauseQueue",
        tag=QUEUES,
        summary="Hold a queue back",
        says="Nothing is claimed from it until it is resumed, whosever tasks are in it; what runs goes on. "
        "Of one that is paused, who did it and why stays. It need not have tasks yet.",
        scope=Scope.QUEUES,
        parameters=NAMED,
        body=Body(schema="Pause", examples={"why": {"reason": "the mail server is down"}}, required=False),
        replies=_state("It is paused.", examples.PAUSED),
        problems=("not-found", *KEYED),
    ),
    Operation(
        method="post",
        path="/queues/{name}/resume",
        id="resumeQueue",
        tag=QUEUES,
        summary="Let a queue go on",
        says="At once.",
        scope=Scope.QUEUES,
        parameters=NAMED,
        body=NOTHING,
        replies=_state("It is not paused.", None),
        problems=("not-found", *KEYED),
    ),
    Operation(
        method="post",
        path="/queues/{name}/purge",
        id="purgeQueue",
        tag=QUEUES,
        summary="Cancel all that is pending in a queue",
        says="Of every owner, and made before the request. What runs goes on. After 10 seconds it stops and "
        "says whether there are more; the next one needs a new `Idempotency-Key`. Once one with a key was "
        "answered, the same one cancels nothing more; while it runs, or where it was cut off, both cancel.",
        scope=Scope.QUEUES,
        parameters=NAMED,
        body=Body(schema="Purge", examples={"the same name": {"confirm": "invoices"}}),
        replies={
            200: Reply(
                says="So many were cancelled.",
                schema="Purged",
                example={"name": "invoices", "cancelled": 42, "more": False},
                headers=(REPLAYED,),
            )
        },
        problems=("not-found", "unconfirmed", *KEYED),
    ),
    Operation(
        method="get",
        path="/workers",
        id="listWorkers",
        tag=WORKERS,
        summary="List workers",
        says="By id: those that live, and those that stopped without a word within the last day. A token "
        "sees its own tasks in their hands; one that names queues sees those that serve one of these; and "
        "for one that may not steer queues, `queues` are those that it sees in the list of queues, and what "
        "is the operators' own is null.",
        scope=Scope.READ,
        parameters=tuple(PAGING),
        replies={
            200: Reply(
                says="A page of them.",
                schema="WorkerPage",
                example=examples.page(examples.WORKER, "/workers"),
                headers=("Link",),
            )
        },
        problems=("invalid-field",),
    ),
    Operation(
        method="post",
        path="/workers/{worker_id}/drain",
        id="drainWorker",
        tag=WORKERS,
        summary="Let a worker end",
        says="It claims nothing more within 10 seconds, and ends when what it runs is done. A token that "
        "names queues may drain those that serve none but these.",
        scope=Scope.QUEUES,
        parameters=("worker_id", "idempotency_key"),
        body=NOTHING,
        replies={
            200: Reply(says="It was asked.", schema="Drained", example=examples.DRAINED, headers=(REPLAYED,))
        },
        problems=("not-found", *KEYED),
    ),
)
