"""What the environment says: which values are taken, and how a bad one ends the start."""

from __future__ import annotations

import os
import re
import runpy
import stat
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as running
from django.core.exceptions import ImproperlyConfigured

from taskservice import env
from taskservice.database import kept_secret

ROOT = Path(running.BASE_DIR)
VARIABLES = re.findall(r"env\.\w+\(\s*\"([A-Z_]+)\"", (ROOT / "taskservice" / "settings.py").read_text())
VARIABLES += ["DATABASE_URL", "DB_PATH", "SECRET_KEY"]

Load = Callable[..., dict[str, Any]]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Load:
    """The settings as they come from these variables alone."""

    def load(**variables: str) -> dict[str, Any]:
        for name in VARIABLES:
            monkeypatch.delenv(name, raising=False)
        for name, value in ({"DB_PATH": str(tmp_path / "tasks.db")} | variables).items():
            monkeypatch.setenv(name, value)
        return runpy.run_path(str(ROOT / "taskservice" / "settings.py"))

    return load


def manage(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "manage.py"), *arguments]
    given = os.environ | {"DJANGO_SETTINGS_MODULE": "taskservice.settings"} | variables
    return subprocess.run(command, env=given, capture_output=True, text=True, timeout=60, check=False)


BAD = [
    ("CSRF_TRUSTED_ORIGINS", "example.org"),
    ("DATABASE_URL", "mysql://user:hunter2@host/name"),
    ("DATABASE_URL", "postgres://user:hunter2@host:port/name"),
    ("DATABASE_URL", "postgres://user:hunter2@host"),
    ("DATABASE_URL", "sqlite://:memory:"),
    ("DATABASE_URL", "sqlite:////no/such/folder/tasks.db"),
    ("DB_PATH", "/no/such/folder/tasks.db"),
    ("DB_PATH", "/"),
    ("DEBUG", "perhaps"),
    ("HTTPS", "2"),
    ("LOG_FORMAT", "xml"),
    ("LOG_LEVEL", "loud"),
    ("PORT", "eighty"),
    ("PORT", "65536"),
    ("TASKSERVICE_API_PROCESSES", "0"),
    ("TASKSERVICE_API_THREADS", "-1"),
    ("TASKSERVICE_AUTH", "basic"),
    ("REDIS_URL", "http://user:hunter2@host"),
    ("REDIS_URL", "hunter2@host:6379"),
    ("DATABASE_URL", "hunter2@host:5432/name"),
    ("TASKSERVICE_LISTEN_URL", "user:hunter2@host"),
    ("TASKSERVICE_APPS", "no_such_app"),
    ("TASKSERVICE_APPS", "json,json.no_such_app"),
    ("TASKSERVICE_GRACE_SECONDS", "-1"),
    ("TASKSERVICE_KEEP_COMPLETED_DAYS", "0"),
    ("TASKSERVICE_KEEP_FAILED_DAYS", "never"),
    ("TASKSERVICE_KEEP_CANCELLED_DAYS", "nan"),
    ("TASKSERVICE_LEASE_SECONDS", "0.5"),
    ("TASKSERVICE_LEASE_SECONDS", "nan"),
    ("TASKSERVICE_MAX_ATTEMPTS", "0"),
    ("TASKSERVICE_RECYCLE_MB", "many"),
    ("TASKSERVICE_RECYCLE_TASKS", "-1"),
    ("TASKSERVICE_THROTTLE_BURST", "100"),
    ("TASKSERVICE_THROTTLE_SUSTAINED", "0/min"),
    ("TASKSERVICE_THROTTLE_WRONG_TOKENS", "off"),
    ("TASKSERVICE_PROXIES", "yes"),
    ("TASKSERVICE_TIMEOUT_SECONDS", "inf"),
    ("TASKSERVICE_WORKERS", "0"),
    ("TASKSERVICE_WORKERS", "1.5"),
]


@pytest.mark.parametrize(("name", "value"), BAD)
def test_a_bad_value_is_named_together_with_what_is_allowed(load: Load, name: str, value: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=rf"^{name} is '.*', but must be .+\.$") as raised:
        load(**{name: value})

    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize("command", ["serve", "runworkers", "migrate"])
def test_a_bad_value_ends_a_command_with_one_sentence(command: str) -> None:
    ended = manage(command, TASKSERVICE_WORKERS="none")

    assert ended.returncode == 1
    assert (
        ended.stderr
        == "manage.py: TASKSERVICE_WORKERS is 'none', but must be a whole number from 1 to 256.\n"
    )
    assert ended.stdout == ""


def test_a_bad_value_ends_gunicorn_with_one_sentence(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "gunicorn", "--config", str(running.GUNICORN_CONFIG)]
    variables = os.environ | {"PORT": "eighty", "DJANGO_SETTINGS_MODULE": "taskservice.settings"}
    ended = subprocess.run(
        command, env=variables, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )

    assert ended.returncode == 1
    assert ended.stderr == "gunicorn: PORT is 'eighty', but must be a whole number from 0 to 65535.\n"


def test_empty_is_the_same_as_not_set(load: Load) -> None:
    loaded = load(PORT="", DEBUG=" ", TASKSERVICE_APPS="", DATABASE_URL="")

    assert (loaded["PORT"], loaded["DEBUG"]) == (8080, False)


def test_the_defaults_are_safe(load: Load) -> None:
    loaded = load()

    assert not loaded["DEBUG"]
    assert loaded["HOST"] == "127.0.0.1"
    assert loaded["ALLOWED_HOSTS"] == ["localhost", "127.0.0.1", "[::1]"]
    assert not any("unsafe" in source for sources in loaded["SECURE_CSP"].values() for source in sources)


def test_durations_and_lists_are_typed(load: Load) -> None:
    loaded = load(TASKSERVICE_LEASE_SECONDS="1.5", ALLOWED_HOSTS="a.example, b.example,", DEBUG="Yes")

    assert loaded["TASKSERVICE"]["lease_for"] == timedelta(seconds=1.5)
    assert loaded["ALLOWED_HOSTS"][:2] == ["a.example", "b.example"]
    assert loaded["DEBUG"] is True


def test_how_long_tasks_are_kept_is_a_number_of_days_or_none(load: Load) -> None:
    loaded = load(TASKSERVICE_KEEP_COMPLETED_DAYS="0.5", TASKSERVICE_KEEP_FAILED_DAYS="None")["TASKSERVICE"]

    assert loaded["keep_completed"] == timedelta(hours=12)
    assert loaded["keep_failed"] is None
    assert loaded["keep_cancelled"] == timedelta(days=30)


def test_https_makes_cookies_secure(load: Load) -> None:
    loaded = load(HTTPS="true")

    assert loaded["SESSION_COOKIE_SECURE"]
    assert loaded["CSRF_COOKIE_SECURE"]
    assert loaded["SECURE_HSTS_SECONDS"] > 0


@pytest.mark.parametrize(
    ("given", "proxies"),
    [
        ({}, 0),
        ({"HTTPS": "true"}, 1),
        ({"HTTPS": "true", "TASKSERVICE_PROXIES": "2"}, 2),
        ({"HTTPS": "true", "TASKSERVICE_PROXIES": "0"}, 0),
    ],
)
def test_https_means_a_proxy_that_tells_who_asks(load: Load, given: dict[str, str], proxies: int) -> None:
    assert load(**given)["TASKSERVICE"]["proxies"] == proxies


@pytest.mark.parametrize("https", ["true", "false"])
def test_a_check_for_deployment_finds_nothing_behind_https_and_says_what_is_open_without(
    tmp_path: Path, https: str
) -> None:
    given = {"HTTPS": https, "SECRET_KEY": "", "DB_PATH": str(tmp_path / "tasks.db"), "DATABASE_URL": ""}

    ended = manage("check", "--deploy", "--tag", "security", "--fail-level", "WARNING", **given)

    found = re.findall(r"security\.W\d+", ended.stderr)
    assert found == (
        [] if https == "true" else ["security.W004", "security.W008", "security.W012", "security.W016"]
    )
    assert ended.returncode == (0 if https == "true" else 1)
    assert ("set HTTPS=true" in ended.stderr) == (https == "false")


def test_what_an_error_report_shows_of_the_settings_has_no_passwords(tmp_path: Path) -> None:
    """Such as Django's page of DEBUG."""
    show = (
        "from django.views.debug import get_default_exception_reporter_filter as chosen\n"
        "print(chosen().get_safe_settings())"
    )
    urls = {"DATABASE_URL": "postgres://me:hunter2@host/work", "REDIS_URL": "redis://:hunter2@host/1"}

    shown = manage(
        "shell", "-c", show, SECRET_KEY="hunter2", TASKSERVICE_LISTEN_URL=urls["DATABASE_URL"], **urls
    )

    assert shown.returncode == 0, shown.stderr
    assert "MIDDLEWARE" in shown.stdout
    assert "hunter2" not in shown.stdout


@pytest.mark.parametrize("command", ["migrate", "runworkers", "serve", "check"])
@pytest.mark.parametrize("log_level", ["DEBUG", "INFO"])
def test_a_start_that_fails_tells_no_secret(command: str, log_level: str) -> None:
    url = "postgres://me:hunter2@127.0.0.1:1/work"
    given = {
        "DATABASE_URL": url,
        "TASKSERVICE_LISTEN_URL": url,
        "REDIS_URL": "redis://:hunter2@127.0.0.1:1/0",
    }
    arguments = ["--port", "0"] if command == "serve" else []

    ended = manage(command, *arguments, SECRET_KEY="hunter2-key", LOG_LEVEL=log_level, **given)

    assert ended.returncode == (0 if command == "check" else 1)
    assert "hunter2" not in ended.stdout + ended.stderr


def test_apps_join_the_installed_ones(load: Load) -> None:
    loaded = load(TASKSERVICE_APPS="json, unittest.case.TestCase")  # a class stands for an AppConfig

    assert loaded["INSTALLED_APPS"][-2:] == ["json", "unittest.case.TestCase"]


def test_the_database_is_tasks_db_in_the_project(load: Load) -> None:
    loaded = load(DB_PATH="", SECRET_KEY="given")

    assert loaded["DATABASES"]["default"]["NAME"] == str(ROOT / "tasks.db")
    assert loaded["DATABASES"]["default"]["ENGINE"] == "tasks.sqlite"


def test_database_url_wins_over_db_path(load: Load, tmp_path: Path) -> None:
    one, other = tmp_path / "one.db", tmp_path / "other.db"

    assert load(DB_PATH=str(one))["DATABASES"]["default"]["NAME"] == str(one)
    loaded = load(DB_PATH=str(one), DATABASE_URL=f"sqlite:///{other}")
    assert loaded["DATABASES"]["default"]["NAME"] == str(other)


def test_sqlite_options_of_the_url_are_kept(load: Load, tmp_path: Path) -> None:
    loaded = load(DATABASE_URL=f"sqlite:///{tmp_path / 'tasks.db'}?timeout=9&transaction_mode=DEFERRED")

    assert loaded["DATABASES"]["default"]["OPTIONS"] == {"timeout": 9, "transaction_mode": "IMMEDIATE"}


@pytest.mark.parametrize("scheme", ["postgres", "postgresql"])
def test_a_postgres_url_is_taken_apart(load: Load, scheme: str) -> None:
    loaded = load(
        DATABASE_URL=f"{scheme}://me:s%40cret@db.example:5433/work?sslmode=require", SECRET_KEY="given"
    )

    found = loaded["DATABASES"]["default"]
    assert found["ENGINE"] == "tasks.postgresql"
    assert (found["HOST"], found["PORT"], found["NAME"]) == ("db.example", 5433, "work")
    assert (found["USER"], found["PASSWORD"]) == ("me", "s@cret")
    assert found["OPTIONS"] == {"connect_timeout": 3, "sslmode": "require"}


def test_a_given_secret_key_is_taken_and_none_is_kept(load: Load, tmp_path: Path) -> None:
    assert load(SECRET_KEY="given")["SECRET_KEY"] == "given"
    assert list(tmp_path.iterdir()) == []


def test_a_secret_key_is_made_once_beside_the_data_for_the_owner_alone(load: Load, tmp_path: Path) -> None:
    key = load()["SECRET_KEY"]
    [file] = tmp_path.iterdir()

    assert file.name == "tasks.db-secret-key"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(key) >= 50
    assert load()["SECRET_KEY"] == key


def test_with_postgres_the_key_is_kept_where_db_path_points(load: Load, tmp_path: Path) -> None:
    key = load(DATABASE_URL="postgres://host/name")["SECRET_KEY"]

    assert (tmp_path / "secret-key").read_text() == key


def test_an_empty_key_file_is_said_and_not_used(tmp_path: Path) -> None:
    (tmp_path / "key").touch()

    with pytest.raises(ImproperlyConfigured, match="SECRET_KEY"):
        kept_secret(tmp_path / "key")


def test_a_folder_that_cannot_keep_a_key_is_said() -> None:
    with pytest.raises(
        ImproperlyConfigured, match=r"^SECRET_KEY is not set, and none can be kept in /no/such"
    ):
        kept_secret(Path("/no/such/folder/key"))


def test_processes_that_start_at_once_get_one_key(tmp_path: Path) -> None:
    wait_and_read = """
import pathlib, sys, time
from taskservice.database import kept_secret
go, file = map(pathlib.Path, sys.argv[1:])
print("ready", flush=True)
while not go.exists():
    pass
print(kept_secret(file))
"""
    go, file = tmp_path / "go", tmp_path / "key"
    command = [sys.executable, "-c", wait_and_read, str(go), str(file)]
    racers = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(6)]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    go.touch()

    keys = {racer.communicate(timeout=30)[0] for racer in racers}

    assert keys == {f"{file.read_text()}\n"}
    assert sorted(tmp_path.iterdir()) == [go, file]  # no drafts are left


def test_words_and_numbers_are_stripped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOMETHING", " 7 ")

    assert env.integer("SOMETHING", 1, least=0) == 7
    assert env.words("SOMETHING") == ["7"]


def test_each_variable_is_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()

    assert [name for name in sorted(set(VARIABLES)) if f"`{name}`" not in readme] == []


def test_compose_passes_on_each_variable() -> None:
    """But for what the image and the file itself decide: where it listens, and which file is the database."""
    compose = (ROOT / "compose.yaml").read_text()

    decided = {"HOST", "PORT", "DB_PATH"}
    assert [name for name in sorted(set(VARIABLES) - decided) if f"    {name}:" not in compose] == []
