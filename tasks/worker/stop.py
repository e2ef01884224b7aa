"""When to end: signals, counted, that end the sleep of a process."""

from __future__ import annotations

import select
import signal
import socket
import time
from types import FrameType

STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)
SAME_SECONDS = 1.0  # a signal that comes this soon after the first may be the same one, sent twice


class StopSignals:
    """Counts the signals that ask for an end; a selector wakes on ``fileno()``.

    The first asks for one with grace; another, or SIGQUIT, for one at once.

    The handler only counts: taking a lock there (as ``threading.Event`` does) can
    deadlock with the code it interrupted. The wake-up byte is written by the
    interpreter itself, see ``signal.set_wakeup_fd``.
    """

    def __init__(self) -> None:
        self.wanted = False  # stop, with grace
        self.at_once = False  # without
        self.first: signal.Signals | None = None
        self._first_at = 0.0
        self._awake, self._alarm = socket.socketpair()
        self._awake.setblocking(False)
        self._alarm.setblocking(False)

    def install(self) -> None:
        """From the main thread only, as Python demands."""
        signal.set_wakeup_fd(self._alarm.fileno(), warn_on_full_buffer=False)
        for number in STOPS:
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup stays in force
                signal.signal(number, self._count)

    def _count(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if number == signal.SIGQUIT or (self.wanted and now - self._first_at > SAME_SECONDS):
            self.at_once = True
        if not self.wanted:
            self._first_at, self.first = now, signal.Signals(number)
        self.wanted = True

    def wait(self, seconds: float | None = None) -> None:
        """Return at the next signal, or when the time is over; perhaps sooner."""
        select.select([self], [], [], seconds)
        self.drain()

    def fileno(self) -> int:
        return self._awake.fileno()

    def drain(self) -> None:
        try:
            while self._awake.recv(4096):
                pass
        except BlockingIOError:
            pass
