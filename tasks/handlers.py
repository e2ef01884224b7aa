"""The handlers that the service ships, to try it with."""
# the stubs of django.tasks know Django's own options alone
# mypy: disable-error-code="call-overload, untyped-decorator"

from __future__ import annotations

import time
from typing import Any

from django.tasks import task

from tasks.errors import GiveUp


@task(public_name="demo.sleep")
def sleep(seconds: float = 2) -> None:
    """Do nothing for a while. Runs a task that has only a title."""
    if not isinstance(seconds, int | float) or seconds < 0:
        raise GiveUp("seconds must be a number, not below 0")  # another attempt would get the same
    time.sleep(seconds)


@task(public_name="demo.echo")
def echo(*args: Any, **payload: Any) -> Any:
    """Return what was given: the payload; if there are arguments, a list of them, the payload last."""
    if not args:
        return payload
    return [*args, payload] if payload else [*args]


@task(public_name="demo.fail")
def fail(message: str = "demo.fail always fails") -> None:
    """Fail, to watch retries."""
    raise RuntimeError(message)
