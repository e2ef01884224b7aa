"""What is wrong with the SQLite at hand, and what it means for this service."""

from __future__ import annotations

import logging
import sqlite3

from tasks.logs import event

logger = logging.getLogger("tasks.sqlite")

WAL_RESET = (
    f"SQLite {sqlite3.sqlite_version} has the WAL-reset bug: two programs that write and checkpoint one "
    "database at the same moment can corrupt it. The processes of this service never do, as each passes the "
    "write gate first; another program that writes to the file, such as a sqlite3 shell, does not."
)
HINT = (
    "Use SQLite 3.51.3 or newer; until then let no other program write to the file, "
    "and copy it by manage.py backup."
)


def has_wal_reset_bug(version: tuple[int, ...]) -> bool:
    """Since 3.7.0; mended in 3.51.3, and in two older lines: 3.44.6 and 3.50.7."""
    mended = version >= (3, 51, 3) or (3, 50, 7) <= version < (3, 51) or (3, 44, 6) <= version < (3, 45)
    return version >= (3, 7) and not mended


def tell() -> None:
    """One line, for the log at the start."""
    if has_wal_reset_bug(sqlite3.sqlite_version_info):
        event(logger, logging.WARNING, "sqlite.wal-reset-bug", version=sqlite3.sqlite_version, hint=HINT)
