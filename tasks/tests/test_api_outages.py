"""When the database is not there: 503 with a Retry-After, whatever was asked, and nothing leaks."""

from __future__ import annotations

import fcntl
import logging
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django import db
from django.db import connections

from tasks.api import problems
from tasks.models import Task
from tasks.models.task import database
from tasks.tests.api_client import Answer, Api

ID = "01a20bcf-958e-766c-8076-373a84ef31ff"
SOME_CALLS: tuple[tuple[str, str, bytes], ...] = (
    ("GET", "/tasks", b""),
    ("GET", "/tasks?status=pending&queue=mail", b""),
    ("GET", f"/tasks/{ID}", b""),
    ("GET", f"/task?id={ID}", b""),
    ("GET", f"/tasks/{ID}/attempts", b""),
    ("POST", f"/tasks/{ID}/cancel", b""),
    ("POST", f"/tasks/{ID}/retry", b""),
    ("POST", "/tasks", b'{"title":"a"}'),
)


def assert_unavailable(answer: Answer, *secrets: str) -> None:
    problem = answer.problem(503, "unavailable")
    assert int(answer.headers["Retry-After"]) >= 1
    assert set(problem) == {"type", "title", "status", "detail"}
    for secret in (*secrets, "sqlite", "SELECT", "INSERT", "Error"):
        assert secret.encode() not in answer.body


@pytest.fixture
def other_database(transactional_db: None) -> Iterator[Callable[[str], None]]:
    """Lets the queue's connection open something else, until the test ends."""
    connection = connections[database()]
    real = connection.settings_dict["NAME"]

    def open_instead(name: str) -> None:
        connection.close()
        connection.settings_dict["NAME"] = name

    yield open_instead
    open_instead(real)


@pytest.mark.parametrize(("method", "where", "body"), SOME_CALLS)
def test_a_database_that_is_gone_is_unavailable(
    other_database: Callable[[str], None], method: str, where: str, body: bytes
) -> None:
    other_database("/nonexistent/gone.db")

    assert_unavailable(Api().ask(method, where, body), "gone", "nonexistent")


def test_a_page_for_people_is_unavailable_too(other_database: Callable[[str], None]) -> None:
    other_database("/nonexistent/gone.db")

    assert_unavailable(Api().ask("GET", "/admin/", cookie="sessionid=abcdefgh"), "gone", "nonexistent")


@pytest.mark.sqlite
@pytest.mark.parametrize(
    ("method", "where", "body"), [("GET", "/tasks", b""), ("POST", "/tasks", b'{"title":"a"}')]
)
def test_a_file_that_is_no_database_is_unavailable(
    other_database: Callable[[str], None], tmp_path: Path, method: str, where: str, body: bytes
) -> None:
    spoilt = tmp_path / "spoilt.db"
    spoilt.write_bytes(b"this is no database" * 1000)
    other_database(str(spoilt))

    assert_unavailable(Api().ask(method, where, body), "spoilt")


def test_after_an_outage_the_next_request_works(other_database: Callable[[str], None]) -> None:
    api, name = Api(), connections[database()].settings_dict["NAME"]
    other_database("/nonexistent/gone.db")
    assert api.post("/tasks", {"title": "a"}).status == 503

    other_database(name)

    assert api.post("/tasks", {"title": "a"}).status == 201


@pytest.mark.sqlite
def test_a_database_without_tables_is_unavailable(
    other_database: Callable[[str], None], tmp_path: Path
) -> None:
    other_database(str(tmp_path / "empty.db"))

    assert_unavailable(Api().get("/tasks"), "tasks.")


READ_ONLY = {
    "sqlite": ("PRAGMA query_only = ON", "PRAGMA query_only = OFF"),
    "postgresql": ("SET default_transaction_read_only = on", "SET default_transaction_read_only = off"),
}


def test_a_read_only_database_takes_no_task_and_shows_those_it_has(transactional_db: None) -> None:
    api = Api()
    made = api.create()
    on, off = READ_ONLY[connections[database()].vendor]
    _execute(on)
    try:
        assert_unavailable(api.post("/tasks", {"title": "a"}))
        assert_unavailable(api.post(f"/tasks/{made['id']}/cancel"))
        assert api.task(made["id"]) == made
    finally:
        _execute(off)
    assert Task.objects.count() == 1


@pytest.mark.sqlite
def test_a_full_disk_takes_no_task_and_forgets_none(transactional_db: None) -> None:
    api = Api()
    large = {"handler": "demo.echo", "payload": {"text": "x" * 200_000}}
    api.create(**large)
    Task.objects.all().delete()
    made = api.create()
    _execute("VACUUM")  # or there would be room for it where others have been, as other tests leave it
    [[pages]] = _execute("PRAGMA page_count")
    _execute(f"PRAGMA max_page_count = {pages}")
    try:
        answer = api.post("/tasks", large)
    finally:
        _execute("PRAGMA max_page_count = 1073741823")

    assert_unavailable(answer)
    assert api.task(made["id"]) == made
    assert Task.objects.count() == 1


@pytest.mark.sqlite
def test_a_busy_database_is_unavailable_before_the_client_gives_up(
    transactional_db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = connections[database()]
    monkeypatch.setattr(type(connection), "patience", timedelta(seconds=0.2))
    connection.close()  # the next one has less patience
    try:
        with open(f"{connection.settings_dict['NAME']}-gate", "a") as gate:
            fcntl.flock(gate, fcntl.LOCK_EX)
            assert_unavailable(Api().post("/tasks", {"title": "a"}))
    finally:
        connection.close()


def test_an_outage_is_in_the_log_with_its_reason(
    other_database: Callable[[str], None], caplog: pytest.LogCaptureFixture
) -> None:
    other_database("/nonexistent/gone.db")

    with caplog.at_level(logging.WARNING, "tasks.api.problems"):
        Api().get("/tasks")

    [record] = [record for record in caplog.records if record.getMessage() == "api.unavailable"]
    assert vars(record)["fields"]["error"] == "OperationalError"


@pytest.mark.parametrize(
    "error", [db.DataError, db.IntegrityError, db.ProgrammingError, db.NotSupportedError]
)
def test_a_statement_that_is_wrong_is_no_outage(error: type[Exception]) -> None:
    assert not problems.is_outage(error("..."))


def _execute(statement: str) -> list[Any]:
    with connections[database()].cursor() as cursor:
        cursor.execute(statement)
        return list(cursor.fetchall()) if cursor.description else []
