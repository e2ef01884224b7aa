"""What ``manage.py check`` says of a project that cannot work."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core.checks import CheckMessage, run_checks
from django.tasks import task_backends
from pytest_django import Settings

from tasks import checks
from tasks.management.doctor import setup
from tasks.sqlite import bugs
from tasks.tests.shop import tasks as jobs
from tasks.tests.workers import RunWorkers, run_workers

__all__ = ["run_workers"]

SQLITE = {"ENGINE": "tasks.sqlite", "NAME": "t.db", "OPTIONS": {"transaction_mode": "IMMEDIATE"}}


def ids_of(found: list[CheckMessage]) -> list[str | None]:
    return [message.id for message in found]


def test_this_project_is_in_order() -> None:
    found = [
        *checks.check_settings(),
        *checks.check_backend(),
        *checks.check_handlers(),
        *checks.check_database(),
        *task_backends["default"].check(),
    ]

    assert found == []


def test_naive_times_are_an_error(settings: Settings) -> None:
    settings.USE_TZ = False

    assert ids_of(checks.check_settings()) == ["tasks.E006"]


@pytest.mark.parametrize(
    "backend", ["django.tasks.backends.immediate.ImmediateBackend", "tasks.backend.Databse"]
)
def test_a_default_backend_without_our_options_is_an_error_with_the_right_name(
    settings: Settings, backend: str
) -> None:
    settings.TASKS = {"default": {"BACKEND": backend}}

    [message] = checks.check_backend()

    assert message.id == "tasks.E008"
    assert "tasks.backend.DatabaseBackend" in str(message.hint)


def test_the_backends_for_tests_are_no_error(settings: Settings) -> None:
    settings.TASKS = {"default": {"BACKEND": "tasks.testing.ImmediateBackend"}}

    assert checks.check_backend() == []


def test_a_default_handler_that_is_missing_is_an_error_that_lists_the_others(settings: Settings) -> None:
    settings.TASKSERVICE = {"default_handler": "demo.slep"}

    [message] = checks.check_handlers()

    assert message.id == "tasks.E003"
    assert "demo.sleep" in str(message.hint)


def test_a_handler_that_others_cannot_import_is_an_error(own_registry: None) -> None:
    jobs.task()(jobs.plain)

    [message] = checks.check_handlers()

    assert message.id == "tasks.E004"
    assert "tasks.tests.shop.tasks.plain" in message.msg


def test_a_module_of_handlers_that_cannot_be_imported_is_an_error_that_says_where(
    tmp_path: Path, child_env: dict[str, str]
) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "__init__.py").touch()
    (tmp_path / "shop" / "tasks.py").write_text("\nimport no_such_module_at_all\n")
    env = {**child_env, "TASKSERVICE_APPS": "shop", "PYTHONPATH": f"{child_env['PYTHONPATH']}:{tmp_path}"}

    done = subprocess.run(
        [sys.executable, "-m", "django", "check", "--tag", "tasks"],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert "tasks.E002" in done.stderr
    assert "no_such_module_at_all" in done.stderr
    assert "shop/tasks.py:2" in done.stderr


@pytest.mark.filterwarnings("ignore:Overriding setting DATABASES")
@pytest.mark.parametrize(
    ("database", "found"),
    [
        (SQLITE, []),
        ({"ENGINE": "django.db.backends.postgresql"}, []),
        ({**SQLITE, "ENGINE": "django.db.backends.sqlite3"}, ["tasks.W001"]),
        ({**SQLITE, "OPTIONS": {}}, ["tasks.W001"]),
        ({"ENGINE": "django.db.backends.mysql"}, ["tasks.E005"]),
        ({"ENGINE": "django.db.backends.dummy"}, ["tasks.E005"]),
    ],
    ids=repr,
)
def test_tasks_are_kept_in_postgresql_or_behind_the_write_gate(
    settings: Settings, database: dict[str, Any], found: list[str]
) -> None:
    settings.DATABASES = {"default": database}

    assert ids_of(checks.check_database()) == found


def test_a_database_that_the_router_names_and_nobody_defines_is_an_error(settings: Settings) -> None:
    settings.DATABASE_ROUTERS = ["tasks.tests.test_checks.Elsewhere"]

    [message] = checks.check_database()

    assert message.id == "tasks.E005"
    assert "'elsewhere'" in message.msg


class Elsewhere:
    """A router that puts everything where nothing is."""

    def db_for_write(self, model: Any, **hints: Any) -> str:
        return "elsewhere"


def test_the_backend_misses_its_app(settings: Settings) -> None:
    settings.INSTALLED_APPS = [app for app in settings.INSTALLED_APPS if app != "tasks"]

    assert ids_of(task_backends["default"].check()) == ["tasks.E007"]


@pytest.mark.parametrize(
    ("version", "has_it"),
    [
        ((3, 6, 23), False),
        ((3, 7, 0), True),
        ((3, 40, 1), True),
        ((3, 44, 5), True),
        ((3, 44, 6), False),
        ((3, 45, 0), True),
        ((3, 50, 6), True),
        ((3, 50, 7), False),
        ((3, 51, 2), True),
        ((3, 51, 3), False),
        ((3, 52, 0), False),
        ((4, 0, 0), False),
    ],
)
def test_an_sqlite_with_the_wal_reset_bug_is_known_by_its_version(
    version: tuple[int, ...], has_it: bool
) -> None:
    assert bugs.has_wal_reset_bug(version) == has_it


@pytest.mark.filterwarnings("ignore:Overriding setting DATABASES")
def test_such_an_sqlite_is_a_warning_and_nothing_where_it_keeps_no_tasks(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.DATABASES = {"default": SQLITE}
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 51, 2))
    assert ids_of(checks.check_sqlite()) == ["tasks.W002"]

    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 51, 3))
    assert checks.check_sqlite() == []

    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 51, 2))
    settings.DATABASES = {"default": {"ENGINE": "django.db.backends.postgresql"}}
    assert checks.check_sqlite() == []


@pytest.mark.filterwarnings("ignore:Overriding setting DATABASES")
def test_no_command_says_so_before_what_it_was_asked_for(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each runs all checks but those for deployment first."""
    settings.DATABASES = {"default": SQLITE}
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 51, 2))

    assert "tasks.W002" not in ids_of(run_checks(tags=["sqlite"]))
    assert "tasks.W002" in ids_of(run_checks(tags=["sqlite"], include_deployment_checks=True))
    assert "tasks.W002" in {finding.code for finding in setup.look()}


@pytest.mark.parametrize(("https", "found"), [(True, []), (False, ["tasks.W003"])])
def test_a_deployment_without_https_is_told_how_to_have_it(
    settings: Settings, https: bool, found: list[str]
) -> None:
    settings.HTTPS = https

    warnings = checks.check_https()

    assert ids_of(warnings) == found
    assert all("HTTPS=true" in str(warning.hint) for warning in warnings)


@pytest.mark.parametrize("version", [(3, 51, 2), (3, 51, 3)])
def test_a_start_says_so_in_one_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, version: tuple[int, ...]
) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", version)

    bugs.tell()

    assert [record.getMessage() for record in caplog.records] == (
        ["sqlite.wal-reset-bug"] if version < (3, 51, 3) else []
    )


@pytest.mark.sqlite
def test_workers_say_it_once_and_in_no_other_form(run_workers: RunWorkers) -> None:
    worker = run_workers("--n", "2")
    worker.wait_executors(2)

    expected = 1 if bugs.has_wal_reset_bug(sqlite3.sqlite_version_info) else 0
    assert len(worker.events("sqlite.wal-reset-bug")) == expected
    assert "tasks.W002" not in worker.output()
    assert worker.stop() == 0
