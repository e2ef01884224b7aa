"""The databases that are measured: a new one for each measure, both as durable as the service asks for."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Protocol

import psycopg

from tasks.tests.postgres import DURABLE, Postgres, postgres

NAMES = ("sqlite", "postgres")
TITLES = {"sqlite": "SQLite", "postgres": "PostgreSQL"}
DURABILITY = {
    "sqlite": "journal_mode=WAL, synchronous=FULL",
    "postgres": "fsync=on, synchronous_commit=on, shared_buffers=256MB",
}


class Database(Protocol):
    """One database, made for one measure."""

    @property
    def variables(self) -> Mapping[str, str]:
        """What tells a process where it is: the service, and whatever else is compared with it."""

    def rows(self, sql: str, *params: Any) -> list[tuple[Any, ...]]:
        """Read it as it is, past everything. Parameters are written ``?``."""

    def settle(self) -> None:
        """Do at once what the database would do by and by after a large write."""


@dataclass(frozen=True, slots=True)
class SqliteFile:
    path: Path

    @property
    def variables(self) -> Mapping[str, str]:
        return {"DB_PATH": str(self.path)}

    def rows(self, sql: str, *params: Any) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(f"file:{self.path}?mode=ro", uri=True, timeout=30)) as connection:
            return connection.execute(sql, params).fetchall()

    def settle(self) -> None:
        """Only while nobody else is there: two that checkpoint at once can do harm."""
        with closing(sqlite3.connect(self.path, timeout=30)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


@dataclass(frozen=True, slots=True)
class PostgresDatabase:
    server: Postgres
    name: str

    @property
    def url(self) -> str:
        return self.server.url(self.name)

    @property
    def variables(self) -> Mapping[str, str]:
        """The service knows a URL, libpq and asyncpg these other names."""
        where = {"PGHOST": str(self.server.folder), "PGUSER": "postgres", "PGDATABASE": self.name}
        return {"DATABASE_URL": self.url, **where}

    def rows(self, sql: str, *params: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url) as connection:
            return connection.execute(sql.replace("?", "%s"), params).fetchall()

    def settle(self) -> None:
        """As autovacuum and the checkpointer would within minutes."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute("VACUUM (ANALYZE)")
            connection.execute("CHECKPOINT")


class Kind(Protocol):
    """SQLite or PostgreSQL."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    def fresh(self, folder: Path) -> Any:
        """A context manager: an empty Database, whose files may lie in the folder."""


@dataclass(frozen=True, slots=True)
class Sqlite:
    name: str = "sqlite"
    version: str = sqlite3.sqlite_version

    @contextmanager
    def fresh(self, folder: Path) -> Iterator[Database]:
        yield SqliteFile(folder / "tasks.db")


@dataclass(frozen=True, slots=True)
class PostgreSQL:
    """One server for all its databases."""

    server: Postgres
    version: str
    name: str = "postgres"
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    @contextmanager
    def fresh(self, folder: Path) -> Iterator[Database]:
        name = f"bench_{next(self._numbers)}"
        self._run(f"CREATE DATABASE {name}")
        try:
            yield PostgresDatabase(self.server, name)
        finally:
            self._run(f"DROP DATABASE {name} WITH (FORCE)")

    def _run(self, statement: str) -> None:
        with psycopg.connect(self.server.url(), autocommit=True) as connection:
            connection.execute(statement)


@contextmanager
def kind_named(name: str) -> Iterator[Kind]:
    """PostgreSQL's server runs as long as the context, on the disk that SQLite's files are on."""
    if name == "sqlite":
        yield Sqlite()
        return
    with postgres(DURABLE, within=tempfile.gettempdir()) as server:
        with psycopg.connect(server.url()) as connection:
            [version] = connection.execute("SHOW server_version").fetchone() or ["unknown"]
        yield PostgreSQL(server, version)
