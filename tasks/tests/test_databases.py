"""The suite runs on SQLite and on PostgreSQL, and never leaves one out without a word."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings
from django.db import connection

from tasks.tests import postgres as module
from tasks.tests.databases import without_database

HERE = Path(__file__).parent
FREE = "test_decide.py"  # its tests need no database


@pytest.mark.sqlite
def test_sqlite_is_meant() -> None:
    assert os.environ["TEST_DATABASE"] == connection_kind() == "sqlite"


@pytest.mark.postgres
def test_postgres_is_meant() -> None:
    assert (os.environ["TEST_DATABASE"], connection_kind()) == ("postgres", "postgresql")


def connection_kind() -> str:
    return str(connection.vendor)


def collected(kind: str, *names: str) -> str:
    """What a run of these files says that it would run."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", *(str(HERE / name) for name in names)]
    env = without_database(dict(os.environ)) | {"TEST_DATABASE": kind}
    ended = subprocess.run(command, env=env, cwd=settings.BASE_DIR, capture_output=True, text=True)
    return ended.stdout + ended.stderr


def test_sqlites_run_has_all_but_what_is_about_postgres() -> None:
    found = collected("sqlite", FREE, "test_databases.py", "test_enqueue.py")

    assert FREE in found
    assert "test_enqueue.py" in found
    assert "test_sqlite_is_meant" in found
    assert "test_postgres_is_meant" not in found


@pytest.mark.postgres
def test_the_run_of_postgres_has_what_is_about_databases() -> None:
    found = collected("postgres", FREE, "test_databases.py", "test_enqueue.py")

    assert FREE not in found
    assert "test_enqueue.py" in found
    assert "test_sqlite_is_meant" not in found
    assert "test_postgres_is_meant" in found


def test_an_unknown_database_is_refused() -> None:
    assert "TEST_DATABASE is 'oracle', but must be sqlite or postgres." in collected("oracle", FREE)


def test_without_a_server_it_is_said_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    monkeypatch.setattr(module, "DEBIANS", tmp_path)
    monkeypatch.setenv("PATH", "/nonexistent")

    with pytest.raises(RuntimeError, match="apt-get install postgresql"):
        module.binaries.__wrapped__()


def test_the_systems_server_serves_where_the_wheel_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for version in ("9", "17", "15"):
        (tmp_path / version / "bin").mkdir(parents=True)
        (tmp_path / version / "bin/initdb").touch()
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    monkeypatch.setattr(module, "DEBIANS", tmp_path)
    monkeypatch.setenv("PATH", "/nonexistent")

    assert module.binaries.__wrapped__() == tmp_path / "17/bin"
