"""A PostgreSQL that does not answer: nobody waits for ever, and while it is so one waits for all."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from dj_database_url import parse
from django.db import OperationalError
from django.db.utils import ConnectionHandler

from tasks import postgres as rules
from tasks.postgresql import base as backend
from tasks.postgresql import silence as module
from tasks.postgresql.base import DatabaseWrapper
from tasks.postgresql.silence import Silence
from tasks.tests.databases import named
from tasks.tests.postgres import PORT
from tasks.tests.proxy import proxy

Connection = psycopg.Connection[tuple[Any, ...]]


def test_who_knows_of_no_silence_may_ask() -> None:
    silence = Silence()

    assert [silence.may_ask() for _ in range(3)] == [True, True, True]


def test_nobody_asks_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AGAIN_SECONDS", 60.0)
    silence = Silence()

    silence.begins()

    assert not silence.may_ask()


def test_one_asks_for_all_and_says_what_came_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AGAIN_SECONDS", 0.0)
    silence = Silence()
    silence.begins()

    assert [silence.may_ask() for _ in range(3)] == [True, False, False]
    silence.ends()
    assert [silence.may_ask() for _ in range(3)] == [True, True, True]


def test_who_never_says_what_came_of_it_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AGAIN_SECONDS", 0.0)
    monkeypatch.setattr(module, "ASKING_SECONDS", 0.0)
    silence = Silence()
    silence.begins()

    assert [silence.may_ask() for _ in range(2)] == [True, True]


def test_a_silence_is_remembered_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    silence = Silence()
    assert not silence.was_lately()

    silence.begins()
    silence.ends()

    assert silence.was_lately()
    monkeypatch.setattr(module, "LATELY_SECONDS", 0.0)
    assert not silence.was_lately()


# -- one connection


@pytest.fixture
def connection() -> Iterator[Connection]:
    with psycopg.connect(named("postgres"), autocommit=True) as made:
        yield made


@pytest.mark.postgres
def test_an_answer_that_does_not_come_ends_the_connection(connection: Connection) -> None:
    told: list[str] = []
    rules.give_up_after(connection, lambda: 0.2, lambda: told.append("silent"))
    since = time.monotonic()

    with pytest.raises(psycopg.OperationalError):
        connection.execute("SELECT pg_sleep(30)")

    assert time.monotonic() - since < 10
    assert connection.closed
    assert told == ["silent"]


@pytest.mark.postgres
def test_an_answer_that_is_an_error_leaves_the_connection_open(connection: Connection) -> None:
    told: list[str] = []
    rules.give_up_after(connection, lambda: 60, lambda: told.append("silent"))
    connection.execute("SET statement_timeout = 50")

    with pytest.raises(psycopg.OperationalError):
        connection.execute("SELECT pg_sleep(30)")

    assert connection.execute("SELECT 1").fetchone() == (1,)
    assert told == []


@pytest.mark.postgres
def test_a_connection_that_a_pool_gives_out_again_waits_as_before(connection: Connection) -> None:
    rules.give_up_after(connection, lambda: 60)
    wait = connection.wait

    rules.give_up_after(connection, lambda: 60)

    assert connection.wait is wait


@pytest.mark.postgres
def test_who_listens_and_hears_nothing_keeps_the_connection(connection: Connection) -> None:
    rules.give_up_after(connection, lambda: 60)

    assert list(connection.notifies(timeout=0.05)) == []

    assert connection.execute("SELECT 1").fetchone() == (1,)


@pytest.fixture
def reached(db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[DatabaseWrapper]:
    """As a worker reaches it; without ``db`` no connection of Django's may be used."""
    monkeypatch.setattr(backend, "silences", defaultdict(Silence))
    url = parse(named("postgres"), engine="tasks.postgresql")
    found = ConnectionHandler({"default": dict(url)})["default"]
    assert isinstance(found, DatabaseWrapper)
    found.settings_dict |= {rules.DOUBT: 0.3, rules.ANSWER: 20.0}
    yield found
    found.close()


def sleep(reached: DatabaseWrapper, seconds: float) -> None:
    with reached.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(%s)", [seconds])


@pytest.mark.postgres
def test_a_server_that_is_only_slow_is_waited_for_longer_after_the_first_wait_in_vain(
    reached: DatabaseWrapper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AGAIN_SECONDS", 0.0)
    with pytest.raises(OperationalError):
        sleep(reached, 0.7)
    reached.close()

    sleep(reached, 0.7)


@pytest.mark.postgres
def test_a_connection_is_tried_for_a_shorter_time(
    reached: DatabaseWrapper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend, "TRY_SECONDS", 0.2)
    known = reached.settings_dict
    with proxy(f"{known['HOST']}/.s.PGSQL.{PORT}") as way:
        known |= {"HOST": "127.0.0.1", "PORT": way.port, rules.DOUBT: 60.0, rules.ANSWER: 60.0}
        sleep(reached, 0)
        way.fall_silent()
        since = time.monotonic()

        assert not reached.is_usable()

        assert time.monotonic() - since < 30
