"""gunicorn's threaded worker, for clients that are slow or talk nonsense: they keep nobody else waiting."""

from __future__ import annotations

import errno
import logging
import socket
import sys
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

from tasks.api.arrival import Arrival, Refused
from tasks.logs import event

logger = logging.getLogger("tasks.api")

ARRIVE_SECONDS = 20.0  # for a whole request, from its connection or its first byte
SEND_SECONDS = 5.0  # that a thread waits for a client to take what the kernel has no room for
LINGER_SECONDS = 2.0  # after the answer, for the client to close its end: RFC 9112, section 9.6
MOMENT_SECONDS = 1.0  # that each connection gets, also where all are taken
SPARED_FILES = 50  # that are no connections: the database, the gate, a module
READ_BYTES = 256 * 1024
MAX_HELD_BYTES = 64 * 2**20  # of all requests that arrive or wait for a thread
GO_ON = b"HTTP/1.1 100 Continue\r\n\r\n"
LATE = (408, "The request did not arrive whole in time; send it again.")
CROWDED = (503, "Too many requests arrive at once; try again.")

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
    """A request goes to a thread when all of it is here, and no thread waits for a connection to close.

    ThreadWorker gives a thread to each connection that says something, and the thread waits for
    the rest, however long that takes: eight half-sent bodies would stop everything. And it waits
    in its main thread for clients that don't close their end. What is left is an answer of
    megabytes that nobody takes: it holds its thread for ``SEND_SECONDS``.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._arrivals: dict[TConn, Arrival] = {}
        self._held: dict[TConn, int] = {}  # bytes, until the answer
        self._held_bytes = 0
        self._lingering: deque[Lingering] = deque()  # sorted by time

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:
        if cfg.is_ssl:
            sys.exit("gunicorn: TLS is not served here; let a proxy in front of the API speak it.")

    def load_wsgi(self) -> None:
        super().load_wsgi()
        from tasks.api import authentication, connections  # in the worker only: the arbiter needs no models

        connections.limit_waits()
        authentication.decide(listener.getsockname() for listener in self.sockets)

    # -- in the main thread, which must not wait

    def accept(self, listener: Any) -> None:
        try:
            super().accept(listener)
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
            event(logger, logging.WARNING, "api.no-more-files", connections=self.nr_conns)
            self.worker_connections = max(1, self.nr_conns - SPARED_FILES)
            self._make_room()

    def enqueue_req(self, conn: TConn) -> None:
        """A request begins on this connection, or will."""
        try:
            conn.init()
            conn.sock.setblocking(False)
            self._arrivals[conn] = _new_arrival()
            self._take(conn, _parser(conn).unreader.take_buffered())
            if self._is_ready(conn):
                self._hand_over(conn)
                return
            self.poller.register(conn.sock, EVENT_READ, partial(self.on_pending_socket_readable, conn))
        except Refused as refused:
            self._refuse(conn, refused)
            return
        except (OSError, ValueError, KeyError):  # closed meanwhile
            self._forget(conn)
            self._linger(conn)
            return
        conn.timeout = time.monotonic() + ARRIVE_SECONDS
        self.pending_conns.append(conn)

    def on_pending_socket_readable(self, conn: TConn, client: socket.socket) -> None:
        try:
            if not self._is_ready(conn):
                return
        except Refused as refused:
            self._unpend(conn)
            self._refuse(conn, refused)
            return
        self._unpend(conn)
        self._hand_over(conn)

    def _is_ready(self, conn: TConn) -> bool:
        """Read what is there. True: there is nothing to wait for. Raises Refused."""
        if self._arrivals[conn].complete:
            return True
        try:
            data = conn.sock.recv(READ_BYTES)
        except BlockingIOError:
            return False
        except OSError:  # its other end is gone, as below
            data = b""
        self._take(conn, data)
        return not data or self._arrivals[conn].complete

    def _take(self, conn: TConn, data: bytes) -> None:
        arrival = self._arrivals[conn]
        self._hold(conn, len(data))
        told = arrival.expects_word
        arrival.feed(data)
        if arrival.expects_word and not told and not arrival.complete:
            with suppress(OSError):
                conn.sock.send(GO_ON)

    def _hold(self, conn: TConn, size: int) -> None:
        if size and self._held_bytes + size > MAX_HELD_BYTES:
            raise Refused(*CROWDED)
        self._held[conn] = self._held.get(conn, 0) + size
        self._held_bytes += size

    def _hand_over(self, conn: TConn) -> None:
        arrival = self._arrivals.pop(conn)
        if not arrival.data:
            self._hang_up(conn)
            return
        _parser(conn).unreader.unread(bytes(arrival.data))
        super().enqueue_req(conn)

    def _forget(self, conn: TConn) -> None:
        self._arrivals.pop(conn, None)
        self._held_bytes -= self._held.pop(conn, 0)

    def _unpend(self, conn: TConn) -> None:
        self.poller.unregister(conn.sock)
        self.pending_conns.remove(conn)

    def _refuse(self, conn: TConn, refused: Refused) -> None:
        kind = {413: "too-large", 503: "unavailable"}.get(refused.status, "bad-request")
        _send_problem(conn.sock, kind, str(refused), status=refused.status)
        self._forget(conn)
        self._linger(conn)

    def murder_pending(self) -> None:
        """Called in each round of the main loop: give up on what takes too long."""
        now = time.monotonic()
        while self.pending_conns and _timeout_of(self.pending_conns[0]) <= now:
            self._give_up(self.pending_conns[0], Refused(*LATE))
        while self._lingering and self._lingering[0].until <= now:
            self._close(self._lingering[0])
        self._make_room()
        if not self.alive:
            for conn in [conn for conn in self.pending_conns if not self._arrivals[conn].data]:
                self._give_up(conn, Refused(*LATE))

    def _give_up(self, conn: TConn, refused: Refused) -> None:
        self._unpend(conn)
        if self._arrivals[conn].data:
            self._refuse(conn, refused)
        else:
            self._hang_up(conn)

    def _hang_up(self, conn: TConn) -> None:
        """It has left, or never said anything: there is no answer that could be lost."""
        self._forget(conn)
        conn.sock.close()
        self.nr_conns -= 1

    def _make_room(self) -> None:
        """Where all connections are taken those go that wait for least. If none does, nobody is accepted."""
        while self.nr_conns >= self.worker_connections:
            if self._lingering:
                self._close(self._lingering[0])
            elif self.pending_conns and _age_of(self.pending_conns[0]) > MOMENT_SECONDS:
                self._give_up(self.pending_conns[0], Refused(*CROWDED))
            else:
                return

    def finish_request(self, conn: TConn, future: Future[Any]) -> None:
        """A thread has answered. The connection serves another request, or is closed."""
        self._forget(conn)
        if future.cancelled() or future.exception() or not future.result():
            self._linger(conn)
        else:
            super().finish_request(conn, future)

    def _linger(self, conn: TConn) -> None:
        """Say that no more comes, then wait for the other end, lest the answer is lost with a reset."""
        lingering = Lingering(conn.sock, time.monotonic() + LINGER_SECONDS)
        self._lingering.append(lingering)
        try:
            conn.sock.setblocking(False)
            conn.sock.shutdown(socket.SHUT_WR)
            self.poller.register(conn.sock, EVENT_READ, lambda _: self._drain(lingering))
        except (OSError, ValueError, KeyError):  # closed already, by either side
            self._close(lingering)

    def _drain(self, lingering: Lingering) -> None:
        try:
            if lingering.sock.recv(READ_BYTES):
                return
        except BlockingIOError:
            return
        except OSError:  # whatever has become of it, it is over
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
        conn.sock.settimeout(SEND_SECONDS)
        try:
            return bool(super().handle_request(req, conn))
        except TimeoutError:
            event(logger, logging.INFO, "api.answer-not-taken", client=_address(conn.client))
            return False

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: BaseException) -> None:
        """What gunicorn refuses itself."""
        if isinstance(exc, errors.ParseException) and type(exc).__name__ not in OURS:
            event(logger, logging.WARNING, "api.refused", client=_address(addr), reason=exc)
            _send_problem(client, "bad-request", f"{exc}", status=STATUS.get(type(exc), 400))
        else:
            logger.error("api.failed", exc_info=exc)
            _send_problem(client, "internal-error", "Something went wrong here; the log says what.")


def _parser(conn: TConn) -> RequestParser:
    return cast("RequestParser", conn.parser)  # no other speaks HTTP/1


def _timeout_of(conn: TConn) -> float:
    return conn.timeout or 0.0


def _age_of(pending: TConn) -> float:
    """Seconds."""
    return time.monotonic() - (_timeout_of(pending) - ARRIVE_SECONDS)


def _send_problem(client: socket.socket, code: str, detail: str, *, status: int | None = None) -> None:
    """To a client whose request never came to a view."""
    from tasks.api.problems import problem, retry_after

    answer = problem(code, detail, status=status, headers={"Connection": "close", **retry_after(code)})
    head = f"HTTP/1.1 {answer.status_code} {answer.reason_phrase}\r\n".encode()
    with suppress(OSError):  # it may be gone, or take nothing
        client.send(head + answer.serialize())


def _address(address: Any) -> str:
    return str(address[0]) if isinstance(address, tuple) and address else ""


def _new_arrival() -> Arrival:
    from tasks.api import bodies  # in the worker only: the arbiter needs no API

    larger = {bodies.BATCH_PATH.encode(): bodies.MAX_BATCH_BYTES}
    return Arrival(max_body_bytes=bodies.MAX_BODY_BYTES, larger=larger)
