"""Fixtures that tests of every part share."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import hypothesis
import pytest
from django.db import connections
from django.db.models import F
from django.utils import timezone

import tasks
from tasks import lifecycle, registry
from tasks.contract import Lease
from tasks.models import Task, Worker
from tasks.models.task import database
from tasks.pending import Lately
from tasks.states import Status
from tasks.tests.databases import OTHER_KIND, OwnDatabases, named, without_database
from tasks.tests.rows import HANDLER, LeasedTask, MakeTask, Steal, claimant, columns_for, make_worker

# How long an example takes says nothing on a machine that others use too.
hypothesis.settings.register_profile(
    "service", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow], print_blob=True
)
hypothesis.settings.load_profile("service")


KIND = os.environ["TEST_DATABASE"]
USES_DATABASE = {"db", "transactional_db", "own_databases"}  # fixtures that lead to one


def pytest_configure() -> None:
    """By ``nohup``, or in the background of a script, signals come ignored, and all children inherit that."""
    for number, usual in ((signal.SIGHUP, signal.SIG_DFL), (signal.SIGINT, signal.default_int_handler)):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, usual)


def pytest_report_header() -> str:
    return f"tests of {KIND}; the other one: TEST_DATABASE={OTHER_KIND[KIND]}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is about the other database, and on PostgreSQL what needs none: SQLite's run has it."""
    left_out = [item for item in items if not _belongs(item)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if _belongs(item)]


def _belongs(item: pytest.Item) -> bool:
    if item.get_closest_marker(OTHER_KIND[KIND]):
        return False
    return KIND == "sqlite" or _uses_database(item)


def _uses_database(item: pytest.Item) -> bool:
    marked = item.get_closest_marker(KIND) or item.get_closest_marker("django_db")
    return bool(marked or USES_DATABASE.intersection(getattr(item, "fixturenames", ())))


@pytest.fixture
def make_task(db: None) -> MakeTask:
    """Write a row in any status, past the verbs; it is ready, unless the columns given say otherwise."""

    def make(status: Status = Status.PENDING, **columns: Any) -> Task:
        given = {"handler": HANDLER, "created_at": timezone.now(), **columns_for(status), **columns}
        return Task.objects.create(status=status, **given)

    return make


@pytest.fixture
def live_worker(db: None) -> Worker:
    """A row as that of a worker that serves every queue, and knows every handler."""
    return make_worker(handlers=list(registry.known()))


@pytest.fixture
def leased_task(make_task: MakeTask) -> LeasedTask:
    """Claim a new task; the columns given are those of the row before the claim."""

    def lease(**columns: Any) -> Lease:
        task = make_task(**{"queue": f"of-{uuid4()}", **columns})
        who = claimant(task.queue, handlers=(task.handler,))
        [taken] = lifecycle.claim(who, limit=1, now=timezone.now())
        return taken

    return lease


@pytest.fixture
def steal(db: None) -> Steal:
    """Let another worker take a task whose lease ran out; returns the thief's lease."""

    def take(lease: Lease) -> Lease:
        raised = {"fence": F("fence") + 1, "attempt": F("attempt") + 1, "worker_id": "host:2:thief"}
        assert Task.objects.filter(pk=lease.task_id, fence=lease.fence).update(**raised) == 1
        return lease._replace(fence=lease.fence + 1, attempt=lease.attempt + 1, worker_id="host:2:thief")

    return take


@pytest.fixture
def child_env(transactional_db: None, environment_of_children: dict[str, str]) -> dict[str, str]:
    """The environment of a process that works on the test's own database: what the test commits, it sees."""
    return environment_of_children


@pytest.fixture(scope="session")
def environment_of_children(django_db_setup: None) -> dict[str, str]:
    name = str(connections[database()].settings_dict["NAME"])
    where = {"DB_PATH": name} if KIND == "sqlite" else {"DATABASE_URL": named(name)}
    root = str(Path(tasks.__file__).parents[1])
    own = {"DJANGO_SETTINGS_MODULE": "tasks.tests.settings", "PYTHONPATH": root}
    return {**without_database(dict(os.environ)), **where, **own}


@pytest.fixture(scope="session")
def own_databases() -> Iterator[OwnDatabases]:
    """For services that a test starts on a database of their own."""
    made = OwnDatabases()
    yield made
    made.drop()


@pytest.fixture(autouse=True)
def _no_memory_of_other_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the API remembers for a second of paused queues and live workers is of another test's database."""
    if making := sys.modules.get("tasks.api.making"):
        monkeypatch.setattr(making, "lately", Lately())


@pytest.fixture
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Handlers that the test makes are forgotten when it ends, and those of the service are not."""
    registry.load()
    monkeypatch.setattr(registry, "_handlers", dict(registry._handlers))
