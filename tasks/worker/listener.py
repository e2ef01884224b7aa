"""Who rings on PostgreSQL: a line of its own, on which a thread of its own listens."""

from __future__ import annotations

import logging
import random
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from tasks.logs import event
from tasks.postgres import RING_EVERY_SECONDS
from tasks.worker.lines import Line

logger = logging.getLogger("tasks.dispatcher")

AGAIN_SECONDS = 2 * RING_EVERY_SECONDS  # after a ring: writers leave out those that follow at once
CHECK_SECONDS = 1.0  # in which it must hear itself
POLL_SECONDS = 1.0
DEAF_POLL_SECONDS = 0.2
LOOK_SECONDS = 1.0  # after which it looks whether it has been closed
RECONNECT_SECONDS = (0.1, 0.5, 1.0, 2.0)


class Listener:
    """Readable when somebody has committed something that a worker waits for; see ``tasks.bell``.

    Connecting and listening take as long as they take, which is why the loop leaves them to a thread.
    """

    def __init__(self, open_line: Callable[[], Line]) -> None:
        self.poll_seconds = POLL_SECONDS
        self._open_line = open_line
        self._ear, self._mouth = socket.socketpair()
        self._ear.setblocking(False)
        self._mouth.setblocking(False)
        self._closed = False
        self._told = False  # that it hears nothing
        self._failures = 0
        threading.Thread(target=self._work, name="listener", daemon=True).start()

    def fileno(self) -> int:
        return self._ear.fileno()

    def drain(self) -> None:
        with suppress(BlockingIOError):
            while self._ear.recv(4096):
                pass

    def close(self) -> None:
        """The thread ends a moment later."""
        self._closed = True

    # -- in the thread

    def _ring(self) -> None:
        with suppress(BlockingIOError):  # full: it rings already
            self._mouth.send(b"!")

    def _work(self) -> None:
        while not self._closed:
            try:
                with self._open_line() as line:
                    self._check(line)
                    self._listen(line)
            except Exception as error:  # of whichever driver: this thread must live
                self._lost(error)

    def _check(self, line: Line) -> None:
        """A pooler may take LISTEN and never deliver: ring by another connection, and hear it."""
        line.ring()
        heard = line.heard(within=CHECK_SECONDS)
        self.poll_seconds = POLL_SECONDS if heard else DEAF_POLL_SECONDS
        if not heard and not self._told:
            self._told = True
            event(logger, logging.WARNING, "bell.deaf", poll_seconds=DEAF_POLL_SECONDS, hint=HINT)
        self._failures = 0
        self._ring()  # somebody may have rung before we heard

    def _listen(self, line: Line) -> None:
        again_at = 0.0  # monotonic; 0: there was no ring just now
        while not self._closed:
            patience = max(0.0, again_at - time.monotonic()) if again_at else LOOK_SECONDS
            if line.heard(within=patience):
                self._ring()
                again_at = again_at or time.monotonic() + AGAIN_SECONDS
            if again_at and time.monotonic() >= again_at:
                self._ring()
                again_at = 0.0

    def _lost(self, error: Exception) -> None:
        self.poll_seconds = DEAF_POLL_SECONDS
        if not self._failures:
            event(logger, logging.WARNING, "bell.lost", error=" ".join(str(error).split()))
        pause = RECONNECT_SECONDS[min(self._failures, len(RECONNECT_SECONDS) - 1)]
        self._failures += 1
        time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - so that many don't come back at once


HINT = (
    "LISTEN is not heard here, as behind PgBouncer in transaction mode; "
    "TASKSERVICE_LISTEN_URL may name a direct connection, or REDIS_URL a Redis that rings instead."
)
