"""What others may hold of an SQLite database: its gate, or its write lock past the gate."""

from __future__ import annotations

import fcntl
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path


@contextmanager
def write_lock(path: Path) -> Iterator[None]:
    """As held by somebody who does not know the gate."""
    with closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        yield


@contextmanager
def gate(path: Path) -> Iterator[None]:
    with open(f"{path}-gate", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
