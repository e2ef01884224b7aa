"""DATABASE_URL or DB_PATH as Django's setting, and the secret key that is kept beside the data."""

from __future__ import annotations

import os
import secrets
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import dj_database_url
from django.core.exceptions import ImproperlyConfigured

from taskservice import env

URL_FORMS = "sqlite:///FILE or postgres://USER:PASSWORD@HOST:PORT/NAME"


def database(root: Path) -> dict[str, Any]:
    """The service's one database; relative paths start at ``root``."""
    url = env.text("DATABASE_URL")
    if not url:
        return _sqlite(root, env.text("DB_PATH", "tasks.db"), variable="DB_PATH")
    if url.startswith("sqlite:"):
        return _sqlite(root, *_parsed(url), variable="DATABASE_URL")
    if url.startswith(("postgres://", "postgresql://")):
        return _postgres(url)
    raise _bad_url(url)


def _bad_url(url: str) -> env.BadVariable:
    return env.BadVariable("DATABASE_URL", env.shown_of_url(url), URL_FORMS)


def _parsed(url: str) -> tuple[str, dict[str, Any]]:
    try:
        found = dj_database_url.parse(url)
    except ValueError as error:
        raise _bad_url(url) from error
    return str(found["NAME"]), dict(found.get("OPTIONS", {}))


def _sqlite(root: Path, name: str, options: dict[str, Any] | None = None, *, variable: str) -> dict[str, Any]:
    if name in {"", ":memory:"}:
        raise env.BadVariable(variable, name, "a file: the API and the workers are processes that share it")
    path = root / name
    if path.is_dir() or not path.parent.is_dir():
        raise env.BadVariable(variable, str(path), "a file in a folder that exists")
    return {
        "ENGINE": "tasks.sqlite",
        "NAME": str(path),
        # A transaction that began by reading cannot get the write lock later, however long it waits.
        # The timeout is for programs that do not know the write gate, which has a patience of its own:
        # both together must stay below the 10 s in which a client hears that the database is busy.
        "OPTIONS": {"timeout": 2, **(options or {}), "transaction_mode": "IMMEDIATE"},
        "CONN_MAX_AGE": None,  # opening anew is 4.7 times slower
    }


def _postgres(url: str) -> dict[str, Any]:
    name, options = _parsed(url)
    if not name:
        raise _bad_url(url)
    found: dict[str, Any] = dict(dj_database_url.parse(url, conn_max_age=None, conn_health_checks=True))
    pooler = env.boolean("TASKSERVICE_POOLER", default=False)  # where a cursor outlives no transaction
    return {
        **found,
        "ENGINE": "tasks.postgresql",
        "OPTIONS": {"connect_timeout": 3, **options},
        "DISABLE_SERVER_SIDE_CURSORS": pooler,
    }


def secret_key(default_database: dict[str, Any]) -> str:
    """SECRET_KEY, or else one made once and kept beside the SQLite file.

    With PostgreSQL it is kept where DB_PATH points (the image's volume), or in the working directory.
    """
    given = env.text("SECRET_KEY")
    if given:
        return given
    if default_database["ENGINE"] == "tasks.sqlite":
        return kept_secret(Path(f"{default_database['NAME']}-secret-key"))
    return kept_secret(Path(env.text("DB_PATH", "tasks.db")).absolute().with_name("secret-key"))


def kept_secret(path: Path) -> str:
    """The key in that file. Makes it if need be; of several processes that do so at once, one wins."""
    try:
        if not path.exists():
            _make_secret(path)
        key = path.read_text().strip()
    except OSError as error:
        message = f"SECRET_KEY is not set, and none can be kept in {path} ({error.strerror}): set it."
        raise ImproperlyConfigured(message) from error
    if not key:
        raise ImproperlyConfigured(f"SECRET_KEY is not set, and {path} is empty: set it, or remove the file.")
    return key


def _make_secret(path: Path) -> None:
    """Write it whole under another name first: nobody may ever read half a key."""
    handle, draft = tempfile.mkstemp(prefix=f"{path.name}-", dir=path.parent)  # only the owner may read it
    try:
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_urlsafe(64))
            file.flush()
            os.fsync(handle)
        with suppress(FileExistsError):  # another process was first: its key counts
            os.link(draft, path)
    finally:
        os.unlink(draft)
