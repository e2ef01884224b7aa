"""Empties the WAL: who tries when, how long it waits for readers, and what is said of one that stays."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import time
from contextlib import suppress
from dataclasses import astuple, dataclass, replace

from tasks.logs import event
from tasks.sqlite.gate import Gate

logger = logging.getLogger("tasks.sqlite")

PATIENCE = 0.1  # seconds that a checkpoint waits for readers, with the gate in hand
LONGEST_PATIENCE = 0.5
PAUSE = 0.1  # seconds after a checkpoint that was refused, twice as long after the next
LONGEST_PAUSE = 2.0
WARN_AFTER_TRIES = 8  # in a row, about seven seconds
READ_LOCKS = range(123, 128)  # bytes of the -shm that SQLite's readers lock

HINT = (
    "A reader stays in its transaction, so the WAL cannot be emptied: let it end, "
    "be it a sqlite3 shell, a long query or a backup."
)


@dataclass(frozen=True, slots=True)
class Refusal:
    """What came of the last tries, with readers in the way. The gate keeps it, for all processes.

    Times are monotonic, which the processes of a machine share. A try holds the gate, so tries are few: none
    within the pause. Where readers come and go, a longer wait is worth it; for one that stays, none is.
    """

    since: float
    at: float
    tries: int
    written_back: int  # frames of the WAL
    moved: bool = True  # since the try before
    told: bool = False

    @classmethod
    def read(cls, note: str) -> Refusal | None:
        with suppress(ValueError, TypeError):
            return cls(*json.loads(note))
        return None

    def is_due(self, now: float) -> bool:
        pause = min(PAUSE * 2 ** min(self.tries - 1, 10), LONGEST_PAUSE)
        return not self.at <= now < self.at + pause  # earlier than that try: the machine has started anew

    @property
    def patience(self) -> float:
        return min(PATIENCE * 2 ** min(self.tries, 10), LONGEST_PATIENCE) if self.moved else 0

    def again(self, now: float, written_back: int) -> Refusal:
        moved = written_back != self.written_back
        return replace(self, at=now, tries=self.tries + 1, written_back=written_back, moved=moved)

    def is_worth_a_word(self) -> bool:
        """After 8 tries, 16, 32 and so on: less and less often."""
        return self.tries >= WARN_AFTER_TRIES and self.tries & (self.tries - 1) == 0


class Wal:
    """The write-ahead log of one SQLite file; emptied by the holder of its gate alone."""

    def __init__(self, path: str, gate: Gate) -> None:
        self._path = path
        self._gate = gate

    def bytes(self) -> int:
        try:
            return os.stat(self._path + "-wal").st_size
        except FileNotFoundError:
            return 0

    def empty(self, connection: sqlite3.Connection, *, patience: float = PATIENCE) -> int | None:
        """Write it back and empty it. None when that was done, else how many frames could be written back."""
        run = connection.execute
        [busy_timeout] = run("PRAGMA busy_timeout").fetchone()
        run(f"PRAGMA busy_timeout={round(patience * 1000)}")
        try:
            busy, _, written_back = run("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.Error:  # locked, or no space: the next one tries again
            return -1
        finally:
            run(f"PRAGMA busy_timeout={busy_timeout}")
        return int(written_back) if busy else None

    def empty_if_due(self, connection: sqlite3.Connection, *, warn_above_bytes: int) -> bool:
        """The same, unless one was refused just now: nobody gains from trying with every commit."""
        before = Refusal.read(self._gate.note())
        now = time.monotonic()
        if before and not before.is_due(now):
            return False
        written_back = self.empty(connection, patience=before.patience if before else PATIENCE)
        if written_back is None:
            self._tell_emptied(before, now)
            return True
        refusal = before.again(now, written_back) if before else Refusal(now, now, 1, written_back)
        if refusal.is_worth_a_word() and self.bytes() > warn_above_bytes:
            refusal = replace(refusal, told=True)
            self._tell_pinned(refusal)
        self._gate.leave_note(json.dumps(astuple(refusal)))
        return False

    def _tell_emptied(self, before: Refusal | None, now: float) -> None:
        if before is None:
            return
        self._gate.leave_note("")
        if before.told:
            event(logger, logging.INFO, "sqlite.wal-emptied", after_seconds=round(now - before.since))

    def _tell_pinned(self, refusal: Refusal) -> None:
        event(
            logger,
            logging.WARNING,
            "sqlite.wal-pinned",
            megabytes=round(self.bytes() / 1e6, 1),
            for_seconds=round(refusal.at - refusal.since),
            readers=",".join(map(str, readers(self._path))) or None,
            hint=HINT,
        )


def readers(path: str) -> list[int]:
    """The processes that are in a read transaction, as far as the kernel tells."""
    with suppress(OSError, ValueError):
        inode = str(os.stat(path + "-shm").st_ino)
        with open("/proc/locks") as file:
            locks = [line.split() for line in file]
        held = [lock for lock in locks if lock[-3].endswith(f":{inode}") and int(lock[-2]) in READ_LOCKS]
        return sorted({int(lock[-4]) for lock in held} - {os.getpid(), 0, -1})
    return []


def is_foreign(path: str) -> bool:
    """Does the WAL belong to another file, in whose place a copy was put? Then it would destroy this one.

    A database that has a WAL says so in its header; a backup, as ``backup`` makes it, says it has none.
    """
    with suppress(OSError):
        return os.stat(path + "-wal").st_size > 0 and _header(path)[18:20] == b"\1\1"
    return False


def _header(path: str) -> bytes:
    """Through a file that SQLite has open: to open and close another one would drop its locks."""
    wanted = os.stat(path)
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            if os.path.samestat(os.fstat(int(name)), wanted):
                return os.pread(int(name), 100, 0)
    return b""
