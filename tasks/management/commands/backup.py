"""``manage.py backup FILE``: a copy of the SQLite database at one instant, while everything goes on."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, connections

from tasks.management.migrating import unusable
from tasks.models import Task
from tasks.models.task import database
from tasks.sqlite.base import DatabaseWrapper
from tasks.sqlite.copying import copy, draft_of

THROTTLE = ("-throttle", "-throttle-journal")
COMPANIONS = (*("-wal", "-shm", "-journal", "-gate", "-bell", "-migrate", "-secret-key"), *THROTTLE)


class Command(BaseCommand):
    help = (
        "Copy the SQLite database into FILE as it is at one instant. The API and the workers go on "
        "meanwhile; until the copy is done the WAL cannot be emptied, and grows by what they write."
    )
    requires_system_checks = ()  # what is wrong with the service is no reason against a backup of it

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path, metavar="FILE", help="the copy; in a folder that exists")
        parser.add_argument("--force", action="store_true", help="replace FILE if it exists")

    def handle(self, *args: Any, file: Path, force: bool, **options: Any) -> None:
        source = sqlite_database()
        file = Path(os.path.realpath(file))
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # clean up first
        since = time.monotonic()
        try:
            refuse(file, Path(source.path), force=force)
            count = write(source, file)
        except OSError as error:
            raise CommandError(f"Cannot write {file}: {error.strerror}.") from error
        except (sqlite3.Error, DatabaseError) as error:
            raise CommandError(f"Nothing was written to {file}: {error}.") from error
        except KeyboardInterrupt:
            raise CommandError(f"Nothing was written to {file}: interrupted.", returncode=130) from None
        megabytes, seconds = file.stat().st_size / 1e6, time.monotonic() - since
        self.stdout.write(f"Wrote {file}: {megabytes:.1f} MB, {count} tasks, in {seconds:.1f} s.")


def sqlite_database() -> DatabaseWrapper:
    source = connections[database()]
    if source.vendor == "postgresql":
        raise CommandError(
            "Tasks are kept in PostgreSQL, whose own tool makes the backup: pg_dump --format=custom."
        )
    if not isinstance(source, DatabaseWrapper) or not source.path:
        raise CommandError("Only a database file with ENGINE 'tasks.sqlite' can be backed up.")
    if not os.path.exists(source.path):  # to connect would make an empty one
        raise CommandError(f"There is no database {source.path} (see DATABASE_URL, DB_PATH).")
    try:
        source.ensure_connection()
    except DatabaseError as error:
        raise CommandError(unusable(error)) from error
    return source


def refuse(file: Path, source: Path, *, force: bool) -> None:
    if is_of(file, source):
        raise CommandError(f"{file} belongs to the database itself: choose another name.")
    if not file.parent.is_dir():
        raise CommandError(f"There is no folder {file.parent}.")
    if file.exists() and not (force and file.is_file()):
        hint = "add --force to replace it" if file.is_file() else "choose another name"
        raise CommandError(f"{file} exists: {hint}.")
    needed = sum(part.stat().st_size for part in (source, Path(f"{source}-wal")) if part.exists())
    if (free := shutil.disk_usage(file.parent).free) < needed:  # a full disk would stop the service, too
        raise CommandError(
            f"The copy may take {needed / 1e6:.1f} MB, but {file.parent} has only {free / 1e6:.1f} MB free."
        )


def is_of(file: Path, source: Path) -> bool:
    """The database or one of the files beside it, by whatever name."""
    real = Path(os.path.realpath(source))
    if file.exists() and file.samefile(real):
        return True
    names = {f"{path.name}{end}" for path in (source, real) for end in ("", *COMPANIONS)}
    workers = (f"{source.name}-worker-", f"{real.name}-worker-")
    beside = file.parent in (real.parent, Path(os.path.realpath(source.parent)))
    return beside and (file.name in names or file.name.startswith(workers))


def write(source: DatabaseWrapper, file: Path) -> int:
    """Returns how many tasks are in it."""
    with draft_of(file) as draft:
        copy(source.connection, draft)
        with closing(sqlite3.connect(draft)) as made:
            [count] = made.execute(f"SELECT count(*) FROM {Task._meta.db_table}").fetchone()  # noqa: S608
    return int(count)
