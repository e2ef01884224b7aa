"""What somebody may do to tasks: each lever has a permission of its own, and so has looking inside."""

from __future__ import annotations

from typing import NamedTuple

from django.http import HttpRequest

LOOK_INSIDE = "tasks.view_payload"  # payload, arguments, result, and what errors say
RETRY = "tasks.retry_task"
CANCEL = "tasks.cancel_task"
RUN_NOW = "tasks.change_task"
CLONE = "tasks.add_task"


class Rights(NamedTuple):
    look_inside: bool
    retry: bool
    cancel: bool
    run_now: bool
    clone: bool


def rights_of(request: HttpRequest) -> Rights:
    """To clone a task is to read it, and to make one."""
    may = request.user.has_perm
    inside = may(LOOK_INSIDE)
    return Rights(
        look_inside=inside,
        retry=may(RETRY),
        cancel=may(CANCEL),
        run_now=may(RUN_NOW),
        clone=inside and may(CLONE),
    )
