"""gunicorn's threaded worker, for clients that are slow or talk nonsense: they cost the others nothing."""

from __future__ import annotations

import logging
import socket
import time
from collections import deque
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from selectors import EVENT_READ
from typing import Any, cast

from gunicorn.http import errors
from gunicorn.http.parser import RequestParser
from gunicorn.workers.gthread import TConn, ThreadWorker

from tasks.logs import event
from taskservice.arrival import MAX_HEAD_BYTES, Arrival

logger = logging.getLogger("taskservice.api")

ARRIVE_SECONDS = 20.0  # for a whole request, from its connection or its first byte
TURN_SECONDS = 20.0  # that a thread waits for a client, at most, to take an answer for example
LINGER_SECONDS = 2.0  # after the answer, for the client to close its end: RFC 9112, section 9.6
READ_BYTES = 256 * 1024
MAX_ARRIVING_BYTES = 64 * 2**20  # of all requests that are not complete yet
GO_ON = b"HTTP/1.1 100 Continue\r\n\r\n"

STATUS = {
    errors.ForbiddenProxyRequest: 403,
    errors.LimitRequestLine: 414,
    errors.ExpectationFailed: 417,
    errors.LimitRequestHeaders: 431,
    errors.UnsupportedTransferCoding: 501,
}
OURS = ("InvalidResponseHeader", "InvalidResponseHeaderName")  # of an answer; the stubs don't know them


@dataclass(slots=True)
class Lingering:
    sock: socket.socket
    until: float  # monotonic


class ApiWorker(ThreadWorker):
    """A request goes to a thread when all of it is here, and its connection waits in none to be closed.

    ThreadWorker gives a thread to each connection that says something, and the thread waits for
    the rest, however long that takes: eight half-sent bodies would stop everything. And it waits
    in its main thread for clients that don't close their end.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._arrivals: dict[TConn, Arrival] = {}
        self._arriving_bytes = 0
        self._incomplete: set[TConn] = set()  # handed over all the same
        self._lingering: deque[Lingering] = deque()  # sorted by time

    # -- in the main thread, which must not wait

    def enqueue_req(self, conn: TConn) -> None:
        """A request begins on this connection, or will."""
        if self.cfg.is_ssl:  # what comes is not what could be counted
            super().enqueue_req(conn)
            return
        conn.init()
        conn.sock.setblocking(False)
        self._arrivals[conn] = Arrival(max_body_bytes=_max_body_bytes())
        self._take(conn, _parser(conn).unreader.take_buffered())
        if self._is_ready(conn):
            self._hand_over(conn)
        else:
            conn.timeout = time.monotonic() + ARRIVE_SECONDS
            self.pending_conns.append(conn)
            self.poller.register(conn.sock, EVENT_READ, partial(self.on_pending_socket_readable, conn))

    def on_pending_socket_readable(self, conn: TConn, client: socket.socket) -> None:
        if self._is_ready(conn):
            self._unpend(conn)
            self._hand_over(conn)

    def _is_ready(self, conn: TConn) -> bool:
        """Read what is there. True: a thread can go on without waiting for the client."""
        if self._arrivals[conn].ready:
            return True
        try:
            data = conn.sock.recv(READ_BYTES)
        except BlockingIOError:
            return False
        except OSError:  # the thread will see
            return True
        self._take(conn, data)
        return not data or self._arrivals[conn].ready

    def _take(self, conn: TConn, data: bytes) -> None:
        arrival = self._arrivals[conn]
        told, before = arrival.expects_word, len(arrival.data)
        arrival.feed(data)
        self._arriving_bytes += len(arrival.data) - before
        if arrival.expects_word and not told and not arrival.ready:
            with suppress(OSError):
                conn.sock.send(GO_ON)

    def _hand_over(self, conn: TConn) -> None:
        if self._arrivals[conn].endless:  # gunicorn's parser would wait for its end
            self._refuse(conn, f"The head of a request may have {MAX_HEAD_BYTES:,} bytes.", status=431)
            return
        arrival = self._forget(conn)
        if not arrival.data:  # it has left
            self._linger(conn, 0.0)
            return
        _parser(conn).unreader.unread(bytes(arrival.data))
        if not arrival.complete:
            self._incomplete.add(conn)
        super().enqueue_req(conn)

    def _forget(self, conn: TConn) -> Arrival:
        arrival = self._arrivals.pop(conn)
        self._arriving_bytes -= len(arrival.data)
        return arrival

    def _unpend(self, conn: TConn) -> None:
        self.poller.unregister(conn.sock)
        self.pending_conns.remove(conn)

    def murder_pending(self) -> None:
        """Give up on those that take too long, the oldest also when there are too many."""
        now = time.monotonic()
        while self.pending_conns and (self._crowded or _is_late(self.pending_conns[0], now)):
            conn, seconds = self.pending_conns[0], 0.0 if self._crowded else LINGER_SECONDS
            self._unpend(conn)
            detail = "The request did not arrive whole in time; send it again."
            self._refuse(conn, detail, status=408, linger_seconds=seconds)
        while self._lingering and self._lingering[0].until <= now:
            self._close(self._lingering[0])

    def _refuse(
        self, conn: TConn, detail: str, *, status: int, linger_seconds: float = LINGER_SECONDS
    ) -> None:
        if self._forget(conn).data:
            _send_problem(conn.sock, "bad-request", detail, status=status)
        self._linger(conn, linger_seconds)

    @property
    def _crowded(self) -> bool:
        return self._arriving_bytes > MAX_ARRIVING_BYTES or self.nr_conns >= self.worker_connections

    def finish_request(self, conn: TConn, future: Future[Any]) -> None:
        """A thread has answered. The connection serves another request, or is closed."""
        self._incomplete.discard(conn)
        if future.cancelled() or future.exception() or not future.result():
            self._linger(conn)
        else:
            super().finish_request(conn, future)

    def _linger(self, conn: TConn, seconds: float = LINGER_SECONDS) -> None:
        """Say that no more comes, then wait for the other end, lest the answer is lost with a reset."""
        lingering = Lingering(conn.sock, time.monotonic() + seconds)
        self._lingering.append(lingering)
        if not seconds:
            self._close(lingering)
            return
        try:
            conn.sock.setblocking(False)
            conn.sock.shutdown(socket.SHUT_WR)
            self.poller.register(conn.sock, EVENT_READ, lambda _: self._drain(lingering))
        except (OSError, ValueError):  # closed already, by either side
            self._close(lingering)

    def _drain(self, lingering: Lingering) -> None:
        with suppress(BlockingIOError):
            try:
                if lingering.sock.recv(READ_BYTES):
                    return
            except ConnectionError:
                pass
            self._close(lingering)

    def _close(self, lingering: Lingering) -> None:
        self._lingering.remove(lingering)
        with suppress(OSError, KeyError, ValueError):  # it never was in there
            self.poller.unregister(lingering.sock)
        lingering.sock.close()
        self.nr_conns -= 1

    # -- in the threads

    def handle_request(self, req: Any, conn: TConn) -> bool:
        conn.sock.settimeout(TURN_SECONDS)
        if conn in self._incomplete:  # what is still to come of it is no next request
            req.force_close()
        try:
            return bool(super().handle_request(req, conn))
        except TimeoutError:
            event(logger, logging.INFO, "api.client-too-slow", client=_address(conn.client))
            return False

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: BaseException) -> None:
        """What gunicorn refuses itself."""
        if isinstance(exc, errors.ParseException) and type(exc).__name__ not in OURS:
            event(logger, logging.WARNING, "api.refused", client=_address(addr), reason=exc)
            _send_problem(client, "bad-request", f"{exc}", status=STATUS.get(type(exc), 400))
        else:
            logger.error("A request failed.", exc_info=exc)
            _send_problem(client, "internal-error", "Something went wrong here; the log says what.")


def _parser(conn: TConn) -> RequestParser:
    return cast("RequestParser", conn.parser)  # no other speaks HTTP/1


def _is_late(conn: TConn, now: float) -> bool:
    return conn.timeout is not None and conn.timeout <= now


def _send_problem(client: socket.socket, code: str, detail: str, *, status: int | None = None) -> None:
    from tasks.api.problems import problem

    answer = problem(code, detail, status=status, headers={"Connection": "close"})
    head = f"HTTP/1.1 {answer.status_code} {answer.reason_phrase}\r\n".encode()
    with suppress(OSError):  # it may be gone, or take nothing
        client.send(head + answer.serialize())


def _address(address: Any) -> str:
    return str(address[0]) if isinstance(address, tuple) and address else ""


def _max_body_bytes() -> int:
    from tasks.api.bodies import MAX_BODY_BYTES  # in the worker only: the arbiter needs no API

    return MAX_BODY_BYTES
