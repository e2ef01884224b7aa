"""Where the tasks are kept, and what may happen there: an outage begins when called, and returns its end."""

from __future__ import annotations

import fcntl
import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

import psycopg

from bench.chaos import witness
from bench.databases import Database, PostgresDatabase, SqliteFile
from tasks.tests.postgres import Postgres, postgres
from tasks.tests.proxy import Proxy, proxy

DISK_SIZE = "48m"
BLOCK = bytes(64 * 1024)
NAME = "chaos"
FREE_SECONDS = 0.3

End = Callable[[], None]
Outage = Callable[[], End]


class Impossible(Exception):
    """This machine cannot do what the profile asks for."""


class Place(Protocol):
    kind: str

    @property
    def database(self) -> Database:
        """Past everything that may be in the way."""

    @property
    def variables(self) -> Mapping[str, str]:
        """What leads the service to it."""

    @property
    def outages(self) -> Mapping[str, Outage]: ...

    @property
    def pids(self) -> set[int]:
        """Processes of its own, which are nobody's orphans."""

    def watch(self) -> None:
        """Write down each change of a row, from now on."""

    def integrity(self) -> str:
        """ok, or what is wrong."""

    def is_free(self) -> bool:
        """Whether others can write, while somebody is stopped."""


class SqlitePlace:
    kind = "sqlite"

    def __init__(self, path: Path) -> None:
        self._path = path
        self.database = SqliteFile(path)
        self.pids: set[int] = set()

    @property
    def variables(self) -> Mapping[str, str]:
        return self.database.variables

    @property
    def outages(self) -> Mapping[str, Outage]:
        return {"hold-write-lock": self._hold_write_lock, "fill-disk": self._fill_disk}

    def watch(self) -> None:
        witness.watch_sqlite(self._path)

    def integrity(self) -> str:
        [[found]] = self.database.rows("PRAGMA integrity_check(1)")
        return str(found)

    def is_free(self) -> bool:
        """The gate is not in the hand of who was stopped: it can be had within a moment."""
        deadline = time.monotonic() + FREE_SECONDS
        with self._path.with_name(f"{self._path.name}-gate").open("ab") as gate:
            while time.monotonic() < deadline:
                with suppress(BlockingIOError):
                    fcntl.flock(gate, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return True
                time.sleep(0.0005)
        return False

    def _hold_write_lock(self) -> End:
        """As a program would that knows nothing of the gate."""
        connection = sqlite3.connect(self._path, timeout=5, isolation_level=None)
        with suppress(sqlite3.OperationalError):  # others were faster, all of the time: an outage of its own
            connection.execute("BEGIN IMMEDIATE")
        return connection.close

    def _fill_disk(self) -> End:
        ballast = self._path.with_name("ballast")
        with ballast.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(BLOCK)
        with ballast.open("ab", buffering=0) as file, suppress(OSError):
            while True:
                file.write(b"\0")
        return ballast.unlink


class PostgresPlace:
    """The service comes to it by a proxy, which may fail."""

    kind = "postgres"

    def __init__(self, server: Postgres, way: Proxy) -> None:
        self._server = server
        self._way = way
        self._up = True
        self.database = PostgresDatabase(server, NAME)

    @property
    def variables(self) -> Mapping[str, str]:
        return {"DATABASE_URL": self._way.url(NAME)}

    @property
    def outages(self) -> Mapping[str, Outage]:
        return {
            "restart-database": self._restart,
            "cut-connections": self._cut,
            "swallow-packets": self._swallow,
            "end-sessions": self._end_sessions,
        }

    @property
    def pids(self) -> set[int]:
        return {self._server.pid} if self._up else set()

    def watch(self) -> None:
        witness.watch_postgres(self.database.url)

    def integrity(self) -> str:
        return "ok"

    def is_free(self) -> bool:
        return True

    def _restart(self) -> End:
        """Immediate, as after a crash."""
        self._up = False
        self._server.stop(signal.SIGQUIT)
        return self._start

    def _start(self) -> None:
        self._server.start()
        self._up = True

    def _cut(self) -> End:
        self._way.cut()
        return _nothing

    def _swallow(self) -> End:
        self._way.fall_silent()
        return self._way.speak

    def _end_sessions(self) -> End:
        with psycopg.connect(self._server.url(), autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [NAME]
            )
        return _nothing


def _nothing() -> None:
    pass


@contextmanager
def place_named(kind: str, folder: Path, *, small: bool) -> Iterator[Place]:
    """``small``: on a disk that can be filled. Raises Impossible."""
    if kind == "postgres":
        with postgres() as server:
            with psycopg.connect(server.url(), autocommit=True) as connection:
                connection.execute(f"CREATE DATABASE {NAME}")
            with proxy(server.socket) as way:
                yield PostgresPlace(server, way)
    elif small:
        with _small_disk(folder / "disk") as disk:
            yield SqlitePlace(disk / "tasks.db")
    else:
        yield SqlitePlace(folder / "tasks.db")


@contextmanager
def _small_disk(disk: Path) -> Iterator[Path]:
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_SIZE}", "tmpfs", str(disk)]
    if os.geteuid() != 0:
        raise Impossible("only root can mount a small disk")
    if (done := subprocess.run(mount, capture_output=True, text=True, check=False)).returncode:
        raise Impossible(f"a small disk cannot be mounted here: {done.stderr.strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)
