"""Signals -> a count that ends the sleep."""

from __future__ import annotations

import signal
import socket
import time
from types import FrameType

SAME_SECONDS = 1.0  # a signal that comes this soon after the first may be the same one, sent twice


class StopSignals:
    """Counts SIGTERM, SIGINT and SIGQUIT; the dispatcher's selector wakes on ``fileno()``.

    The handler only counts: taking a lock there (as ``threading.Event`` does) can
    deadlock with the code it interrupted. The wake-up byte is written by the
    interpreter itself, see ``signal.set_wakeup_fd``.
    """

    def __init__(self) -> None:
        self.wanted = False  # stop, with grace
        self.at_once = False  # without
        self._first = 0.0
        self._awake, self._alarm = socket.socketpair()
        self._awake.setblocking(False)
        self._alarm.setblocking(False)

    def install(self) -> None:
        """From the main thread only, as Python demands."""
        signal.set_wakeup_fd(self._alarm.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, self._count)

    def _count(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if number == signal.SIGQUIT or (self.wanted and now - self._first > SAME_SECONDS):
            self.at_once = True
        if not self.wanted:
            self._first = now
        self.wanted = True

    def fileno(self) -> int:
        return self._awake.fileno()

    def drain(self) -> None:
        try:
            while self._awake.recv(4096):
                pass
        except BlockingIOError:
            pass
