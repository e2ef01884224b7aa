"""The header Prefer (RFC 7240), of which ``wait`` is known here, and the parameter ``until``."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from django.http import HttpRequest

from tasks.api.waiting import state_of
from tasks.errors import FieldError, InvalidFields
from tasks.models import Task
from tasks.states import FINISHED, Status

MAX_WAIT_SECONDS = 60
UNTIL = ("finished", "started", "change")

_WAIT = re.compile(r"(?:^|,)\s*wait\s*=\s*\"?(\d{1,9})\"?\s*(?:[,;]|$)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Wish:
    """For what a request would wait, and for how long; 0 seconds: for nothing."""

    seconds: int
    until: str

    @classmethod
    def of(cls, request: HttpRequest) -> Self:
        """Raises InvalidFields."""
        until = request.GET.get("until", "finished")
        if until not in UNTIL:
            detail = f"until must be one of {', '.join(UNTIL)}"
            raise InvalidFields([FieldError(code="invalid", detail=detail, parameter="until")])
        found = _WAIT.search(request.headers.get("Prefer", ""))
        return cls(min(int(found[1]), MAX_WAIT_SECONDS) if found else 0, until)

    @property
    def applied(self) -> dict[str, str]:
        return {"Preference-Applied": f"wait={self.seconds}"}

    def condition(self, first: Task) -> Callable[[Task], bool]:
        """What the task has to be like, which was like this at first."""
        match self.until:
            case "started":
                return lambda task: task.status != Status.PENDING
            case "change":
                seen = state_of(first)
                return lambda task: state_of(task) != seen
            case _:
                return lambda task: task.status in FINISHED
