"""The handlers that the benchmarks run; loaded because ``TASKSERVICE_APPS`` names this package."""
# the stubs of django.tasks know Django's own options alone
# mypy: disable-error-code="call-overload, untyped-decorator"

from __future__ import annotations

import time

from django.tasks import task


@task(public_name="bench.noop")
def noop() -> int:
    """Do nothing."""
    return 1


@task(public_name="bench.stamp")
def stamp() -> int:
    """When it began, on the clock that all processes of a Linux machine share."""
    return time.monotonic_ns()
