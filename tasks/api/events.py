"""Server-sent events of one task: its state whenever it changes, until it has finished."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from django.db import DatabaseError, InterfaceError
from django.http import HttpRequest, HttpResponseBase, StreamingHttpResponse

from tasks.api import waiting
from tasks.api.answers import json_bytes, no_content, tag_of
from tasks.errors import TaskServiceError
from tasks.models import Task
from tasks.pending import Situation
from tasks.resource import resource
from tasks.states import FINISHED

PING_SECONDS = 15.0  # proxies close what is silent for long
LONGEST_SECONDS = 3600.0  # then the client comes again, by itself
AGAIN_MILLISECONDS = 3000  # after which it does
PING = b": ping\n\n"


def event_stream(request: HttpRequest, find: Callable[[], Task]) -> HttpResponseBase:
    """Where this thread may not wait the stream ends after what is known now. Raises what ``find`` does.

    204 where nothing new can come: it is how the standard tells a client not to come again.
    """
    first = find()
    known = request.headers.get("Last-Event-ID", "")
    if first.status in FINISHED and _id_of(first) == known:
        return no_content()
    return StreamingHttpResponse(
        _events(first, find, known), content_type="text/event-stream", headers={"Cache-Control": "no-store"}
    )


def _events(task: Task, find: Callable[[], Task], known: str) -> Iterator[bytes]:
    yield b"retry: %d\n\n" % AGAIN_MILLISECONDS
    until = time.monotonic() + LONGEST_SECONDS
    while True:
        if (new := _id_of(task)) != known:
            known = new
            data = json_bytes(resource(task, Situation())).rstrip()
            yield b"event: status\nid: %s\ndata: %s\n\n" % (known.encode(), data)
        if task.status in FINISHED or not waiting.may_wait() or time.monotonic() > until:
            return
        if not waiting.wait_for_change(task, seconds=PING_SECONDS):
            yield PING
        try:
            task = find()
        except (TaskServiceError, DatabaseError, InterfaceError):
            return  # deleted, not for this client any more, or an outage: when it comes again it hears which


def _id_of(task: Task) -> str:
    return tag_of(repr(waiting.state_of(task)).encode())
