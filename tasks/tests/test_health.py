"""Probes: alive as soon as the process answers, ready only when the database and its tables are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.db import connections
from django.db.migrations.recorder import MigrationRecorder
from django.test import override_settings
from django.utils import timezone

from tasks import lifecycle
from tasks.models import Worker
from tasks.models.task import database
from tasks.ops.health import expected_migrations
from tasks.tests.api_client import Api, api

__all__ = ["api"]


@pytest.fixture
def gone(transactional_db: None) -> Iterator[None]:
    """The database cannot be reached."""
    connection = connections[database()]
    real = connection.settings_dict["NAME"]
    connection.close()
    connection.settings_dict["NAME"] = "/nonexistent/gone.db"
    yield
    connection.close()
    connection.settings_dict["NAME"] = real


@pytest.fixture
def behind(transactional_db: None) -> Iterator[None]:
    """One migration is not applied."""
    recorder = MigrationRecorder(connections[database()])
    [last] = [migration for migration in expected_migrations() if migration[0] == "tasks"]
    recorder.record_unapplied(*last)
    yield
    recorder.record_applied(*last)


def test_a_process_that_answers_is_healthy(api: Api) -> None:
    answer = api.get("/healthz")

    assert (answer.status, answer.json()) == (200, {"status": "ok"})


def test_a_service_that_can_work_is_ready(api: Api) -> None:
    answer = api.get("/readyz")

    assert answer.status == 200
    assert answer.json() == {"status": "ready", "checks": {"database": "ok", "migrations": "ok"}}


@pytest.mark.usefixtures("gone")
def test_without_its_database_a_service_is_healthy_but_not_ready() -> None:
    api = Api()

    assert api.get("/healthz").status == 200
    answer = api.get("/readyz")
    assert "database" in answer.problem(503, "unavailable")["detail"]
    assert answer.headers["Retry-After"]
    assert b"gone" not in answer.body


@pytest.mark.postgres
def test_a_database_that_can_only_be_read_is_not_ready(api: Api) -> None:
    """As a standby; a read-only file of SQLite's is tried on a real disk."""
    with connections[database()].cursor() as cursor:
        cursor.execute("SET TRANSACTION READ ONLY")

    assert "cannot be written to" in api.get("/readyz").problem(503, "unavailable")["detail"]


@pytest.mark.usefixtures("behind")
def test_with_a_migration_missing_a_service_is_not_ready() -> None:
    problem = Api().get("/readyz").problem(503, "unavailable")

    assert problem["detail"].startswith("migrations: 1 not applied")


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
@pytest.mark.parametrize("host", ["10.1.2.3:8080", "evil.example", "_", ""])
@override_settings(ALLOWED_HOSTS=["localhost"])
def test_probes_are_answered_whatever_their_host(api: Api, path: str, host: str) -> None:
    assert api.ask("GET", path, host=host).status == 200
    assert api.ask("GET", "/tasks", host="evil.example").status == 400


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_probes_may_be_heads_and_accept_what_they_like(api: Api, path: str) -> None:
    assert api.ask("HEAD", path).status == 200
    assert api.ask("GET", path, accept="text/html").status == 200


@pytest.mark.parametrize("path", ["/healthz/", "/readyz/x", "/healthzz"])
def test_only_the_exact_paths_are_probes(api: Api, path: str) -> None:
    api.get(path).problem(404, "not-found")


def present(age: timedelta) -> None:
    worker = Worker(id="a:1:b", host="a", pid=1, executors=3)
    lifecycle.present(worker, now=timezone.now() - age)


def test_with_a_worker_that_was_just_seen_it_is_ready_for_work(api: Api) -> None:
    present(timedelta(seconds=20))

    answer = api.get("/readyz?require=workers")

    assert answer.status == 200
    assert answer.json()["checks"]["workers"] == "ok"


def test_without_a_worker_it_says_so_and_what_to_do(api: Api) -> None:
    assert "none was seen so far" in api.get("/readyz?require=workers").problem(503, "unavailable")["detail"]
    present(timedelta(seconds=31))

    detail = api.get("/readyz?require=workers").problem(503, "unavailable")["detail"]

    assert re.search(r"none was seen since \d{4}-.* UTC; start one with manage.py runworkers", detail)
    assert api.get("/readyz").status == 200


def test_workers_that_drain_take_nothing_and_do_not_count(api: Api) -> None:
    present(timedelta(seconds=1))
    lifecycle.drain(["a:1:b"])

    detail = api.get("/readyz?require=workers").problem(503, "unavailable")["detail"]

    assert detail.startswith("workers: all drain, and take nothing more; start another")


def test_it_does_not_pass_over_what_it_cannot_check(api: Api) -> None:
    api.get("/readyz?require=worker").problem(400, "invalid-field")
