"""A copy of the database as it is at one instant: whole under its name, or not there at all."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

STEP_PAGES = 2000  # between two steps signals are heard


def copy(source: sqlite3.Connection, path: Path) -> None:
    """Copy while others write: the read transaction keeps the instant. Nobody waits for it; the WAL grows.

    Raises sqlite3.Error when it cannot be read or written, and when the copy proves damaged.
    """
    with closing(sqlite3.connect(path, isolation_level=None)) as target:
        target.execute("PRAGMA locking_mode=EXCLUSIVE")  # needs no -shm
        target.execute("PRAGMA synchronous=OFF")  # it is flushed as a whole in the end
        target.execute("PRAGMA journal_mode=OFF")  # a copy that fails is removed
        source.execute("BEGIN")
        try:
            source.execute("SELECT count(*) FROM sqlite_schema").fetchone()  # the instant
            source.backup(target, pages=STEP_PAGES, progress=lambda *_: None, sleep=0)
        finally:
            source.execute("ROLLBACK")
        target.execute(
            "PRAGMA journal_mode=DELETE"
        )  # one file, which can be read where nothing can be written
        [said] = target.execute("PRAGMA quick_check(1)").fetchone()
        if said != "ok":
            raise sqlite3.DatabaseError(
                f"the copy is damaged, and so may be the database: {said.splitlines()[-1]}"
            )


@contextmanager
def draft_of(path: Path) -> Iterator[Path]:
    """A file beside it, for its owner alone, that takes its name when the block ends well; else it goes."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", suffix=".part", dir=path.parent)
    os.close(handle)
    try:
        yield Path(name)
        _flush(name)
        os.replace(name, path)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(name)
    with suppress(OSError):  # some file systems cannot flush a folder
        _flush(path.parent)


def _flush(path: str | Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
