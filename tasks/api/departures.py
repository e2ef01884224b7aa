"""Connections that are about to be closed, and whose clients may still be reading the answer."""

from __future__ import annotations

import socket
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from selectors import EVENT_READ, BaseSelector

LINGER_SECONDS = 2.0  # for the client to close its end: RFC 9112, section 9.6
READ_BYTES = 256 * 1024


@dataclass(slots=True, eq=False)
class Departure:
    sock: socket.socket
    until: float  # monotonic


class Departures:
    """``closed`` is called for each that is over. Nothing here waits."""

    def __init__(self, poller: BaseSelector, closed: Callable[[], None]) -> None:
        self._poller = poller
        self._closed = closed
        self._waiting: deque[Departure] = deque()  # sorted by time

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, sock: socket.socket) -> None:
        """Say that no more comes, then wait for the other end, lest the answer is lost with a reset."""
        departure = Departure(sock, time.monotonic() + LINGER_SECONDS)
        self._waiting.append(departure)
        try:
            sock.setblocking(False)
            sock.shutdown(socket.SHUT_WR)
            self._poller.register(sock, EVENT_READ, lambda _: self._drain(departure))
        except (OSError, ValueError, KeyError):  # closed already, by either side
            self._close(departure)

    def close_late_ones(self) -> None:
        while self._waiting and self._waiting[0].until <= time.monotonic():
            self._close(self._waiting[0])

    def close_oldest(self) -> None:
        self._close(self._waiting[0])

    def _drain(self, departure: Departure) -> None:
        try:
            if departure.sock.recv(READ_BYTES):
                return
        except BlockingIOError:
            return
        except OSError:  # whatever has become of it, it is over
            pass
        self._close(departure)

    def _close(self, departure: Departure) -> None:
        if departure not in self._waiting:  # closed a moment ago, in the same round of events
            return
        self._waiting.remove(departure)
        with suppress(OSError, KeyError, ValueError):  # it never was in there
            self._poller.unregister(departure.sock)
        departure.sock.close()
        self._closed()
