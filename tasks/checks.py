"""System checks: a bad setting stops every command with a sentence instead of a traceback."""

from __future__ import annotations

import sqlite3
import traceback
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register
from django.core.exceptions import ImproperlyConfigured
from django.db.utils import load_backend
from django.tasks import task_backends

from tasks import registry
from tasks.conf import config
from tasks.models.task import database
from tasks.registry import ServiceTask
from tasks.sqlite import bugs, file_systems
from tasks.sqlite.base import DatabaseWrapper


@register("tasks")
def check_settings(**kwargs: Any) -> list[CheckMessage]:
    """tasks.E001: ``settings.TASKSERVICE`` is wrong. tasks.E006: times would be naive."""
    found: list[CheckMessage] = []
    try:
        config()
    except (ImproperlyConfigured, TypeError) as error:
        found.append(Error(str(error), hint="See the settings table in the README.", id="tasks.E001"))
    if not settings.USE_TZ:
        found.append(Error("Tasks need aware times.", hint="Set USE_TZ to True.", id="tasks.E006"))
    return found


@register("tasks")
def check_backend(**kwargs: Any) -> list[CheckMessage]:
    """tasks.E008: the default alias of ``settings.TASKS`` knows nothing of our options."""
    try:
        if issubclass(task_backends["default"].task_class, ServiceTask):
            return []
        message = "The default backend in TASKS is not the service's, whose handlers need its options."
    except ImproperlyConfigured as error:
        message = str(error)
    hint = "Set its BACKEND to 'tasks.backend.DatabaseBackend', or in tests to one of tasks.testing."
    return [Error(message, hint=hint, id="tasks.E008")]


@register("tasks")
def check_handlers(**kwargs: Any) -> list[CheckMessage]:
    """tasks.E002: a module with handlers cannot be imported. E003: the default one is missing.

    tasks.E004: another process would not find one.
    """
    if check_settings() or check_backend():
        return []  # they say enough: handlers cannot be made without
    try:
        known = registry.known()
    except Exception as error:  # whatever a user's module raises
        return [Error(f"The handlers cannot be loaded: {_described(error)}", id="tasks.E002")]
    return [*_check_default(known), *_check_importable(known)]


def _described(error: Exception) -> str:
    if isinstance(error, SyntaxError):  # its traceback ends where Python compiles
        return f"{type(error).__name__}: {error.msg} ({error.filename}:{error.lineno})"
    where = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({where.filename}:{where.lineno})"


def _check_default(known: tuple[str, ...]) -> list[CheckMessage]:
    wanted = config().default_handler
    if wanted in known:
        return []
    others = sorted({registry.find(name).handler for name in known})
    return [
        Error(
            f"No handler is called {wanted!r}, as TASKSERVICE_DEFAULT_HANDLER says.",
            hint=f"Known are: {', '.join(others)}.",
            id="tasks.E003",
        )
    ]


def _check_importable(known: tuple[str, ...]) -> list[CheckMessage]:
    lost = sorted(
        {task.module_path for task in map(registry.find, known) if not registry.is_importable(task)}
    )
    hint = (
        "A handler is a function of a module, not of __main__, and keeps the name that it was defined with."
    )
    return [
        Error(f"Other processes cannot import the handler {path} as a Task.", hint=hint, id="tasks.E004")
        for path in lost
    ]


@register("tasks")
def check_database(**kwargs: Any) -> list[CheckMessage]:
    """tasks.E005: a database that cannot keep tasks. tasks.W001: SQLite without the write gate.

    tasks.E009: SQLite on a network file system.
    """
    given = settings.DATABASES.get(database())
    if given is None:
        return [Error(f"DATABASES has no {database()!r}, where the router puts tasks.", id="tasks.E005")]
    try:
        wrapper = load_backend(given["ENGINE"]).DatabaseWrapper
    except ImproperlyConfigured as error:
        return [Error(str(error), hint=_SUPPORTED, id="tasks.E005")]
    if wrapper.vendor not in ("sqlite", "postgresql"):
        return [Error(f"Tasks cannot be kept in {wrapper.display_name}.", hint=_SUPPORTED, id="tasks.E005")]
    if wrapper.vendor == "postgresql":
        return []
    gated = (
        issubclass(wrapper, DatabaseWrapper)
        and given.get("OPTIONS", {}).get("transaction_mode") == "IMMEDIATE"
    )
    return [*([] if gated else [_NO_GATE]), *_check_place(str(given["NAME"]))]


def _check_place(path: str) -> list[CheckMessage]:
    kind = file_systems.network_file_system(path)
    if kind is None:
        return []
    return [Error(file_systems.refusal(path, kind), hint=file_systems.HINT, id="tasks.E009")]


@register("security", deploy=True)
def check_https(**kwargs: Any) -> list[CheckMessage]:
    """tasks.W003: what Django's warnings about cookies and HSTS come to here."""
    if getattr(settings, "HTTPS", True):
        return []
    message = "HTTPS is off: cookies may travel in the clear, and no browser is told to insist on HTTPS."
    hint = "Behind a proxy that speaks HTTPS, set HTTPS=true: it ends Django's warnings about them, too."
    return [Warning(message, hint=hint, id="tasks.W003")]


# Not with each command, whose output it would precede: the start logs one line, and the doctor finds it.
@register("sqlite", deploy=True)
def check_sqlite(**kwargs: Any) -> list[CheckMessage]:
    """tasks.W002: an SQLite with the WAL-reset bug."""
    given = settings.DATABASES.get(database(), {})
    if "sqlite" not in given.get("ENGINE", "") or not bugs.has_wal_reset_bug(sqlite3.sqlite_version_info):
        return []
    return [Warning(bugs.WAL_RESET, hint=bugs.HINT, id="tasks.W002")]


_SUPPORTED = "Use PostgreSQL, or SQLite with ENGINE 'tasks.sqlite'."
_NO_GATE = Warning(
    "Tasks are kept in SQLite without the write gate: writers starve each other or find it locked.",
    hint="Set ENGINE to 'tasks.sqlite' and OPTIONS to {'transaction_mode': 'IMMEDIATE'}.",
    id="tasks.W001",
)
