"""The write gate: one writer at a time, and nobody twice before who waits first."""

from __future__ import annotations

import fcntl
import os
import struct
import time
from contextlib import suppress
from datetime import timedelta

from django.db import OperationalError

PATIENCE = timedelta(seconds=5)
STEP = timedelta(milliseconds=0.5)
IMPATIENCE = timedelta(seconds=0.25)  # after one of this process has waited in vain, until one gets through
COURTESY = timedelta(seconds=0.1)  # longer nobody waits behind one who waits: it may be a frozen process
DISCOURTESY = timedelta(seconds=1)  # so long nobody of this process waits behind it then
NOTE_BYTES = 1000


_passed_by: dict[str, float] = {}  # until when (monotonic), at gates where one who waits stood too long
_in_vain: set[str] = set()  # the gates that somebody of this process has given up, and nobody passed since


class Gate:
    """An flock on a file beside the database that each write transaction holds.

    SQLite's own busy wait backs off to 100 ms steps: beside a busy writer the others starve.
    Here they look in short, even steps, and the lock also says who may checkpoint. flock belongs
    to the open file, so that two connections of one process exclude each other too, and a dead
    process holds nothing.

    A writer that goes from one transaction into the next would still be faster than a step, time
    after time. So the place before the gate is a lock, too (of a byte of the same file): who waits
    stands there, alone, and who has just passed has to come by that place again.

    Where one has waited in vain the others of its process wait shortly: behind a writer that stays,
    requests would queue up, each to wait as long again.
    """

    def __init__(self, path: str, *, patience: timedelta = PATIENCE) -> None:
        self._path = path
        self._patience = patience
        self._file: int | None = None
        self.held = False

    def acquire(self) -> None:
        """Wait for the gate. Raises OperationalError when its patience ends; nothing was written then."""
        if self.held:
            return
        file = self._open()
        try:
            self._wait_for(file)
            _leave_place(file)
            self.held = True
        except BaseException:  # an interrupt may come just when the lock is ours
            self.held = False
            _leave_place(file)
            fcntl.flock(file, fcntl.LOCK_UN)
            raise

    def _wait_for(self, file: int) -> None:
        patience = min(self._patience, IMPATIENCE) if self._path in _in_vain else self._patience
        began = time.monotonic()
        deadline, courteous = began + patience.total_seconds(), began + COURTESY.total_seconds()
        first = _take_place(file) or began < _passed_by.get(self._path, 0.0)
        while not (first and _lock(file)):
            first = first or _take_place(file) or self._pass_by(courteous)
            if time.monotonic() > deadline:
                _in_vain.add(self._path)
                raise OperationalError(
                    f"database is busy: no turn to write within {patience.total_seconds():g} s"
                )
            time.sleep(STEP.total_seconds())
        _in_vain.discard(self._path)

    def _pass_by(self, courteous: float) -> bool:
        now = time.monotonic()
        if now > courteous:
            _passed_by[self._path] = now + DISCOURTESY.total_seconds()
        return now > courteous

    def release(self) -> None:
        if self.held and self._file is not None:
            fcntl.flock(self._file, fcntl.LOCK_UN)
        self.held = False

    def note(self) -> str:
        """What an earlier holder has left in the file, for whoever holds it now; mostly nothing."""
        return os.pread(self._open(), NOTE_BYTES, 0).decode(errors="replace")

    def leave_note(self, text: str) -> None:
        file = self._open()
        with suppress(OSError):  # on a full disk there is none
            os.ftruncate(file, 0)
            os.pwrite(file, text.encode(), 0)

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
        self._file, self.held = None, False

    def __del__(self) -> None:
        """Nobody closes the connection of a thread that has ended."""
        self.close()

    def _open(self) -> int:
        if self._file is None:
            try:
                self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            except OSError as error:  # a read-only disk, no file handle left
                raise OperationalError(f"cannot open {self._path}: {error.strerror}") from error
        return self._file


def _take_place(file: int) -> bool:
    """The lock of a byte, which belongs to the open file like a flock; neither knows of the other.

    Where a file system has no such locks, nobody stands before anybody, and chance decides.
    """
    try:
        fcntl.fcntl(file, fcntl.F_OFD_SETLK, _PLACE)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _leave_place(file: int) -> None:
    with suppress(OSError):
        fcntl.fcntl(file, fcntl.F_OFD_SETLK, _NO_PLACE)


_FLOCK = "hhqqi4x"  # type, whence, start, length, pid: fcntl(2)
_PLACE = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 1, 0)
_NO_PLACE = struct.pack(_FLOCK, fcntl.F_UNLCK, os.SEEK_SET, 0, 1, 0)


def _lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
