"""The WAL under load, of real processes: how large it gets, who empties it, and what a reader does to it."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.db import connections

from tasks import lifecycle
from tasks.contract import TaskSpec
from tasks.models import Task
from tasks.models.task import database
from tasks.sqlite import wal as module
from tasks.sqlite.base import DatabaseWrapper
from tasks.sqlite.wal import Refusal
from tasks.tests.workers import RunWorkers, run_workers, wait_all_finished, wait_until

__all__ = ["run_workers"]

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db(transaction=True)]

MB = 1_000_000
SMALL = 1 * MB  # the limit of the small tests, above which whoever commits empties the WAL
LIMIT = DatabaseWrapper.checkpoint_above_bytes
# A reader that the machine keeps waiting within its transaction refuses one checkpoint or two,
# and the next are tried after 0.1 s and 0.2 s.
SLACK = 10 * MB

WRITER = """
import sys
import django
django.setup()
from django.db import connection
from tasks import lifecycle
from tasks.contract import TaskSpec
connection.ensure_connection()
connection.checkpoint_above_bytes = int(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
for number in range(int(sys.argv[1])):
    lifecycle.enqueue([TaskSpec(handler="demo.echo", payload={"number": number, "text": "x" * 1000})])
"""

READER = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.setconfig(sqlite3.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, True)
print("ready", flush=True)
while True:
    connection.execute("BEGIN")
    connection.execute("SELECT count(*) FROM tasks").fetchall()
    time.sleep(float(sys.argv[2]))
    connection.execute("COMMIT")
"""


@pytest.fixture
def wrapper() -> DatabaseWrapper:
    """A connection to the test's database, with an empty WAL."""
    found = connections[database()]
    assert isinstance(found, DatabaseWrapper)
    assert found.checkpoint()
    return found


@pytest.fixture
def small(wrapper: DatabaseWrapper, monkeypatch: pytest.MonkeyPatch) -> DatabaseWrapper:
    monkeypatch.setattr(wrapper, "checkpoint_above_bytes", 100_000)
    return wrapper


class Sampler:
    """Looks at the size of the WAL all the time."""

    def __init__(self, path: str) -> None:
        self._path = path + "-wal"
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.largest = 0
        self.written = 0  # by how much it has grown, all in all

    def _look(self) -> None:
        before = 0
        while not self._over.wait(0.002):
            size = os.stat(self._path).st_size
            self.largest = max(self.largest, size)
            self.written += max(size - before, 0)
            before = size

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._thread.join()


Spawn = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def spawn(child_env: dict[str, str]) -> Iterator[Spawn]:
    """Start a script that says when it is ready."""
    children: list[subprocess.Popen[str]] = []

    def start(script: str, *arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", script, *map(str, arguments)]
        child = subprocess.Popen(
            command, env=child_env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        children.append(child)
        return child

    yield start
    for child in children:
        child.kill()
        child.communicate()


def wait_ready(children: Sequence[subprocess.Popen[str]]) -> None:
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"


def write_all(writers: Sequence[subprocess.Popen[str]], *, patience: float = 60) -> None:
    wait_ready(writers)
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for writer in writers:
        assert writer.wait(timeout=patience) == 0


@contextmanager
def snapshot(path: str) -> Iterator[None]:
    """A reader that stays."""
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.setconfig(sqlite3.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, True)
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM tasks").fetchall()
        yield
        reader.execute("COMMIT")


def commit(wrapper: DatabaseWrapper, times: int = 1) -> list[float]:
    """How long each took."""
    took = []
    for _ in range(times):
        began = time.monotonic()
        lifecycle.enqueue([TaskSpec(handler="demo.echo", payload={"text": "x" * 1000})])
        took.append(time.monotonic() - began)
    return took


# --- how large it gets


def test_without_workers_those_who_commit_empty_it(wrapper: DatabaseWrapper, spawn: Spawn) -> None:
    with Sampler(wrapper.path) as wal:
        write_all([spawn(WRITER, 500, SMALL) for _ in range(3)])

    assert Task.objects.count() == 1500
    assert wal.written > 2 * SLACK
    assert wal.largest < SMALL + SLACK


def test_workers_beside_them_change_nothing(
    wrapper: DatabaseWrapper, spawn: Spawn, run_workers: RunWorkers
) -> None:
    worker = run_workers("--n", "2")
    worker.wait_executors(2)

    with Sampler(wrapper.path) as wal:
        write_all([spawn(WRITER, 500, SMALL) for _ in range(3)])
        wait_all_finished()

    assert wal.written > 2 * SLACK
    assert wal.largest < SMALL + SLACK
    assert worker.stop() == 0


def test_readers_that_come_and_go_without_a_gap_do_not_keep_it(
    wrapper: DatabaseWrapper, spawn: Spawn
) -> None:
    wait_ready([spawn(READER, wrapper.path, 0.03 + lane / 200) for lane in range(3)])

    with Sampler(wrapper.path) as wal:
        write_all([spawn(WRITER, 700, SMALL) for _ in range(2)])

    assert wal.written > 2 * SLACK
    assert wal.largest < SMALL + SLACK


def test_readers_that_stay_longer_than_a_checkpoint_waits_are_waited_for_longer(
    small: DatabaseWrapper, spawn: Spawn
) -> None:
    """At no moment there is none."""
    wait_ready([spawn(READER, small.path, 0.13 + lane / 100) for lane in range(3)])

    commit(small, 10)

    wait_until(lambda: commit(small) and small.wal_bytes() < small.checkpoint_above_bytes, "it is emptied")


def test_a_worker_empties_it_when_nobody_else_commits(
    wrapper: DatabaseWrapper, spawn: Spawn, run_workers: RunWorkers
) -> None:
    write_all([spawn(WRITER, 1200, LIMIT)])
    Task.objects.all().delete()
    assert 16 * MB < wrapper.wal_bytes() < LIMIT

    run_workers("--n", "1")

    wait_until(lambda: wrapper.wal_bytes() < MB, "it is emptied")


# --- a reader that stays


def test_a_reader_that_stays_holds_nobody_up_and_afterwards_it_is_emptied_soon(
    small: DatabaseWrapper,
) -> None:
    with snapshot(small.path):
        took = commit(small, 200)
        assert small.wal_bytes() > 1 * MB
    began = time.monotonic()
    wait_until(lambda: commit(small) and small.wal_bytes() < small.checkpoint_above_bytes, "it is emptied")

    waited = [seconds for seconds in took if seconds > 0.9 * module.PATIENCE]
    assert len(waited) < 10  # a few tries, and not each commit
    assert time.monotonic() - began < module.LONGEST_PAUSE + 5


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [record.fields for record in caplog.records if record.getMessage() == "sqlite.wal-pinned"]  # type: ignore[attr-defined]


def test_of_a_reader_that_stays_it_is_said_who_and_what_to_do_and_not_with_each_commit(
    small: DatabaseWrapper, spawn: Spawn, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "LONGEST_PAUSE", 0.01)
    monkeypatch.setattr(module, "WARN_AFTER_TRIES", 4)
    reader = spawn(READER, small.path, 3600)
    wait_ready([reader])

    wait_until(lambda: commit(small) and len(warnings_of(caplog)) == 2, "it was said twice")
    commit(small, 20)

    first, second = warnings_of(caplog)[:2]
    assert first["readers"] == str(reader.pid)
    assert "transaction" in first["hint"]
    assert second["megabytes"] >= first["megabytes"] > 0
    assert len(warnings_of(caplog)) <= 4  # after 4, 8, 16 and 32 tries
    reader.kill()
    reader.wait()
    wait_until(lambda: commit(small) and "sqlite.wal-emptied" in caplog.text, "its end was said")


def test_of_a_small_wal_nothing_is_said(
    wrapper: DatabaseWrapper, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "LONGEST_PAUSE", 0)
    with snapshot(wrapper.path):
        commit(wrapper)
        assert not any(wrapper.checkpoint_if_due() for _ in range(20))

    assert wrapper.checkpoint_if_due()
    assert caplog.records == []


def test_all_processes_keep_the_same_pause(small: DatabaseWrapper, spawn: Spawn) -> None:
    """What one of them found is in the gate: the others do not find out again."""
    with snapshot(small.path):
        commit(small, 20)
        before = refusal(small)
        write_all([spawn(WRITER, 30, small.checkpoint_above_bytes) for _ in range(3)])
        after = refusal(small)

    seconds = after.at - before.since
    assert after.since == before.since
    assert after.tries <= 6 + seconds / module.LONGEST_PAUSE


def refusal(wrapper: DatabaseWrapper) -> Refusal:
    found = Refusal.read(Path(f"{wrapper.path}-gate").read_text())
    assert found is not None
    return found


# --- the pause


def refused(tries: int, *, moved: bool) -> Refusal:
    found = Refusal(since=100, at=100, tries=1, written_back=0)
    for number in range(1, tries):
        found = found.again(100, number if moved else 0)
    return found


def test_the_pause_grows_to_two_seconds() -> None:
    for tries, pause in ((1, 0.1), (2, 0.2), (3, 0.4), (6, 2.0), (100_000, 2.0)):
        found = refused(tries, moved=False) if tries < 1000 else Refusal(100, 100, tries, 0)
        assert not found.is_due(100 + pause - 0.01)
        assert found.is_due(100 + pause + 0.01)


def test_after_the_machine_has_started_anew_nothing_is_put_off() -> None:
    assert refused(10, moved=False).is_due(3)


def test_only_readers_that_move_are_waited_for() -> None:
    assert [refused(tries, moved=True).patience for tries in (1, 2, 9)] == [0.2, 0.4, 0.5]
    assert [refused(tries, moved=False).patience for tries in (2, 9)] == [0, 0]


@pytest.mark.parametrize("note", ["", "?", "[1, 2]", "null", "{}", "[1, 2, 3, 4, 5, 6, 7]"])
def test_a_note_that_says_nothing_puts_nothing_off(note: str) -> None:
    assert Refusal.read(note) is None


# --- a hundred thousand tasks


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("busy", [False, True], ids=["alone", "beside-workers-and-readers"])
def test_with_a_hundred_thousand_tasks_it_stays_within_its_limit(
    wrapper: DatabaseWrapper, spawn: Spawn, run_workers: RunWorkers, busy: bool
) -> None:
    worker = run_workers("--n", "2") if busy else None
    if busy:
        wait_ready([spawn(READER, wrapper.path, 0.03 + lane / 100) for lane in range(3)])

    with Sampler(wrapper.path) as wal:
        write_all([spawn(WRITER, 25_000, LIMIT) for _ in range(4)], patience=500)
        if worker:
            wait_all_finished(patience=300)

    assert Task.objects.count() == 100_000
    assert wal.written > 5 * LIMIT
    assert wal.largest < LIMIT + SLACK
    if worker:
        assert worker.stop() == 0


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_reader_that_stays_for_ten_thousand_tasks_fails_none_and_is_named(
    wrapper: DatabaseWrapper, spawn: Spawn, run_workers: RunWorkers
) -> None:
    reader = spawn(READER, wrapper.path, 3600)
    wait_ready([reader])
    worker = run_workers("--n", "2")

    write_all([spawn(WRITER, 2500, LIMIT) for _ in range(4)], patience=200)
    wait_all_finished(patience=100)
    assert wrapper.wal_bytes() > LIMIT
    worker.wait_event("sqlite.wal-pinned")
    reader.kill()

    wait_until(lambda: wrapper.wal_bytes() == 0, "it is emptied")
    assert len(worker.events("sqlite.wal-pinned")) < 6
    assert not worker.events("database.failed")
    assert worker.stop() == 0
