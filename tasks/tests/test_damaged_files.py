"""Bits that flip and bytes that vanish in SQLite's files: an earlier state and a word of it, or a refusal."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from django.db import OperationalError, connections
from pytest_django import DjangoDbBlocker

from tasks.sqlite import damage
from tasks.sqlite.base import DatabaseWrapper

pytestmark = pytest.mark.sqlite

COMMITS = 40
FRAME = 24 + 4096  # bytes
HEADER = 32

# It ends as by kill -9: nobody writes the WAL back.
WRITER = """
import os, sys
import django
django.setup()
from django.core.management import call_command
from django.db import connection
call_command("migrate", verbosity=0)
connection.checkpoint()
from tasks import lifecycle
from tasks.contract import TaskSpec
for number in range(int(sys.argv[1])):
    [made] = lifecycle.enqueue([TaskSpec(handler="demo.echo", title=str(number))])
    if number == int(sys.argv[2]):
        import sqlite3
        reader = sqlite3.connect(os.environ["DB_PATH"], isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM tasks").fetchall()
if int(sys.argv[2]) >= 0:
    connection.checkpoint()
os._exit(0)
"""
NO_READER = -1


def write(folder: Path, *, reader_after: int = NO_READER) -> Path:
    """A database whose tasks are in its WAL; with a reader some of them are written back as well."""
    path = folder / "tasks.db"
    env = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    env |= {"DB_PATH": str(path), "DJANGO_SETTINGS_MODULE": "tasks.tests.settings"}
    command = [sys.executable, "-c", WRITER, str(COMMITS), str(reader_after)]
    subprocess.run(command, env=env, cwd=Path(__file__).parents[2], check=True)
    assert (folder / "tasks.db-wal").stat().st_size > COMMITS * FRAME
    return folder


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("written"))


@pytest.fixture(scope="module")
def half_written_back(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("half"), reader_after=COMMITS // 2)


Open = Callable[[Path], DatabaseWrapper]


@pytest.fixture
def open_database(django_db_blocker: DjangoDbBlocker, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """As the first connection of a process does."""
    opened: list[DatabaseWrapper] = []

    def open_(path: Path) -> DatabaseWrapper:
        monkeypatch.setattr(damage, "_looked_at", set())
        given = {**connections["default"].settings_dict, "NAME": str(path), "TEST": {}}
        opened.append(DatabaseWrapper(given, "damaged"))
        opened[-1].ensure_connection()
        return opened[-1]

    with django_db_blocker.unblock():
        yield open_
        for wrapper in opened:
            wrapper.close()


def titles(wrapper: DatabaseWrapper) -> list[int]:
    with wrapper.cursor() as cursor:
        cursor.execute("SELECT title FROM tasks ORDER BY created_at, id")
        return [int(title) for [title] in cursor.fetchall()]


def check(wrapper: DatabaseWrapper) -> list[Any]:
    with wrapper.cursor() as cursor:
        cursor.execute("PRAGMA integrity_check")
        return list(cursor.fetchall())


def warnings(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    said = [record for record in caplog.records if record.getMessage() == "sqlite.wal-damaged"]
    assert all(record.levelno == logging.ERROR for record in said)
    return [vars(record)["fields"] for record in said]


# --- the WAL


def frames(wal: Path) -> int:
    return (wal.stat().st_size - HEADER) // FRAME


def truncate(wal: Path, size: int) -> None:
    os.truncate(wal, size)


def flip(file: Path, at: int) -> None:
    with file.open("r+b") as opened:
        opened.seek(at)
        [byte] = opened.read(1)
        opened.seek(at)
        opened.write(bytes([byte ^ 0x10]))


def in_frame(wal: Path, part: float, offset: int) -> int:
    """A place in the file, in the frame that is so far into it."""
    return HEADER + int((frames(wal) - 1) * part) * FRAME + offset


class Damage(NamedTuple):
    do: Callable[[Path], None]
    seen_without_shm: bool = True  # from the WAL alone


DAMAGES = {
    "truncated in a frame": Damage(lambda wal: truncate(wal, in_frame(wal, 0.5, 2000)), False),
    "truncated between two": Damage(lambda wal: truncate(wal, in_frame(wal, 0.5, 0)), False),
    "last byte gone": Damage(lambda wal: truncate(wal, wal.stat().st_size - 1), False),
    "bit of a page": Damage(lambda wal: flip(wal, in_frame(wal, 0.5, 24 + 1234))),
    "bit of a frame's salt": Damage(lambda wal: flip(wal, in_frame(wal, 0.5, 9))),
    "bit of a frame's checksum": Damage(lambda wal: flip(wal, in_frame(wal, 0.5, 17))),
    "bit of the first frame": Damage(lambda wal: flip(wal, in_frame(wal, 0, 24 + 100))),
    "bit of the first salt": Damage(lambda wal: flip(wal, in_frame(wal, 0, 9)), False),
    "bit of the last page": Damage(lambda wal: flip(wal, in_frame(wal, 1, 24 + 100)), False),
    "bit of the header's salt": Damage(lambda wal: flip(wal, 17)),
    "bit of the header's page size": Damage(lambda wal: flip(wal, 10)),
    "bit of the header's magic": Damage(lambda wal: flip(wal, 1)),
}


@pytest.mark.parametrize("shm", ["kept", "lost"])
@pytest.mark.parametrize("damage_", DAMAGES.values(), ids=DAMAGES)
def test_of_a_damaged_wal_an_earlier_state_is_left_and_that_is_said(
    open_database: Open,
    written: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    damage_: Damage,
    shm: str,
) -> None:
    folder = shutil.copytree(written, tmp_path / "copy")
    damage_.do(folder / "tasks.db-wal")
    if shm == "lost":
        (folder / "tasks.db-shm").unlink()

    wrapper = open_database(folder / "tasks.db")

    kept = titles(wrapper)
    assert kept == list(range(len(kept)))
    assert len(kept) < COMMITS
    assert check(wrapper) == [("ok",)]
    if shm == "kept" or damage_.seen_without_shm:
        [said] = warnings(caplog)
        assert (said["check"], said["lost_pages"] > 0) == ("ok", True)
        assert "restore a backup" in said["hint"]
    else:  # there is nothing that would tell it from a WAL that ended there
        assert not warnings(caplog)


@pytest.mark.parametrize("shm", ["kept", "lost"])
def test_of_a_whole_wal_nothing_is_said(
    open_database: Open, written: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, shm: str
) -> None:
    folder = shutil.copytree(written, tmp_path / "copy")
    if shm == "lost":
        (folder / "tasks.db-shm").unlink()

    assert titles(open_database(folder / "tasks.db")) == list(range(COMMITS))
    assert not warnings(caplog)


def test_what_was_cut_off_in_the_midst_of_a_commit_is_no_damage(
    open_database: Open, written: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody was told that it is committed: by a power cut it is there in part, and its index is older."""
    folder = shutil.copytree(written, tmp_path / "copy")
    (folder / "tasks.db-shm").unlink()
    wal = folder / "tasks.db-wal"
    with wal.open("ab") as file:
        file.write(wal.read_bytes()[-FRAME:])

    assert titles(open_database(folder / "tasks.db")) == list(range(COMMITS))
    assert not warnings(caplog)


def test_a_wal_that_others_empty_and_fill_meanwhile_is_no_damage(
    open_database: Open, written: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = shutil.copytree(written, tmp_path / "copy")
    first = open_database(folder / "tasks.db")
    before = damage._index_of_the_last(str(folder / "tasks.db"))

    assert first.checkpoint()
    assert damage._lost(first.path, before) is None
    with first.cursor() as cursor:
        cursor.execute("UPDATE tasks SET title = '1'")

    assert damage._lost(first.path, before) is None


def test_a_mixture_of_two_states_is_refused_until_it_was_replaced(
    open_database: Open, half_written_back: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Later pages were written back already when earlier ones were lost from the WAL."""
    folder = shutil.copytree(half_written_back, tmp_path / "copy")
    path = folder / "tasks.db"
    flip(folder / "tasks.db-wal", in_frame(folder / "tasks.db-wal", 0.02, 24 + 100))

    for _ in range(2):  # also when SQLite has forgotten
        with pytest.raises(OperationalError, match=r"is damaged, .*: restore a backup"):
            open_database(path)

    assert len(warnings(caplog)) == 1
    for name in folder.glob("tasks.db*"):
        name.unlink()
    shutil.copytree(half_written_back, folder, dirs_exist_ok=True)
    assert titles(open_database(path)) == list(range(COMMITS))
