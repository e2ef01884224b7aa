"""What goes in and out, as schemas: ``components.schemas`` of the document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tasks import specs
from tasks.api import token_views
from tasks.api.openapi import examples
from tasks.api.openapi.checks import QUEUE, TIME, TIME_OR_NULL, Schema, schema_of
from tasks.api.problems import KINDS
from tasks.grants import Scope
from tasks.limits import BATCH_TASKS, QUEUES
from tasks.models import Attempt
from tasks.pending import Code
from tasks.states import Status

# what each member means, for those that a client sends; their types and limits come from their checks
WISHED: Mapping[str, str] = {
    "title": "For people. Required when there is no `handler`.",
    "handler": "The public name of a handler; without one the default handler runs it.",
    "payload": "The handler's keyword arguments.",
    "queue": "The line it waits in; `default` if neither you nor the handler name one.",
    "priority": "Higher runs sooner, within a queue.",
    "run_at": "Not before this time.",
    "delay_seconds": "Not before so long from now; instead of `run_at`.",
    "expires_at": "Never start after this time: then it fails. Later than `run_at`.",
    "tags": "For people and filters; instead of the handler's.",
    "max_attempts": "How many attempts it gets.",
    "timeout_seconds": "How long one attempt may run; null: without limit.",
    "unique": "Make it only if no other task of this owner has this key: `while` says how long it counts, "
    "`ttl_seconds` ends that at the latest, and `on_conflict` says what a second one comes to.",
}
CANCEL_WISHED: Mapping[str, str] = {"reason": "Why: kept with the task; the first one counts."}
RETRY_WISHED: Mapping[str, str] = {
    "run_at": "Not before this time; null: at once.",
    "payload": "Other arguments than before; null: the same.",
}
TOKEN_WISHED: Mapping[str, str] = {
    "name": "Taken by no other token.",
    "owner": "Whose tasks it makes and sees; else its name.",
    "scopes": "What it may do; else create, read and manage tasks.",
    "queues": "For tasks in these queues only; null: in all. Not together with the scope `admin`.",
    "expires_at": "From when it opens nothing; null: never.",
}
OWN: Mapping[str, Schema] = {  # of members whose check is nobody else's
    "scopes": {"type": "array", "minItems": 1, "items": {"type": "string", "enum": list(Scope)}},
    "queues": {"type": ["array", "null"], "minItems": 1, "maxItems": QUEUES, "items": QUEUE},
}


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def object_of(members: Mapping[str, Schema], **more: Any) -> Schema:
    """An object in an answer: all of its members are always there, and more may join them."""
    return {"type": "object", "required": list(members), "properties": dict(members), **more}


def wished(checks: Mapping[str, Any], meanings: Mapping[str, str], **more: Any) -> Schema:
    """An object in a request: no other members than these."""
    members = {
        name: {**(OWN.get(name) or schema_of(check)), "description": meanings[name]}
        for name, check in checks.items()
    }
    return {"type": "object", "properties": members, "additionalProperties": False, **more}


def or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def said(schema: Schema, description: str) -> Schema:
    return {**schema, "description": description}


ID: Schema = {"type": "string", "format": "uuid"}
TEXT: Schema = {"type": "string"}
WHOLE: Schema = {"type": "integer", "minimum": 0}

_TASK: Mapping[str, Schema] = {
    "id": ID,
    "title": TEXT,
    "status": {"type": "string", "enum": list(Status.values)},
    "created_at": TIME,
    "handler": TEXT,
    "queue": TEXT,
    "priority": {"type": "integer"},
    "payload": said({"type": "object"}, "The handler's keyword arguments."),
    "tags": {"type": "array", "items": TEXT},
    "pending_reason": said(or_null(ref("PendingReason")), "Why a pending task does not run yet."),
    "run_at": said(TIME_OR_NULL, "Not before this time; also that of the next attempt."),
    "expires_at": said(TIME_OR_NULL, "It never starts after this time."),
    "timeout_seconds": said({"type": ["number", "null"]}, "How long one attempt may run."),
    "attempt": said(WHOLE, "The number of the present or last attempt; 0 before the first."),
    "max_attempts": said(WHOLE, "How many it gets, counted anew by a retry by hand."),
    "started_at": said(TIME_OR_NULL, "The start of the first attempt."),
    "finished_at": said(TIME_OR_NULL, "The end."),
    "result": {"description": "What the handler returned: any JSON."},
    "error": said(or_null(ref("TaskError")), "The last one; it goes when an attempt succeeds."),
    "unique_key": said({"type": ["string", "null"]}, "Its `unique.key`, also when it counts no more."),
    "worker": said(or_null(ref("Holder")), "Who has it, while it is processing."),
    "cancel_requested_at": said(TIME_OR_NULL, "Since when a running task has been asked to stop."),
    "cancel_reason": said({"type": ["string", "null"]}, "Why it was cancelled, if that was said."),
}
_ATTEMPT: Mapping[str, Schema] = {
    "number": {"type": "integer", "minimum": 1},
    "outcome": said(
        {"enum": ["succeeded", *Attempt.Outcome.values, None]},
        "`lapsed`: its worker died or was silent for a whole lease; `released`: shutdowns handed it back "
        "too often; null: it runs.",
    ),
    "started_at": TIME_OR_NULL,
    "ended_at": TIME_OR_NULL,
    "worker_id": TEXT,
    "error": or_null(
        object_of(
            {
                "type": TEXT,
                "message": TEXT,
                "traceback": TEXT,
                "fingerprint": said(
                    {"type": ["string", "null"]},
                    "The same for what failed in the same way: handler, type, and place in its own code. "
                    "Null: it was cancelled.",
                ),
            }
        )
    ),
}
_TOKEN: Mapping[str, Schema] = {
    "id": ID,
    "name": TEXT,
    "owner": TEXT,
    "prefix": said(TEXT, "How the secret begins, to tell tokens apart."),
    "scopes": {"type": "array", "items": {"type": "string", "enum": list(Scope)}},
    "queues": {"type": ["array", "null"], "items": TEXT},
    "created_at": TIME,
    "expires_at": TIME_OR_NULL,
    "used_at": said(TIME_OR_NULL, "Roughly when it was last used."),
}
_ATTEMPT_OR_NULL = said({"type": ["integer", "null"]}, "Null: no attempt was at fault.")
_EVENT = object_of(
    {
        "event": {"const": "status"},
        "id": said(TEXT, "For `Last-Event-ID`."),
        "data": {"type": "string", "contentMediaType": "application/json", "contentSchema": ref("Task")},
    },
    description="Each event of the stream.",
)
_FIELD_ERROR: Schema = {
    "type": "object",
    "required": ["code", "detail"],
    "properties": {
        "pointer": said(TEXT, "The member of the body, as a JSON pointer (RFC 6901)."),
        "parameter": said(TEXT, "Or the parameter of the query."),
        "header": said(TEXT, "Or the header."),
        "code": TEXT,
        "detail": TEXT,
    },
}
_PROBLEM: Schema = object_of(
    {
        "type": said({"type": "string", "enum": [f"/problems/{slug}" for slug in KINDS]}, "For programs."),
        "title": TEXT,
        "status": {"type": "integer"},
        "detail": said(TEXT, "For people."),
    }
)
_PROBLEM["properties"]["task_id"] = said(ID, "The task that has the `unique.key`.")
_PROBLEM["properties"]["errors"] = {"type": "array", "items": ref("FieldError")}
_COUNT: Schema = object_of({"value": WHOLE, "relation": {"type": "string", "enum": ["eq", "gte"]}})


def page_of(item: str, **more: Schema) -> Schema:
    url: Schema = {"type": ["string", "null"], "format": "uri-reference"}
    page = object_of({"items": {"type": "array", "items": ref(item)}, "next": url, "previous": url})
    page["properties"] |= more
    return page


def _task() -> Schema:
    task = object_of(_TASK, examples=[examples.COMPLETED])
    task["properties"]["deduplicated"] = said({"const": True}, "It was there: it has the `unique.key`.")
    return task


# between members, as far as a schema can say it; that expires_at is later than run_at it cannot
_WISH_RULES: Schema = {
    "anyOf": [{"required": ["title"]}, {"required": ["handler"]}],
    "not": {
        "required": ["run_at", "delay_seconds"],
        "properties": {"run_at": {"type": "string"}, "delay_seconds": {"type": "number"}},
    },
    "examples": [examples.WISH],
}
_TOKEN_WISH: Schema = {
    "required": ["name"],
    "not": {  # grants.fit
        "required": ["scopes", "queues"],
        "properties": {"scopes": {"contains": {"const": Scope.ADMIN.value}}, "queues": {"type": "array"}},
    },
    "examples": [{"name": "billing", "queues": ["invoices"]}],
}


def schemas() -> dict[str, Schema]:
    many = {"type": "array", "minItems": 1, "maxItems": BATCH_TASKS, "items": ref("NewTask")}
    return {
        "NewTask": wished(specs.MEMBERS, WISHED, **_WISH_RULES),
        "NewTasks": object_of({"tasks": many}, additionalProperties=False),
        "Changes": wished(specs.CHANGES, WISHED, minProperties=1, examples=[{"priority": 50}]),
        "Cancel": wished(specs.CANCEL, CANCEL_WISHED, examples=[{"reason": "not needed"}]),
        "Retry": wished(specs.RETRY, RETRY_WISHED, examples=[{"payload": {"month": "2026-02"}}]),
        "Nothing": {"type": "object", "maxProperties": 0},
        "Task": _task(),
        "Tasks": object_of({"items": {"type": "array", "items": ref("Task")}}),
        "TaskPage": page_of("Task", count=ref("Count")),
        "PendingReason": object_of(
            {
                "code": {"type": "string", "enum": list(Code)},
                "until": TIME_OR_NULL,
                "detail": TEXT,
            }
        ),
        "TaskError": object_of({"type": TEXT, "message": TEXT, "attempt": _ATTEMPT_OR_NULL}),
        "Holder": object_of({"id": TEXT, "lease_expires_at": TIME_OR_NULL}),
        "Count": _COUNT,
        "Attempt": object_of(_ATTEMPT, examples=[examples.ATTEMPT]),
        "AttemptPage": page_of("Attempt", count=ref("Count")),
        "NewToken": wished(token_views.MEMBERS, TOKEN_WISHED, **_TOKEN_WISH),
        "Token": object_of(_TOKEN, examples=[examples.TOKEN]),
        "IssuedToken": object_of({**_TOKEN, "token": said(TEXT, "The secret, shown this once.")}),
        "TokenPage": page_of("Token", count=ref("Count")),
        "Event": _EVENT,
        "Health": object_of({"status": {"const": "ok"}}),
        "Readiness": object_of({"status": {"const": "ready"}, "checks": {"type": "object"}}),
        "Document": object_of({"openapi": TEXT}),
        "Problem": _PROBLEM,
        "FieldError": _FIELD_ERROR,
    }
