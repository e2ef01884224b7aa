"""A WAL that has lost commits: SQLite goes on from the state before, and says nothing; here it is noticed.

https://www.sqlite.org/walformat.html
"""

from __future__ import annotations

import logging
import os
import sqlite3
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from django.db import OperationalError

from tasks.logs import event

logger = logging.getLogger("tasks.sqlite")

MARK = "-damaged"  # beside the database, once it is known to be a mixture of two states
WAL_HEADER, FRAME_HEADER = 32, 24  # bytes
PAGE_SIZES = (4096, 512, 1024, 2048, 8192, 16384, 32768, 65536)  # the usual one, and those that there are
INDEX_HEADER = struct.Struct(
    "=4x4x4xBx2xI4x8x8s8x"
)  # in the -shm: whether it counts, its last frame, its salts
WRITTEN_BACK, WRITTEN_BACK_AT = struct.Struct("=I"), 128  # nBackfillAttempted, in the same
INDEX_BYTES = 136
HINT = (
    "Tasks that were acknowledged are gone, or are as they were before: restore a backup where that matters, "
    "and look for what damaged the file, such as a disk."
)

_looked_at: set[str] = set()  # by this process
_one_at_a_time = threading.Lock()


@dataclass(frozen=True, slots=True)
class Index:
    """What the -shm knows of the WAL."""

    frames: int  # committed
    salts: bytes  # of this filling of the WAL; zeros: nothing was found in it
    written_back: int  # at most so many of its frames are in the database already

    @classmethod
    def read(cls, data: bytes) -> Index | None:
        """None: it was not written to its end, or never."""
        size = INDEX_HEADER.size
        if len(data) < INDEX_BYTES or data[:size] != data[size : 2 * size]:
            return None
        counts, frames, salts = INDEX_HEADER.unpack_from(data)
        [written_back] = WRITTEN_BACK.unpack_from(data, WRITTEN_BACK_AT)
        return cls(frames, salts, written_back) if counts else None


@dataclass(frozen=True, slots=True)
class Loss:
    pages: int
    mixed: bool  # some of those that are gone may have been written back


@contextmanager
def noticed(path: str) -> Iterator[Callable[[sqlite3.Connection], None]]:
    """Open the database within; call what this gives once it has been read from.

    For the first connection of a process: until it is open, no other is, whose locks on the -shm
    would be lost with our look at it. Raises OperationalError where the database is a mixture.
    """
    if os.path.exists(path + MARK):
        raise OperationalError(Path(path + MARK).read_text().strip())
    if path in _looked_at:
        yield lambda connection: None
        return
    with _one_at_a_time:
        before = None if path in _looked_at else _index_of_the_last(path)

        def compare(connection: sqlite3.Connection) -> None:
            if path not in _looked_at and (lost := _lost(path, before)):
                _tell(path, lost, connection)

        yield compare
        _looked_at.add(path)


def _index_of_the_last(path: str) -> Index | None:
    """As the last process that had the database open has left it, or as those have it that do."""
    with suppress(OSError), open(path + "-shm", "rb") as file:
        return Index.read(file.read(INDEX_BYTES))
    return None


def _index_now(path: str) -> Index | None:
    """Through a file that SQLite has open: to open and close another one would drop its locks."""
    with suppress(OSError):
        wanted = os.stat(path + "-shm")
        for name in os.listdir("/proc/self/fd"):
            with suppress(OSError):
                if os.path.samestat(os.fstat(int(name)), wanted):
                    return Index.read(os.pread(int(name), INDEX_BYTES, 0))
    return None


def _lost(path: str, before: Index | None) -> Loss | None:
    """What of commits SQLite did not find."""
    salts, commits = _commits_in(path + "-wal")
    now = _index_now(path)  # after those, as others may be writing
    if now is None or now.salts not in (bytes(8), *salts):  # others have just emptied it
        return None
    if before and before.salts not in salts:  # of another filling
        before = None
    known = before.frames if before else 0
    beyond = [frame for frame in commits if frame > now.frames]
    if len(beyond) > 1:  # a single one may be what power cut off, or somebody writes
        known = max(known, beyond[-1])
    if known <= now.frames:
        return None
    return Loss(known - now.frames, mixed=before is not None and before.written_back > now.frames)


def _commits_in(path: str) -> tuple[tuple[bytes, ...], list[int]]:
    """The salts of its header and of its first frame, and the frames that say that they end a commit."""
    try:
        with open(path, "rb") as file:
            header = file.read(WAL_HEADER)
            page = int.from_bytes(header[8:12])
            size = FRAME_HEADER + (page if page in PAGE_SIZES else PAGE_SIZES[0])
            first = file.read(FRAME_HEADER)[8:16]
            commits, number = [], 1
            while len(head := os.pread(file.fileno(), FRAME_HEADER, WAL_HEADER + (number - 1) * size)) == 24:
                if head[8:16] == first and any(head[4:8]):
                    commits.append(number)
                number += 1
    except OSError:
        return (), []
    return tuple({header[16:24], first} - {b""}), commits


def _tell(path: str, lost: Loss, connection: sqlite3.Connection) -> None:
    [said] = connection.execute("PRAGMA integrity_check(1)").fetchone()
    check = "mixed with later pages" if lost.mixed and said == "ok" else said.splitlines()[-1]
    wal = f"{path}-wal"
    event(
        logger, logging.ERROR, "sqlite.wal-damaged", file=wal, lost_pages=lost.pages, check=check, hint=HINT
    )
    if check != "ok":
        sentence = (
            f"{path} is damaged, as its WAL lost {lost.pages} pages ({check}): "
            f"restore a backup, and remove {path}{MARK}"
        )
        with suppress(OSError):
            Path(path + MARK).write_text(f"{sentence}\n")
        connection.close()
        raise OperationalError(sentence)
