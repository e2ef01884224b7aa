"""Which database the tests are about, and databases of their own for the services that they start."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, LiteralString
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
from psycopg import sql

OTHER_KIND = {"sqlite": "postgres", "postgres": "sqlite"}


def without_database(environment: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name not in ("DATABASE_URL", "DB_PATH")}


def named(name: str) -> str:
    """The URL of another database of the server that the tests run on."""
    return urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{name}").geturl()


def rows(where: dict[str, str], query: LiteralString) -> list[tuple[Any, ...]]:
    """Read what ``OwnDatabases.make`` made, past everything."""
    if url := where.get("DATABASE_URL"):
        with psycopg.connect(url) as server:
            return server.execute(query).fetchall()
    with closing(sqlite3.connect(where["DB_PATH"])) as file:
        return file.execute(query).fetchall()


class OwnDatabases:
    """Makes empty ones, of the kind that the tests run on."""

    def __init__(self) -> None:
        self._made: list[str] = []

    def make(self, folder: Path) -> dict[str, str]:
        """The variables that lead a service to a new one; what lies beside it is in the folder."""
        beside = {"DB_PATH": str(folder / "tasks.db")}
        if os.environ["TEST_DATABASE"] == "sqlite":
            return beside
        name = f"own_{uuid4().hex}"
        self._execute("CREATE DATABASE {}", name)
        self._made.append(name)
        return {**beside, "DATABASE_URL": named(name)}

    def drop(self) -> None:
        for name in self._made:
            self._execute("DROP DATABASE {} WITH (FORCE)", name)

    def _execute(self, statement: str, name: str) -> None:
        with psycopg.connect(named("postgres"), autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(sql.Identifier(name)))
