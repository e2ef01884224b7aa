"""The header Prefer (RFC 7240), of which ``wait`` is known here, and the parameter ``until``."""

from __future__ import annotations

import re
from collections.abc import Callable

from django.http import HttpRequest

from tasks.errors import FieldError, InvalidFields
from tasks.models import Task
from tasks.states import FINISHED, Status

MAX_WAIT_SECONDS = 60

_WAIT = re.compile(r"(?:^|,)\s*wait\s*=\s*\"?(\d{1,9})\"?\s*(?:[,;]|$)", re.IGNORECASE)

UNTIL: dict[str, Callable[[Task], bool]] = {
    "finished": lambda task: task.status in FINISHED,
    "started": lambda task: task.status != Status.PENDING,
}


def wait_seconds(request: HttpRequest) -> int:
    """As wished, at most ``MAX_WAIT_SECONDS``; 0 when nothing that can be understood is wished."""
    found = _WAIT.search(request.headers.get("Prefer", ""))
    return min(int(found[1]), MAX_WAIT_SECONDS) if found else 0


def until_of(request: HttpRequest) -> str:
    """``finished``, ``started`` or ``change``. Raises InvalidFields."""
    given = request.GET.get("until", "finished")
    if given not in (*UNTIL, "change"):
        detail = f"until must be one of {', '.join(UNTIL)}, change"
        raise InvalidFields([FieldError(code="invalid", detail=detail, parameter="until")])
    return given
