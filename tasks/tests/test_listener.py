"""The bell of PostgreSQL: heard at once, missed for no longer than the server is gone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import dj_database_url
import psycopg
import pytest
from django.db.utils import ConnectionHandler

from tasks import postgres as rules
from tasks.tests.bells import listens, quiet, rings
from tasks.tests.postgres import Postgres, postgres
from tasks.tests.workers import wait_until
from tasks.worker import listener as module
from tasks.worker import run
from tasks.worker.lines import PostgresLine
from tasks.worker.listener import Listener


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with postgres() as running:
        yield running


@pytest.fixture(params=["as the queue is reached", "by a URL of its own"])
def listener(
    server: Postgres, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Listener]:
    """As a worker has it."""
    own = server.url() if request.param == "by a URL of its own" else ""
    reached = ConnectionHandler({"default": dict(dj_database_url.parse(server.url()))})
    monkeypatch.setattr(run, "connections", reached)
    made = Listener(lambda: PostgresLine(lambda: run._listening(own)))
    listens(made)
    yield made
    made.close()


def notify(server: Postgres) -> None:
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute(f"NOTIFY {rules.CHANNEL}")


def test_it_hears_who_rings(server: Postgres, listener: Listener) -> None:
    assert not rings(listener)

    notify(server)

    assert rings(listener, within=10)
    assert listener.poll_seconds == module.POLL_SECONDS


def test_it_rings_once_more_for_those_who_left_it_out(server: Postgres, listener: Listener) -> None:
    """A writer does not ring again within 10 ms; what it commits then must not wait for the next second."""
    notify(server)
    assert rings(listener, within=10)
    listener.drain()

    assert rings(listener, within=10)
    quiet(listener)
    assert not rings(listener, within=0.2)


def test_after_a_restart_of_the_server_it_hears_again(server: Postgres, listener: Listener) -> None:
    server.stop()
    wait_until(lambda: listener.poll_seconds == module.DEAF_POLL_SECONDS, "it knows")
    server.start()
    wait_until(lambda: listener.poll_seconds == module.POLL_SECONDS, "it listens again")
    assert rings(listener), "somebody may have rung meanwhile"
    quiet(listener)

    notify(server)

    assert rings(listener, within=10)


def test_what_is_swallowed_on_the_way_is_noticed_and_made_up_for(
    server: Postgres, caplog: pytest.LogCaptureFixture
) -> None:
    """As by PgBouncer in transaction mode: LISTEN is taken, and nothing is delivered."""

    class Swallowing(psycopg.Connection[tuple[object, ...]]):
        def execute(self, query: Any, *args: Any, **kwargs: Any) -> Any:
            return super().execute("SELECT 1" if str(query).startswith("LISTEN") else query)

    deaf = Listener(lambda: PostgresLine(lambda: Swallowing.connect(server.url(), autocommit=True)))
    wait_until(lambda: deaf.poll_seconds == module.DEAF_POLL_SECONDS, "it has noticed")

    [line] = [record for record in caplog.records if record.getMessage() == "bell.deaf"]
    assert "TASKSERVICE_LISTEN_URL" in str(line.__dict__["fields"])
    deaf.close()


def test_a_server_that_is_away_costs_no_busy_loop(server: Postgres) -> None:
    tries: list[float] = []

    def open_line() -> PostgresLine:
        tries.append(time.monotonic())
        raise psycopg.OperationalError("away")

    lonely = Listener(open_line)
    wait_until(lambda: len(tries) >= 3, "it tries again")
    lonely.close()

    assert tries[2] - tries[0] > sum(module.RECONNECT_SECONDS[:2]) / 2


# -- those who ring, and what they and the workers wait for


@pytest.fixture
def reached(server: Postgres, db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[ConnectionHandler]:
    """A process's connections to the server."""  # ``db``: without it no connection of Django's may be used
    made = ConnectionHandler({"default": dict(dj_database_url.parse(server.url()))})
    monkeypatch.setattr(rules, "connections", made)
    monkeypatch.setattr(rules, "_rang_at", {})
    yield made
    made.close_all()


def shown(reached: ConnectionHandler, name: str) -> str:
    with reached["default"].cursor() as cursor:
        cursor.execute(f"SHOW {name}")
        return str(cursor.fetchone()[0])


def test_many_commits_at_once_ring_once(
    reached: ConnectionHandler, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "RING_EVERY_SECONDS", 60.0)  # however slow the machine
    with reached["default"].cursor() as cursor:
        cursor.execute(f"LISTEN {rules.CHANNEL}")
    for _ in range(5):
        rules.ring("default")

    assert len(list(reached["default"].connection.notifies(timeout=0.2))) == 1
    assert rings(listener)


def test_ringing_never_fails(reached: ConnectionHandler) -> None:
    """The commit is done: whatever happens now, the answer is 201."""
    reached["default"].ensure_connection()
    reached["default"].connection.close()

    rules.ring("default")


@pytest.mark.parametrize(("pooler", "timeout"), [(False, "5s"), (True, "0")])
def test_no_statement_of_a_worker_takes_for_ever(
    reached: ConnectionHandler, pooler: bool, timeout: str
) -> None:
    """A pooler takes no options with a connection: there it is the role's."""
    rules.limit_waits("default", pooler=pooler)

    assert shown(reached, "statement_timeout") == timeout
    assert shown(reached, "idle_in_transaction_session_timeout") == ("0" if pooler else "3s")
    assert reached["default"].settings_dict["OPTIONS"]["connect_timeout"] == 3


def test_what_the_settings_say_of_waits_stays(reached: ConnectionHandler) -> None:
    reached["default"].settings_dict["OPTIONS"] = {"options": "-c statement_timeout=7000"}

    rules.limit_waits("default", pooler=False)

    assert shown(reached, "statement_timeout") == "7s"
