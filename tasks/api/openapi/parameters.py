"""What comes beside the body, and goes out beside it: ``components.parameters`` and ``.headers``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tasks.api.listing import COUNTS
from tasks.api.openapi import examples
from tasks.api.openapi.checks import QUEUE, TIME, Schema
from tasks.api.pagination import DEFAULT_LIMIT, MAX_LIMIT, NEWEST_FIRST, SORTS
from tasks.api.prefer import MAX_WAIT_SECONDS, UNTIL
from tasks.filtering import TEXT_CHARS
from tasks.limits import HANDLER_CHARS, TAG_CHARS
from tasks.states import Status

Part = dict[str, Any]


def _text(most: int) -> Schema:
    return {"type": "string", "minLength": 1, "maxLength": most}


FILTERS: Mapping[str, tuple[Schema, str]] = {
    "status": ({"type": "string", "enum": list(Status.values)}, "Exactly this one."),
    "queue": (QUEUE, "Exactly this one."),
    "handler": (_text(HANDLER_CHARS), "Exactly this one."),
    "tag": (_text(TAG_CHARS), "This is one of its tags."),
    "q": (_text(TEXT_CHARS), "The title or the handler contains it, in whichever case."),
    "created_after": (TIME, "Made later than this; write a `+` in it as `%2B`."),
    "created_before": (TIME, "Made earlier than this."),
    "finished_after": (TIME, "Finished later than this."),
    "finished_before": (TIME, "Finished earlier than this."),
}
PAGING: Mapping[str, tuple[Schema, str]] = {
    "limit": (
        {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT},
        "How many at most.",
    ),
    "cursor": (
        {"type": "string", "minLength": 1},
        "Where a page begins: only as `next` and `previous` bring it.",
    ),
    "count": (
        {"type": "string", "enum": list(COUNTS), "default": "none"},
        "Whether to say how many match: an estimate ends at 1,000, an exact count at 1,000,000.",
    ),
}


def _query(name: str, schema: Schema, description: str, **more: Any) -> Part:
    return {"name": name, "in": "query", "description": description, "schema": schema, **more}


def _header(name: str, description: str, example: str, **rules: Any) -> Part:
    schema = {"type": "string", **rules}
    return {"name": name, "in": "header", "description": description, "schema": schema, "example": example}


def _path(name: str, example: str) -> Part:
    # not "format": another text is no id, and gets a 404 like an unknown one
    part = {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
    return {**part, "description": "Its `id`.", "example": example}


PARAMETERS: Mapping[str, Part] = {
    "task_id": _path("task_id", examples.TASK_ID),
    "token_id": _path("token_id", examples.TOKEN_ID),
    "worker_id": _path("worker_id", examples.WORKER_ID),
    "queue_name": {
        "name": "name",
        "in": "path",
        "required": True,
        "schema": QUEUE,
        "description": "The queue's name.",
        "example": "invoices",
    },
    "id": _query("id", _text(200), "The task's `id`.", required=True, example=examples.TASK_ID),
    "until": _query(
        "until",
        {"type": "string", "enum": list(UNTIL), "default": UNTIL[0]},
        "With `Prefer: wait`: for what.",
    ),
    "sort": _query(
        "sort",
        {"type": "string", "enum": list(SORTS), "default": NEWEST_FIRST},
        "Newest first, or oldest first.",
    ),
    "idempotency_key": _header(
        "Idempotency-Key",
        "Makes the request safe to repeat for 24 hours: the same key, path and body get the first answer "
        "again. 1 to 255 visible ASCII characters, with or without quotes around them.",
        examples.KEY,
        minLength=1,
        maxLength=255,
        pattern=r"^[!#-~]{1,255}$",
    ),
    "prefer": _header(
        "Prefer",
        f"`wait=20`: answer when the task is as wished, or after so many seconds, {MAX_WAIT_SECONDS} at most "
        "(RFC 7240). Anything else is ignored.",
        "wait=1",
    ),
    "if_none_match": _header("If-None-Match", "304 while the task is still as of this ETag.", examples.ETAG),
    "last_event_id": _header("Last-Event-ID", "Only what is newer than this event.", examples.EVENT_ID),
    **{name: _query(name, *said) for name, said in {**FILTERS, **PAGING}.items()},
}


def _answered(description: str, example: str, *, always: bool = False) -> Part:
    schema = {"type": "string"}
    return {"description": description, "required": always, "schema": schema, "example": example}


HEADERS: Mapping[str, Part] = {
    "Location": _answered("Where it is.", f"/tasks/{examples.TASK_ID}", always=True),
    "ETag": _answered("Of this state of the task, for `If-None-Match`.", examples.ETAG, always=True),
    "Link": _answered(
        "The neighbouring pages, as in the body (RFC 8288).",
        f'</tasks?limit=50&cursor={examples.CURSOR}>; rel="next"',
    ),
    "Preference-Applied": _answered("It was waited.", "wait=20"),
    "Idempotency-Replayed": _answered("`true`: the answer of the first request with this key.", "true"),
    "Retry-After": _answered("Seconds after which to try again.", "1", always=True),
    "RateLimit-Policy": _answered(
        "How often one may ask: `q` requests in `w` seconds.",
        '"burst";q=5000;w=1, "sustained";q=150000;w=60',
    ),
    "RateLimit": _answered(
        "How many are left, until the window ends in `t` seconds.",
        '"burst";r=4949;t=1, "sustained";r=148499;t=42',
    ),
    "Allow": _answered("The methods there are.", "GET, HEAD, OPTIONS", always=True),
    "WWW-Authenticate": _answered("How to authenticate (RFC 6750).", 'Bearer realm="tasks"', always=True),
    "Cache-Control": _answered("For how long it may be kept.", "public, max-age=300"),
}
