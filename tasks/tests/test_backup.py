"""``manage.py backup``: one instant, whole or not there, under load; and what a restore brings back."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from django.db import connections

from tasks import lifecycle
from tasks.contract import TaskSpec
from tasks.models.task import database
from tasks.sqlite.base import DatabaseWrapper
from tasks.tests.disks import small_disk_at
from tasks.tests.workers import RunWorkers, enqueue, lines, run_workers, runner_of, wait_until

__all__ = ["run_workers"]

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db(transaction=True)]

MANAGE = Path(__file__).parents[2] / "manage.py"

Manage = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def source(child_env: dict[str, str]) -> Path:
    """The test's database."""
    wrapper = connections[database()]
    assert isinstance(wrapper, DatabaseWrapper)
    wrapper.ensure_connection()
    return Path(wrapper.path)


@pytest.fixture
def backup(child_env: dict[str, str]) -> Manage:
    def run(*arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(MANAGE), "backup", *map(str, arguments)]
        return subprocess.run(
            command, env=child_env | variables, capture_output=True, text=True, timeout=60, check=False
        )

    return run


def ids_in(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as connection:
        return {id_ for [id_] in connection.execute("SELECT id FROM tasks")}


def statuses(path: Path) -> set[tuple[str, int]]:
    with closing(sqlite3.connect(path)) as connection:
        return set(connection.execute("SELECT status, attempt FROM tasks"))


def refused(done: subprocess.CompletedProcess[str], sentence: str) -> None:
    assert done.returncode == 1
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1


# --- what it makes


def test_a_copy_is_one_file_for_its_owner_that_any_sqlite_opens(
    backup: Manage, source: Path, tmp_path: Path
) -> None:
    task_id = enqueue("demo.echo", title="a")
    copy = tmp_path / "copy.db"

    done = backup(copy)

    assert done.returncode == 0, done.stderr
    told = rf"Wrote {re.escape(str(copy))}: \d+\.\d MB, 1 tasks, in \d+\.\d s\.\n"
    assert re.fullmatch(told, done.stdout)
    assert os.listdir(tmp_path) == ["copy.db"]
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    copy.chmod(0o400)
    assert copy.read_bytes()[18:20] == b"\1\1"  # needs no WAL
    with closing(sqlite3.connect(f"file:{copy}?mode=ro", uri=True)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("SELECT id, title FROM tasks").fetchall() == [(task_id.hex, "a")]


def test_the_gate_is_not_held_meanwhile(backup: Manage, source: Path, tmp_path: Path) -> None:
    wrapper = connections[database()]
    assert isinstance(wrapper, DatabaseWrapper)
    assert wrapper.gate is not None
    wrapper.gate.acquire()
    try:
        assert backup(tmp_path / "copy.db").returncode == 0
    finally:
        wrapper.gate.release()


# --- what it refuses


def test_a_file_that_exists_is_kept_unless_forced(backup: Manage, source: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    copy.write_text("precious")

    refused(backup(copy), f"{copy} exists: add --force to replace it.")
    assert copy.read_text() == "precious"

    assert backup(copy, "--force").returncode == 0
    assert ids_in(copy) == set()


@pytest.mark.parametrize(
    "end", ["", "-wal", "-shm", "-gate", "-bell", "-migrate", "-secret-key", "-worker-a:1:b"]
)
def test_the_database_and_its_companions_are_never_written_to(
    backup: Manage, source: Path, tmp_path: Path, end: str
) -> None:
    (tmp_path / "folder").symlink_to(source.parent)

    for path in (Path(f"{source}{end}"), tmp_path / "folder" / f"{source.name}{end}"):
        refused(backup(path, "--force"), "belongs to the database itself")


def test_a_hard_link_to_the_database_is_the_database(backup: Manage, source: Path) -> None:
    link = source.with_name("hard-link.db")
    os.link(source, link)
    try:
        refused(backup(link, "--force"), "belongs to the database itself")
    finally:
        link.unlink()


def test_places_where_nothing_can_be_written_are_named(
    backup: Manage, source: Path, tmp_path: Path, small_disk: Path
) -> None:
    refused(backup(tmp_path / "none" / "copy.db"), f"There is no folder {tmp_path / 'none'}.")
    refused(backup(tmp_path, "--force"), f"{tmp_path} exists: choose another name.")
    refused(backup("/dev/null", "--force"), "/dev/null exists: choose another name.")
    (small_disk / "filler").write_bytes(b"x" * (64 * 1024 * 1024 - 50_000))
    refused(backup(small_disk / "copy.db"), f"{small_disk} has only ")
    assert os.listdir(small_disk) == ["filler"]
    (small_disk / "filler").unlink()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    (tmp_path / "link").symlink_to(small_disk / "copy.db")
    refused(backup(tmp_path / "link"), f"Cannot write {small_disk / 'copy.db'}: Read-only file system.")


@pytest.fixture
def small_disk(tmp_path: Path, transactional_db: None) -> Iterator[Path]:
    with small_disk_at(tmp_path / "disk", size="64m") as disk:
        yield disk


FULL = """
import shutil, sys
import django
django.setup()
from django.core.management import CommandError, call_command
shutil.disk_usage = lambda path: shutil._ntuple_diskusage(0, 0, 10**12)
try:
    call_command("backup", sys.argv[1])
except CommandError as error:
    sys.exit(str(error))
"""


def test_a_disk_that_fills_up_leaves_no_half_file(
    child_env: dict[str, str], source: Path, small_disk: Path
) -> None:
    """Although there seemed to be room."""
    (small_disk / "filler").write_bytes(b"x" * (64 * 1024 * 1024 - 50_000))
    command = [sys.executable, "-c", FULL, str(small_disk / "copy.db")]

    done = subprocess.run(command, env=child_env, capture_output=True, text=True, timeout=60, check=False)

    refused(done, "full")
    assert os.listdir(small_disk) == ["filler"]


def test_where_there_is_no_database_none_is_made(backup: Manage, tmp_path: Path) -> None:
    none = tmp_path / "none.db"

    refused(backup(tmp_path / "copy.db", DB_PATH=str(none)), f"There is no database {none}")

    assert not none.exists()


def test_a_damaged_database_is_no_backup(backup: Manage, source: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.db"
    assert backup(damaged).returncode == 0
    with closing(sqlite3.connect(damaged)) as connection:
        [root] = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'tasks'").fetchone()
    with damaged.open("r+b") as file:
        file.seek((root - 1) * 4096)
        file.write(b"\xff" * 4096)

    refused(
        backup(tmp_path / "copy.db", DB_PATH=str(damaged)), "the copy is damaged, and so may be the database"
    )

    assert not (tmp_path / "copy.db").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_leaves_nothing_behind(
    child_env: dict[str, str], source: Path, tmp_path: Path, number: signal.Signals
) -> None:
    script = SLOW + "call_command('backup', sys.argv[1])"
    command = [sys.executable, "-c", script, str(tmp_path / "copy.db")]
    child = subprocess.Popen(command, env=child_env, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: any(name.endswith(".part") for name in os.listdir(tmp_path)), "it copies")

    child.send_signal(number)

    assert child.wait(timeout=20) != 0
    child.communicate()
    assert os.listdir(tmp_path) == []


SLOW = """
import sys, time
import django
django.setup()
from django.core.management import call_command
from tasks.management.commands import backup
fast = backup.copy
def slow(source, path):
    time.sleep(60)
    fast(source, path)
backup.copy = slow
"""


def test_with_postgresql_it_names_the_tool(backup: Manage, tmp_path: Path) -> None:
    """It needs no server for that."""
    refused(backup(tmp_path / "copy.dump", DATABASE_URL="postgres://localhost/tasks"), "pg_dump")


# --- under load

CLIENT = """
import itertools
import django
django.setup()
from tasks import lifecycle
from tasks.contract import TaskSpec
for number in itertools.count():
    handler = "fault.once" if number % 3 else "demo.echo"
    [made] = lifecycle.enqueue([TaskSpec(handler=handler)])
    print(made.id.hex, flush=True)
"""


class Client:
    """A process that makes tasks, and writes down what was acknowledged."""

    def __init__(self, env: dict[str, str], acknowledged: Path) -> None:
        self._acknowledged = acknowledged
        with acknowledged.open("w") as output:
            self.process = subprocess.Popen([sys.executable, "-c", CLIENT], env=env, stdout=output)

    def acknowledged(self) -> set[str]:
        lines = self._acknowledged.read_text().split("\n")
        return set(lines[:-1])  # what follows the last end of a line is not written yet

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def clients(child_env: dict[str, str], tmp_path: Path) -> Iterator[list[Client]]:
    running = [Client(child_env, tmp_path / f"client-{lane}") for lane in range(2)]
    yield running
    for client in running:
        client.kill()


TORN = """
    SELECT status, attempt, (SELECT count(*) FROM attempts WHERE task_id = tasks.id) AS failed FROM tasks
    WHERE failed != attempt - (status IN ('completed', 'processing'))
"""
LOST = "SELECT count(*) FROM attempts WHERE task_id NOT IN (SELECT id FROM tasks)"


def assert_one_instant(copy: Path, acknowledged: set[str]) -> None:
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        assert connection.execute(TORN).fetchall() == []
        assert connection.execute(LOST).fetchone() == (0,)
    assert acknowledged <= ids_in(copy)


def wait_finished_in(path: Path) -> None:
    wait_until(
        lambda: {status for status, _ in statuses(path)} == {"completed"}, "all completed", patience=60
    )


def back_up_under_load(
    run_workers: RunWorkers, backup: Manage, clients: list[Client], tmp_path: Path, *, times: int, least: int
) -> Path:
    """Each copy is one instant; returns the last one, in which a task was running."""
    enqueue("fault.until", priority=5, payload={"path": str(tmp_path / "ran"), "file": str(tmp_path / "go")})
    worker = run_workers("--n", "3")
    runner_of(tmp_path / "ran")
    for number in range(times):
        wait_until(
            lambda number=number: all(  # type: ignore[misc]
                len(client.acknowledged()) > (number + 1) * least for client in clients
            ),
            "they go on",
            patience=120,
        )
        before = set().union(*(client.acknowledged() for client in clients))
        copy = tmp_path / f"copy-{number}.db"
        done = backup(copy)
        assert done.returncode == 0, done.stderr
        assert_one_instant(copy, before)
    for client in clients:
        assert client.process.poll() is None
        client.kill()
    assert ("processing", 1) in statuses(copy)
    worker.kill_everything()
    return copy


def test_backups_under_load_are_instants_and_what_ran_in_one_runs_again_after_a_restore(
    run_workers: RunWorkers, backup: Manage, clients: list[Client], tmp_path: Path
) -> None:
    copy = back_up_under_load(run_workers, backup, clients, tmp_path, times=3, least=100)
    restored = tmp_path / "restored.db"
    shutil.copy(copy, restored)
    before = ids_in(copy)
    (tmp_path / "go").touch()

    worker = run_workers("--n", "3", DB_PATH=str(restored))

    wait_finished_in(restored)
    assert [line[0] for line in lines(tmp_path / "ran")].count("start") == 2
    assert ids_in(restored) == before
    assert worker.stop() == 0


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_backups_of_a_large_database_under_load(
    run_workers: RunWorkers, backup: Manage, clients: list[Client], tmp_path: Path
) -> None:
    for _ in range(100):
        lifecycle.enqueue([TaskSpec(handler="demo.echo", title="x" * 200, priority=-9) for _ in range(1000)])

    copy = back_up_under_load(run_workers, backup, clients, tmp_path, times=6, least=500)

    assert copy.stat().st_size > 30_000_000


# --- restoring


def test_a_copy_beside_the_wal_of_another_is_refused_and_left_as_it_is(
    backup: Manage, run_workers: RunWorkers, source: Path, tmp_path: Path
) -> None:
    enqueue("demo.echo")
    restored = tmp_path / "restored.db"
    assert backup(restored).returncode == 0
    before = restored.read_bytes()
    wrapper = connections[database()]
    assert isinstance(wrapper, DatabaseWrapper)
    assert wrapper.wal_bytes() > 0
    wal = Path(f"{restored}-wal")
    shutil.copy(f"{source}-wal", wal)

    worker = run_workers("--n", "1", DB_PATH=str(restored))

    assert worker.wait() == 1
    assert f"{wal} belongs to another database" in worker.output()
    assert "Traceback" not in worker.output()
    assert restored.read_bytes() == before
    wal.unlink()
    again = run_workers("--n", "1", DB_PATH=str(restored))
    wait_finished_in(restored)
    assert again.stop() == 0
