"""The write gate, on real files: who passes, who waits, and when it opens again."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from django.db import IntegrityError, OperationalError, connections, transaction
from django.utils import timezone
from pytest_django import DjangoDbBlocker

from tasks.models import Task
from tasks.sqlite import gate as gate_module
from tasks.sqlite.base import DatabaseWrapper
from tasks.sqlite.gate import Gate
from tasks.tests.workers import wait_until

SHORT = timedelta(milliseconds=50)
CREATE = "CREATE TABLE notes (id integer PRIMARY KEY, text text NOT NULL)"
INSERT = "INSERT INTO notes (text) VALUES ('x')"

Open = Callable[[], DatabaseWrapper]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "notes.db"


@pytest.fixture
def open_database(path: Path, django_db_blocker: DjangoDbBlocker) -> Iterator[Open]:
    """Connections to one file, each under an alias of its own, so that ``atomic`` and the ORM take them."""
    made: list[str] = []
    engine = {"ENGINE": "tasks.sqlite", "NAME": str(path), "OPTIONS": {"transaction_mode": "IMMEDIATE"}}

    def open_() -> DatabaseWrapper:
        alias = f"gate-{len(made)}"
        connections.settings[alias] = connections.configure_settings({"default": engine})["default"]
        made.append(alias)
        wrapper = connections[alias]
        assert isinstance(wrapper, DatabaseWrapper)
        return wrapper

    with django_db_blocker.unblock():
        yield open_
        for alias in made:
            connections[alias].close()
            del connections[alias]
            del connections.settings[alias]


@pytest.fixture
def notes(open_database: Open) -> DatabaseWrapper:
    """A connection to a file with one table; its patience is short."""
    wrapper = open_database()
    wrapper.patience = SHORT
    run(wrapper, CREATE)
    return wrapper


def run(wrapper: DatabaseWrapper, sql: str, params: Any = None) -> list[Any]:
    with wrapper.cursor() as cursor:
        cursor.execute(sql, params)
        return list(cursor.fetchall())


def count(wrapper: DatabaseWrapper) -> int:
    [[number]] = run(wrapper, "SELECT count(*) FROM notes")
    return int(number)


@contextmanager
def held_by_another(path: Path) -> Iterator[None]:
    """flock belongs to the open file: this one excludes even connections of our own process."""
    file = os.open(f"{path}-gate", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(file)


def is_free(path: Path) -> bool:
    try:
        with held_by_another(path):
            return True
    except BlockingIOError:
        return False


# --- how a connection is set up


def test_a_commit_is_durable_and_nobody_checkpoints_by_accident(notes: DatabaseWrapper) -> None:
    pragmas = ("journal_mode", "synchronous", "wal_autocheckpoint", "journal_size_limit", "foreign_keys")

    assert [run(notes, f"PRAGMA {name}")[0][0] for name in pragmas] == ["wal", 2, 0, 16 * 1024 * 1024, 1]


def test_a_transaction_has_the_write_lock_from_its_start(notes: DatabaseWrapper, path: Path) -> None:
    with (
        closing(sqlite3.connect(path, timeout=0)) as other,
        transaction.atomic(using=notes.alias),
        pytest.raises(sqlite3.OperationalError, match="locked"),
    ):
        other.execute("BEGIN IMMEDIATE")


def test_in_memory_there_is_no_gate(django_db_blocker: DjangoDbBlocker) -> None:
    settings = connections.configure_settings({"default": {"ENGINE": "tasks.sqlite", "NAME": ":memory:"}})
    wrapper = DatabaseWrapper(settings["default"], "memory")

    with django_db_blocker.unblock():
        run(wrapper, CREATE)
        run(wrapper, INSERT)

        assert count(wrapper) == 1
        assert (wrapper.gate, wrapper.path) == (None, "")


# --- who waits


def insert_by_itself(wrapper: DatabaseWrapper) -> None:
    run(wrapper, INSERT)


def insert_many(wrapper: DatabaseWrapper) -> None:
    with wrapper.cursor() as cursor:
        cursor.executemany("INSERT INTO notes (text) VALUES (%s)", [("a",), ("b",)])


def insert_in_a_transaction(wrapper: DatabaseWrapper) -> None:
    with transaction.atomic(using=wrapper.alias):
        run(wrapper, INSERT)


def insert_in_a_transaction_by_hand(wrapper: DatabaseWrapper) -> None:
    run(wrapper, "BEGIN")
    run(wrapper, INSERT)
    run(wrapper, "COMMIT")


def insert_in_a_savepoint_by_hand(wrapper: DatabaseWrapper) -> None:
    run(wrapper, "SAVEPOINT a")
    try:
        run(wrapper, INSERT)
    finally:
        run(wrapper, "RELEASE a")


def insert_without_autocommit(wrapper: DatabaseWrapper) -> None:
    wrapper.set_autocommit(False)
    try:
        run(wrapper, INSERT)
        wrapper.commit()
    finally:
        wrapper.rollback()
        wrapper.set_autocommit(True)


def insert_and_return(wrapper: DatabaseWrapper) -> None:
    run(wrapper, f"{INSERT} RETURNING id")


def insert_with(wrapper: DatabaseWrapper) -> None:
    run(wrapper, "WITH v(t) AS (VALUES ('select')) INSERT INTO notes (text) SELECT t FROM v")


def insert_after_a_comment(wrapper: DatabaseWrapper) -> None:
    run(wrapper, f"-- SELECT\n/* SELECT */ {INSERT}")


def replace(wrapper: DatabaseWrapper) -> None:
    run(wrapper, "REPLACE INTO notes (text) VALUES ('x')")


def run_a_script(wrapper: DatabaseWrapper) -> None:
    with wrapper.cursor() as cursor:
        cursor.executescript(f"{INSERT}; {INSERT};")


WRITES = [
    insert_by_itself,
    insert_many,
    insert_in_a_transaction,
    insert_in_a_transaction_by_hand,
    insert_in_a_savepoint_by_hand,
    insert_without_autocommit,
    insert_and_return,
    insert_with,
    insert_after_a_comment,
    replace,
    run_a_script,
]
every_write = pytest.mark.parametrize("write", WRITES, ids=lambda write: write.__name__)


@every_write
def test_a_write_waits_for_the_gate_and_gives_up_in_the_end(
    notes: DatabaseWrapper, path: Path, write: Callable[[DatabaseWrapper], None]
) -> None:
    with held_by_another(path), pytest.raises(OperationalError, match=r"busy.*within 0.05 s"):
        write(notes)

    assert count(notes) == 0


@every_write
def test_a_write_opens_the_gate_again(
    notes: DatabaseWrapper, path: Path, write: Callable[[DatabaseWrapper], None]
) -> None:
    write(notes)

    assert count(notes) >= 1
    assert is_free(path)


@every_write
def test_a_write_goes_on_after_one_that_found_no_turn(
    notes: DatabaseWrapper, path: Path, write: Callable[[DatabaseWrapper], None]
) -> None:
    with held_by_another(path), pytest.raises(OperationalError):
        write(notes)

    write(notes)

    assert count(notes) >= 1
    assert is_free(path)


@pytest.mark.parametrize(
    "sql",
    ["PRAGMA wal_checkpoint", "VACUUM", "ANALYZE", "PRAGMA optimize", "CREATE TABLE more (id)", "BEGIN"],
)
def test_so_does_whatever_may_write(notes: DatabaseWrapper, path: Path, sql: str) -> None:
    with held_by_another(path), pytest.raises(OperationalError, match="busy"):
        run(notes, sql)


def test_the_orm_passes_it_as_well(open_database: Open, path: Path) -> None:
    wrapper = open_database()
    wrapper.patience = SHORT
    with wrapper.schema_editor() as editor:
        editor.create_model(Task)
    task = Task(handler="a", created_at=timezone.now(), ready_at=timezone.now())
    task.save(using=wrapper.alias)
    rows = Task.objects.using(wrapper.alias)
    writes: list[Callable[[], Any]] = [
        lambda: task.save(using=wrapper.alias),
        lambda: rows.create(handler="a", created_at=timezone.now(), ready_at=timezone.now()),
        lambda: rows.bulk_create([Task(handler="a", created_at=timezone.now(), ready_at=timezone.now())]),
        lambda: rows.update(title="b"),
        lambda: rows.filter(pk=task.pk)._raw_delete(wrapper.alias),
    ]

    with held_by_another(path):
        for write in writes:
            with pytest.raises(OperationalError, match="busy"):
                write()
        assert [row.title for row in rows.all()] == [""]

    for write in writes:
        write()
        assert is_free(path)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM notes",
        "  \n select 1",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION SELECT i + 1 FROM n WHERE i < 3) SELECT i FROM n",
        "VALUES (1)",
        "EXPLAIN QUERY PLAN SELECT 1",
        "PRAGMA table_info(notes)",
        "PRAGMA data_version",
    ],
)
def test_reads_pass_freely(notes: DatabaseWrapper, path: Path, sql: str) -> None:
    with held_by_another(path):
        run(notes, sql)


def test_reads_pass_freely_in_a_new_connection_too(notes: DatabaseWrapper, open_database: Open) -> None:
    other = open_database()
    other.patience = SHORT

    with transaction.atomic(using=notes.alias):
        run(notes, INSERT)
        assert count(other) == 0


def test_what_a_write_returns_is_read_before_the_gate_opens(notes: DatabaseWrapper, path: Path) -> None:
    wanted = [("a",), ("b",), ("c",)]
    with notes.cursor() as cursor:
        for read in (
            cursor.fetchall,
            lambda: list(cursor),
            lambda: [cursor.fetchone() for _ in wanted],
            lambda: cursor.fetchmany(2) + cursor.fetchmany(2),
        ):
            cursor.execute("INSERT INTO notes (text) VALUES ('a'), ('b'), ('c') RETURNING text")

            assert is_free(path)
            with closing(sqlite3.connect(path, timeout=0)) as other:
                other.execute("BEGIN IMMEDIATE")  # it is committed
            assert read() == wanted
            assert (cursor.fetchone(), cursor.fetchall()) == (None, [])
        cursor.execute("SELECT 1")
        assert cursor.fetchall() == [(1,)]


# --- when it opens again


def test_a_transaction_holds_the_gate_to_its_end(notes: DatabaseWrapper, path: Path) -> None:
    with transaction.atomic(using=notes.alias):
        assert not is_free(path)
        with transaction.atomic(using=notes.alias):
            run(notes, INSERT)
        assert not is_free(path)
        with pytest.raises(KeyError), transaction.atomic(using=notes.alias):
            raise KeyError
        assert not is_free(path)

    assert is_free(path)
    assert count(notes) == 1


def test_a_transaction_by_hand_holds_it_too(notes: DatabaseWrapper, path: Path) -> None:
    for end, kept in (("COMMIT", 1), ("ROLLBACK", 1), ("end transaction", 2)):
        run(notes, "begin")
        began = notes.holds_gate
        assert not is_free(path)
        run(notes, INSERT)
        run(notes, "SELECT 1")
        assert not is_free(path)
        run(notes, end)
        assert (began, notes.holds_gate) == (True, False)
        assert is_free(path)
        assert count(notes) == kept


def test_a_rollback_opens_it(notes: DatabaseWrapper, path: Path) -> None:
    with pytest.raises(KeyError), transaction.atomic(using=notes.alias):
        run(notes, INSERT)
        raise KeyError

    assert is_free(path)
    assert count(notes) == 0


def test_a_statement_that_fails_opens_it(notes: DatabaseWrapper, path: Path) -> None:
    with pytest.raises(IntegrityError):
        run(notes, "INSERT INTO notes (text) VALUES (NULL)")
    with pytest.raises(OperationalError):
        run(notes, "INSERT INTO no_such_table VALUES (1)")

    assert is_free(path)


def test_a_transaction_that_cannot_begin_opens_it(notes: DatabaseWrapper, path: Path) -> None:
    run(notes, "PRAGMA busy_timeout=10")
    with closing(sqlite3.connect(path, isolation_level=None)) as stranger:
        stranger.execute("BEGIN IMMEDIATE")  # a program that knows no gate
        with pytest.raises(OperationalError, match="locked"), transaction.atomic(using=notes.alias):
            pytest.fail("it began")
        assert is_free(path)

    insert_in_a_transaction(notes)
    assert count(notes) == 1


def test_closing_in_the_midst_opens_it(notes: DatabaseWrapper, path: Path) -> None:
    notes.set_autocommit(False, force_begin_transaction_with_broken_autocommit=True)
    run(notes, INSERT)
    assert not is_free(path)

    notes.close()

    assert is_free(path)
    assert count(notes) == 0
    insert_in_a_transaction(notes)
    assert is_free(path)


def test_a_gate_that_cannot_be_made_is_a_database_error(open_database: Open, path: Path) -> None:
    Path(f"{path}-gate").mkdir()

    with pytest.raises(OperationalError, match="cannot open"):
        run(open_database(), CREATE)


class Interrupted(BaseException):
    pass


@contextmanager
def interrupted_after(seconds: float) -> Iterator[None]:
    def interrupt(number: int, frame: FrameType | None) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_where_one_has_waited_in_vain_the_others_wait_shortly_until_one_gets_through(path: Path) -> None:
    """Behind a writer that stays requests would queue up, each to wait as long again."""

    def waited(gate: Gate) -> float:
        began = time.monotonic()
        with pytest.raises(OperationalError, match="no turn to write"):
            gate.acquire()
        return time.monotonic() - began

    name = f"{path}-gate"
    holder = Gate(name)
    holder.acquire()
    assert waited(Gate(name, patience=timedelta(seconds=0.5))) >= 0.5

    assert waited(Gate(name, patience=timedelta(minutes=5))) < 60
    holder.release()

    holder.acquire()
    assert waited(Gate(name, patience=timedelta(seconds=0.5))) >= 0.5, "it waits as long as ever again"


@contextmanager
def another_who_waits_first(path: Path) -> Iterator[None]:
    """And does nothing else, as a process that was frozen there."""
    file = os.open(f"{path}-gate", os.O_RDWR | os.O_CREAT)
    try:
        assert gate_module._take_place(file)
        yield
    finally:
        os.close(file)


def somebody_waits_first(path: Path) -> bool:
    try:
        with another_who_waits_first(path):
            return False
    except AssertionError:
        return True


def test_who_goes_from_one_transaction_into_the_next_comes_after_who_waits(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long the other takes between two looks at the gate."""
    monkeypatch.setattr(gate_module, "COURTESY", timedelta(minutes=1))
    monkeypatch.setattr(gate_module, "STEP", timedelta(seconds=0.2))
    name, passed = f"{path}-gate", []

    def pass_once() -> None:
        gate = Gate(name)
        gate.acquire()
        passed.append("who waits")
        gate.release()

    busy = Gate(name, patience=timedelta(minutes=1))
    busy.acquire()
    other = threading.Thread(target=pass_once)
    other.start()
    wait_until(lambda: somebody_waits_first(path), "the other waits")
    busy.release()
    busy.acquire()
    passed.append("who is busy")
    busy.release()
    other.join()

    assert passed == ["who waits", "who is busy"]


def test_one_who_is_frozen_while_it_waits_holds_up_the_others_for_a_moment_only(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not each of them anew."""
    monkeypatch.setattr(gate_module, "DISCOURTESY", timedelta(minutes=1))
    gate = Gate(f"{path}-gate", patience=timedelta(seconds=30))

    with another_who_waits_first(path):
        began = time.monotonic()
        for _ in range(600):
            gate.acquire()
            gate.release()
        took = time.monotonic() - began

    assert took < 600 * gate_module.COURTESY.total_seconds() / 2
    assert not somebody_waits_first(path)


def test_without_locks_of_bytes_it_is_a_gate_still(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on some file systems of containers: only who comes first is left to chance then."""

    def refused(*_: Any) -> None:
        raise OSError(errno.EINVAL, "no such lock here")

    monkeypatch.setattr(fcntl, "fcntl", refused)
    gate, other = Gate(f"{path}-gate"), Gate(f"{path}-gate", patience=SHORT)
    gate.acquire()

    with pytest.raises(OperationalError, match="no turn to write"):
        other.acquire()
    gate.release()
    other.acquire()

    assert other.held


def test_an_interrupt_just_when_the_gate_is_passed_leaves_it_open(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(file: int) -> None:
        monkeypatch.undo()
        raise Interrupted

    gate = Gate(f"{path}-gate")
    monkeypatch.setattr(gate_module, "_leave_place", interrupted)

    with pytest.raises(Interrupted):
        gate.acquire()

    assert not gate.held
    assert is_free(path)
    assert not somebody_waits_first(path)


def test_an_interrupt_while_waiting_leaves_nothing_behind(path: Path) -> None:
    gate = Gate(f"{path}-gate", patience=timedelta(minutes=1))

    with held_by_another(path), pytest.raises(Interrupted), interrupted_after(0.05):
        gate.acquire()

    assert not gate.held
    assert is_free(path)
    assert not somebody_waits_first(path)
    gate.acquire()
    assert not is_free(path)
    gate.close()


# --- processes and threads

CHILD = """
import os, sys, time
import django
django.setup()
from django.db import connection, transaction
from tasks.models import Task

def probe():
    "Fails when another writer is inside."
    os.close(os.open(sys.argv[2], os.O_CREAT | os.O_EXCL))
    time.sleep(0.0005)
    os.unlink(sys.argv[2])
    return "x"

SQL = "INSERT INTO notes (text) VALUES (probe())"

def alone(cursor):
    cursor.execute(SQL)

def many(cursor):
    cursor.executemany("INSERT INTO notes (text) SELECT probe() WHERE %s", [(1,)])

def atomic(cursor):
    with transaction.atomic():
        cursor.execute(SQL)

def by_hand(cursor):
    cursor.execute("BEGIN")
    cursor.execute(SQL)
    cursor.execute("COMMIT")

with connection.cursor() as cursor:
    connection.connection.create_function("probe", 0, probe)
    write = globals()[sys.argv[1]]
    for _ in range(int(sys.argv[3])):
        write(cursor)
"""

HOLDER = """
import sys, time
import django
django.setup()
from django.db import connection, transaction
with transaction.atomic(), connection.cursor() as cursor:
    cursor.execute("INSERT INTO notes (text) VALUES ('never')")
    print("inside", flush=True)
    time.sleep(60)
"""


def child_of(path: Path, script: str, *args: object) -> subprocess.Popen[str]:
    env = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    env |= {"DB_PATH": str(path), "DJANGO_SETTINGS_MODULE": "tasks.tests.settings"}
    env["PYTHONPATH"] = str(Path(__file__).parents[2])
    command = [sys.executable, "-c", script, *map(str, args)]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_processes_write_one_at_a_time_whatever_way_they_write(
    notes: DatabaseWrapper, path: Path, tmp_path: Path
) -> None:
    times = 40
    kinds = ("alone", "many", "atomic", "by_hand")

    children = [child_of(path, CHILD, kind, tmp_path / "inside", times) for kind in kinds]
    for child in children:
        _, errors = child.communicate(timeout=60)
        assert child.returncode == 0, errors

    assert count(notes) == len(kinds) * times
    assert is_free(path)


def test_threads_of_one_process_exclude_each_other(
    notes: DatabaseWrapper, open_database: Open, path: Path
) -> None:
    alias = open_database().alias
    began: list[float] = []

    def write() -> None:
        with transaction.atomic(using=alias):
            began.append(time.monotonic())
        connections[alias].close()

    thread = threading.Thread(target=write)
    with transaction.atomic(using=notes.alias):
        thread.start()
        time.sleep(0.1)  # long enough to enter, if it could
        assert began == []
        left = time.monotonic()
    thread.join(10)

    assert began[0] >= left


def test_a_killed_process_holds_nothing(notes: DatabaseWrapper, path: Path) -> None:
    holder = child_of(path, HOLDER)
    assert holder.stdout is not None and holder.stdout.readline() == "inside\n"
    assert not is_free(path)

    holder.kill()
    holder.communicate(timeout=10)

    assert is_free(path)
    assert count(notes) == 0
    insert_in_a_transaction(notes)


# --- the one checkpointer


def wal_bytes(path: Path) -> int:
    return os.stat(f"{path}-wal").st_size


def write_bytes(wrapper: DatabaseWrapper, size: int) -> None:
    run(wrapper, "INSERT INTO notes (text) VALUES (zeroblob(%s))", [size])


def test_closing_does_not_checkpoint(notes: DatabaseWrapper, path: Path) -> None:
    write_bytes(notes, 1_000_000)

    notes.close()

    assert wal_bytes(path) > 1_000_000
    assert path.stat().st_size < 1_000_000


def test_a_checkpoint_empties_the_wal(notes: DatabaseWrapper, path: Path) -> None:
    write_bytes(notes, 1_000_000)

    assert notes.checkpoint()

    assert wal_bytes(path) == 0
    assert path.stat().st_size > 1_000_000
    assert is_free(path)
    assert count(notes) == 1


def test_a_checkpoint_waits_for_the_gate(notes: DatabaseWrapper, path: Path) -> None:
    with held_by_another(path), pytest.raises(OperationalError, match="busy"):
        notes.checkpoint()


def test_a_reader_is_not_waited_for_long(notes: DatabaseWrapper, path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM notes").fetchall()
        write_bytes(notes, 1_000_000)
        [patience] = run(notes, "PRAGMA busy_timeout")

        assert not notes.checkpoint()

        assert run(notes, "PRAGMA busy_timeout") == [patience]
        assert is_free(path)
        insert_by_itself(notes)
        assert wal_bytes(path) > 1_000_000

    assert notes.checkpoint()


@every_write
def test_whoever_commits_and_sees_too_large_a_wal_empties_it(
    notes: DatabaseWrapper, path: Path, write: Callable[[DatabaseWrapper], None]
) -> None:
    write_bytes(notes, 1_000_000)
    notes.checkpoint_above_bytes = 900_000

    write(notes)

    assert wal_bytes(path) == 0
    assert count(notes) > 1


def test_that_is_above_64_mebibytes(notes: DatabaseWrapper) -> None:
    assert notes.checkpoint_above_bytes == 64 * 1024 * 1024
