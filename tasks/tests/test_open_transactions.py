"""A handler that leaves a transaction open holds up nobody: every other writer would wait for it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connections

from tasks.models.task import database
from tasks.states import Status
from tasks.tests.workers import RunWorkers, enqueue, run_workers, wait_finished

__all__ = ["run_workers"]

LEFT_OPEN: dict[str, dict[str, Any]] = {
    "fault.begins": {},
    "fault.enters": {},
    "fault.sleeps_inside": {"seconds": 60},
}


@pytest.mark.parametrize(("handler", "payload"), LEFT_OPEN.items(), ids=LEFT_OPEN)
def test_what_a_handler_leaves_open_is_closed_when_it_ends(
    run_workers: RunWorkers, handler: str, payload: dict[str, Any]
) -> None:
    wished = enqueue(handler, payload=payload, timeout=timedelta(seconds=1), max_attempts=1)
    run_workers("--n", "1")

    wait_finished(wished)

    after = wait_finished(enqueue("fault.noop"))
    assert after.status == Status.COMPLETED
    assert "left_behind" not in connections[database()].introspection.table_names()
