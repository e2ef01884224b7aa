"""gunicorn's threaded worker, for clients that are slow or talk nonsense: they keep nobody else waiting."""

from __future__ import annotations

import errno
import logging
import socket
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from selectors import EVENT_READ
from typing import Any, cast

from gunicorn.http import errors
from gunicorn.http.parser import RequestParser
from gunicorn.workers.gthread import TConn, ThreadWorker

from tasks.api import patience
from tasks.api.arrival import Arrival, Refused
from tasks.api.departures import READ_BYTES, Departures
from tasks.logs import event

logger = logging.getLogger("tasks.api")

ARRIVE_SECONDS = 20.0  # for a whole request, from its connection or its first byte
SEND_SECONDS = 5.0  # that a thread waits for a client to take what the kernel has no room for
MOMENT_SECONDS = 1.0  # that each connection gets, also where all are taken
SPARED_FILES = 50  # that are no connections: the database, the gate, a module
MAX_HELD_BYTES = 64 * 2**20  # of all requests that arrive or wait for a thread
SMALL_BYTES = 320 * 1024  # of a request: the head and a body that is no batch
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
        self._waiters: set[TConn] = set()
        self._as_many_again_at = float("inf")  # monotonic; after files were short

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:
        if cfg.is_ssl:
            sys.exit("gunicorn: TLS is not served here; let a proxy in front of the API speak it.")

    def init_process(self) -> None:
        self._patient = ThreadPoolExecutor(patience.WAITERS, thread_name_prefix=patience.THREADS)
        super().init_process()

    def load_wsgi(self) -> None:
        super().load_wsgi()
        from tasks import totals  # in the worker only: the arbiter needs no models
        from tasks.api import authentication, connections

        self._departures = Departures(self.poller, self._one_less)
        connections.limit_waits()
        totals.begin()
        authentication.decide(listener.getsockname() for listener in self.sockets)

    # -- in the main thread, which must not wait

    def accept(self, listener: Any) -> None:
        try:
            super().accept(listener)
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
            event(logger, logging.WARNING, "api.no-more-files", connections=self.nr_conns)
            # room is made a moment later: here, in the midst of a round, its other events are still to come
            self.worker_connections = max(1, self.nr_conns - SPARED_FILES)
            self._as_many_again_at = time.monotonic() + 5 * MOMENT_SECONDS

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
            self._departures.add(conn.sock)
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
        held = self._held.get(conn, 0) + size
        # large ones share the half of it, lest a few of them keep everybody else out
        most = MAX_HELD_BYTES if held <= SMALL_BYTES else MAX_HELD_BYTES // 2
        if size and self._held_bytes + size > most:
            raise Refused(*CROWDED)
        self._held[conn] = held
        self._held_bytes += size

    def _hand_over(self, conn: TConn) -> None:
        arrival = self._arrivals.pop(conn)
        if not arrival.data:
            self._hang_up(conn)
            return
        _parser(conn).unreader.unread(bytes(arrival.data))
        if self._may_wait(arrival):
            self._waiters.add(conn)
            self._submit(self._patient, conn)
        else:
            self._submit(self.tpool, conn)

    def _may_wait(self, arrival: Arrival) -> bool:
        there_is_room = self.alive and len(self._waiters) < patience.WAITERS
        return there_is_room and patience.wants_to_wait(arrival.head)

    def _submit(self, threads: ThreadPoolExecutor, conn: TConn) -> None:
        future = threads.submit(self.handle, conn)
        future.add_done_callback(lambda done: self.method_queue.defer(self.finish_request, conn, done))

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
        self._departures.add(conn.sock)

    def murder_pending(self) -> None:
        """Called in each round of the main loop: give up on what takes too long."""
        now = time.monotonic()
        while self.pending_conns and _timeout_of(self.pending_conns[0]) <= now:
            self._give_up(self.pending_conns[0], Refused(*LATE))
        self._departures.close_late_ones()
        if now >= self._as_many_again_at:  # files may have been short for another reason than connections
            self.worker_connections, self._as_many_again_at = self.cfg.worker_connections, float("inf")
        self._make_room()
        if not self.alive:
            self._let_nobody_wait()
            for conn in [conn for conn in self.pending_conns if not self._arrivals[conn].data]:
                self._give_up(conn, Refused(*LATE))

    def _let_nobody_wait(self) -> None:
        from tasks.api import waiting  # as above

        waiting.close()

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

    def _one_less(self) -> None:
        self.nr_conns -= 1

    def _make_room(self) -> None:
        """Where all connections are taken those go that wait for least. If none does, nobody is accepted."""
        while self.nr_conns >= self.worker_connections:
            if self._departures:
                self._departures.close_oldest()
            elif self.pending_conns and _age_of(self.pending_conns[0]) > MOMENT_SECONDS:
                self._give_up(self.pending_conns[0], Refused(*CROWDED))
            else:
                return

    def finish_request(self, conn: TConn, future: Future[Any]) -> None:
        """A thread has answered. The connection serves another request, or is closed."""
        self._forget(conn)
        self._waiters.discard(conn)
        if future.cancelled() or future.exception() or not future.result():
            self._departures.add(conn.sock)
        else:
            super().finish_request(conn, future)

    # -- in the threads

    def handle_request(self, req: Any, conn: TConn) -> bool:
        from tasks.api import waiting  # as above

        conn.sock.settimeout(SEND_SECONDS)
        try:
            with waiting.seated():
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
