"""Who rings: what a bell is, and the one that is a FIFO beside an SQLite file."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import Protocol


class Rings(Protocol):
    """Readable when somebody has committed something that a worker waits for; see ``tasks.bell``."""

    poll_seconds: float  # the longest that it is waited for

    def fileno(self) -> int: ...

    def drain(self) -> None: ...


class Bell:
    """A FIFO beside an SQLite file."""

    poll_seconds = 1.0

    def __init__(self, path: str) -> None:
        """Raises OSError when there can be no FIFO at this path."""
        with suppress(FileExistsError):
            os.mkfifo(path, 0o666)
        if not stat.S_ISFIFO(os.stat(path).st_mode):
            raise FileExistsError(f"{path} is not a FIFO")
        # also for writing: without a writer it would be readable for ever
        self._file = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def fileno(self) -> int:
        return self._file

    def drain(self) -> None:
        with suppress(BlockingIOError):
            while os.read(self._file, 65536):
                pass

    def close(self) -> None:
        os.close(self._file)
