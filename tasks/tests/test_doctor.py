"""``manage.py tasks doctor``: finds each thing that is stuck or set up wrongly, and says what to do."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from django.db import connections
from django.test import override_settings
from django.utils import timezone

from tasks import lifecycle
from tasks.management import doctor
from tasks.management.doctor import place, setup, work
from tasks.models import Queue, Task, Worker
from tasks.models.task import database
from tasks.states import Status, WaitingFor
from tasks.tests.databases import OwnDatabases, without_database
from tasks.tests.rows import HANDLER, MakeTask, make_worker
from tasks.tests.workers import RunWorkers, enqueue, run_workers, wait_until

__all__ = ["run_workers"]

pytestmark = pytest.mark.django_db(transaction=True)

MANAGE = Path(__file__).parents[2] / "manage.py"
AGO = timedelta(hours=2)


def run(env: dict[str, str], *arguments: str) -> tuple[int, dict[str, dict[str, str]]]:
    """The exit code, and what was found, by code."""
    command = [sys.executable, str(MANAGE), "tasks", "doctor", "--json", *arguments]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert not done.stderr, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return done.returncode, {finding["code"]: finding for finding in found}


def codes() -> set[str]:
    return {finding.code for finding in work.look()}


def test_nothing_is_wrong_beside_a_live_worker(
    child_env: dict[str, str], run_workers: RunWorkers, make_task: MakeTask
) -> None:
    run_workers("--n", "1").wait_executors(1)

    code, found = run(child_env)

    assert code == 0
    assert not [finding for finding in found.values() if finding["level"] == "error"]


def test_a_full_worker_makes_ready_what_is_due_and_the_doctor_is_silent(
    run_workers: RunWorkers, make_task: MakeTask
) -> None:
    run_workers("--n", "1").wait_executors(1)
    long = enqueue("fault.sleep", payload={"seconds": 120})
    wait_until(lambda: Task.objects.get(pk=long).status == Status.PROCESSING, "its executor is busy")

    due = make_task(
        handler="fault.noop", max_attempts=1, run_at=timezone.now() - AGO, ready_at=None,
        waiting_for=WaitingFor.TIME,
    )  # fmt: skip

    wait_until(lambda: Task.objects.get(pk=due.pk).ready_at is not None, "it is ready")
    assert Task.objects.get(pk=due.pk).status == Status.PENDING  # on its last attempt nobody takes it ahead
    assert "overdue" not in codes()


def test_a_dead_worker_with_a_task_is_found_and_told_what_to_do(
    child_env: dict[str, str], run_workers: RunWorkers, make_task: MakeTask
) -> None:
    worker = run_workers("--n", "1")
    worker.wait_executors(1)
    wait_until(Worker.objects.exists, "it has told that it lives")
    worker.kill_everything()
    task = make_task(handler="fault.noop")
    held = make_task(Status.PROCESSING, lease_expires_at=timezone.now() - AGO, worker_id="host:1:dead")
    wait_until(lambda: Task.objects.filter(pk__in=[task.pk, held.pk]).count() == 2, "both are there")
    Worker.objects.update(last_seen_at=timezone.now() - AGO)

    code, found = run(child_env)

    assert code == 1
    assert {"no-workers", "leases-lapsed", "workers-stale"} <= set(found)
    assert "manage.py runworkers" in found["no-workers"]["do"]


def test_a_database_that_is_not_migrated_is_told(
    child_env: dict[str, str], own_databases: OwnDatabases, tmp_path: Path
) -> None:
    where = own_databases.make(tmp_path)
    Path(where["DB_PATH"]).touch()

    code, found = run({**without_database(child_env), **where})

    assert code == 1
    assert found["unmigrated"]["do"] == "Run `manage.py migrate`."


@pytest.mark.sqlite
def test_a_database_that_is_not_there_is_not_made(child_env: dict[str, str], tmp_path: Path) -> None:
    code, found = run({**child_env, "DB_PATH": str(tmp_path / "none.db")})

    assert (code, "database-missing" in found) == (1, True)
    assert not (tmp_path / "none.db").exists()


@pytest.mark.postgres
def test_a_database_that_does_not_answer_is_told(child_env: dict[str, str]) -> None:
    code, found = run({**child_env, "DATABASE_URL": "postgres://tasks:hunter2@127.0.0.1:1/tasks"})

    assert code == 1
    assert "cannot be used" in found["database-unusable"]["what"]
    assert "hunter2" not in str(found)


class Case(NamedTuple):
    code: str
    make: Callable[[MakeTask], Any]


def _paused(make_task: MakeTask) -> None:
    make_worker()
    lifecycle.pause(["mail"], by="ada")
    make_task(queue="mail", ready_at=timezone.now() - AGO)


def _strange(make_task: MakeTask, **columns: Any) -> None:
    make_worker()
    make_task(handler="gone.away", **columns)


def _overdue(make_task: MakeTask) -> None:
    make_worker()
    make_task(ready_at=None, waiting_for=WaitingFor.TIME, run_at=timezone.now() - AGO)


def _behind(make_task: MakeTask) -> None:
    make_worker()
    make_task(ready_at=timezone.now() - AGO)


def _mixed(make_task: MakeTask) -> None:
    make_worker(handlers=[HANDLER])
    make_worker(handlers=[HANDLER, "mail.send"])


def _other_queue(make_task: MakeTask) -> None:
    make_worker("images")
    make_task(queue="mail")


CASES = {
    "nobody takes the queue": Case("no-workers", _other_queue),
    "no worker at all": Case("no-workers", lambda make_task: None),
    "a handler that nobody knows": Case("no-handler", _strange),
    "a parked task": Case(
        "no-handler", lambda make: _strange(make, ready_at=None, waiting_for=WaitingFor.HANDLER)
    ),
    "a paused queue with old tasks": Case("queue-paused", _paused),
    "a due task that nobody promotes": Case("overdue", _overdue),
    "tasks that are ready for long": Case("workers-behind", _behind),
    "workers that know different handlers": Case("workers-mixed", _mixed),
    "a worker that ended without a word": Case("workers-stale", lambda make_task: make_worker(unseen=AGO)),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_is_stuck_is_found(make_task: MakeTask, case: Case) -> None:
    case.make(make_task)

    assert case.code in codes()


def test_what_is_not_stuck_is_not_found(make_task: MakeTask) -> None:
    make_worker()
    make_worker()
    make_task()
    lifecycle.pause(["mail"])
    make_task(queue="mail")
    make_task(ready_at=None, waiting_for=WaitingFor.TIME, run_at=timezone.now() + AGO)
    make_task(Status.PROCESSING)
    make_task(Status.FAILED)

    assert codes() == set()
    assert Queue.objects.filter(paused_at__isnull=False).exists()


def test_that_all_workers_drain_is_not_called_that_none_runs() -> None:
    lifecycle.drain([make_worker().pk])

    [found] = [finding for finding in work.look() if finding.code == "no-workers"]

    assert found.what == "All workers drain, and take nothing more."
    assert found.do == "Start another with `manage.py runworkers`."


SETTINGS = [
    ({"HOST": "0.0.0.0", "TASKSERVICE": {"authentication": "none"}}, "auth-open"),
    ({"TASKSERVICE": {"grace": timedelta(seconds=35)}}, "grace-too-long"),
]


@pytest.mark.parametrize(("given", "code"), SETTINGS)
def test_settings_that_do_harm_are_found(given: dict[str, Any], code: str) -> None:
    with override_settings(HOST="127.0.0.1", TASKSERVICE={}):
        assert code not in {finding.code for finding in setup.look()}
        with override_settings(**given):
            assert code in {finding.code for finding in setup.look()}


def test_a_proxy_that_is_not_counted_is_found() -> None:
    found: list[bool] = []
    for https, hosts, proxies in (
        (False, ["localhost"], 0),
        (True, ["localhost"], 1),
        (True, ["localhost"], 0),
        (False, ["localhost", "tasks.example.com"], 0),
    ):
        with override_settings(HTTPS=https, ALLOWED_HOSTS=hosts, TASKSERVICE={"proxies": proxies}):
            found.append("proxies-uncounted" in {finding.code for finding in setup.look()})

    assert found == [False, False, True, True]


@pytest.mark.postgres
def test_a_pooler_without_a_bell_is_found() -> None:
    with override_settings(TASKSERVICE={"pooler": True}):
        assert "no-bell" in {finding.code for finding in setup.look()}
    with override_settings(TASKSERVICE={"pooler": True, "listen_url": "postgres://direct/tasks"}):
        assert "no-bell" not in {finding.code for finding in setup.look()}


@pytest.mark.sqlite
def test_a_full_disk_and_a_large_wal_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    Task.objects.exists()
    monkeypatch.setattr(place, "FULL_BYTES", 2**60)
    monkeypatch.setattr(place, "LARGE_WAL_BYTES", -1)

    assert {finding.code for finding in place.look()} == {"disk-full", "wal-large"}


@pytest.mark.sqlite
def test_a_damaged_database_is_found_and_nothing_else_is_looked_at(
    child_env: dict[str, str], make_task: MakeTask, tmp_path: Path
) -> None:
    """A bit of a page that says how the others hang together; of one in a text nobody knows."""
    for _ in range(200):
        make_task(title="x" * 500)
    path = tmp_path / "damaged.db"
    with closing(sqlite3.connect(child_env["DB_PATH"])) as source:
        source.execute("VACUUM INTO ?", [str(path)])
        [[root]] = source.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'tasks'").fetchall()
        [[page]] = source.execute("PRAGMA page_size").fetchall()
    assert "database-damaged" not in run({**child_env, "DB_PATH": str(path)})[1]
    with path.open("r+b") as file:
        file.seek((root - 1) * page + 4)  # how many cells it has
        file.write(b"\x10")

    code, found = run({**child_env, "DB_PATH": str(path)})

    assert code == 1
    assert "is damaged" in found["database-damaged"]["what"]
    assert "restore a backup" in found["database-damaged"]["do"]


@pytest.mark.sqlite
def test_a_database_is_looked_at_for_damage_no_longer_than_told(
    make_task: MakeTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_task()
    monkeypatch.setattr(place, "LOOK_SECONDS", -1)
    monkeypatch.setattr(place, "PROGRESS_STEPS", 1)

    assert "database-damaged" not in {finding.code for finding in place.look()}
    assert Task.objects.exists()  # afterwards queries are let through


@pytest.mark.postgres
def test_a_transaction_that_stays_open_is_found_and_how_to_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    other = connections[database()].copy()
    try:
        with other.cursor() as cursor:
            cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            cursor.execute("SELECT pg_backend_pid()")
            [pid] = cursor.fetchone()
        assert "transaction-open" not in {finding.code for finding in place.look()}
        monkeypatch.setattr(place, "LONG", timedelta(0))

        [found] = [finding for finding in place.look() if finding.code == "transaction-open"]
    finally:
        other.close()

    assert f"Session {pid} " in found.what
    assert found.do == f"Let it end: SELECT pg_terminate_backend({pid})."


@pytest.mark.postgres
def test_clocks_that_disagree_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    class Late(place.datetime):  # type: ignore[misc,name-defined]
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return super().now(tz) - timedelta(minutes=5)

    assert "clock-skew" not in {finding.code for finding in place.look()}
    monkeypatch.setattr(place, "datetime", Late)

    assert "clock-skew" in {finding.code for finding in place.look()}


def test_errors_come_first_and_each_says_what_to_do(make_task: MakeTask) -> None:
    make_worker(unseen=AGO)
    make_task()

    findings = doctor.examine()

    levels = [finding.level for finding in findings]
    assert levels == sorted(levels)
    assert doctor.ERROR in levels
    assert all(finding.do.endswith(".") for finding in findings)
