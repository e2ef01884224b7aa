"""A child of the dispatcher: runs one handler at a time and reports what came of each."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from setproctitle import setproctitle

from tasks import logs, registry, tally, tracing
from tasks.context import context_of
from tasks.contract import (
    ErrorReport,
    Failed,
    Lease,
    Outcome,
    Released,
    Succeeded,
    lease_from_wire,
    outcome_to_wire,
)
from tasks.errors import UnknownHandler
from tasks.worker import child, counted, running, telling, wire
from tasks.worker.connections import HandlersConnections
from tasks.worker.marks import Marks
from tasks.worker.running import Interrupt, Interrupted

INTERRUPT = signal.SIGUSR1
READ_BYTES = 256 * 1024
AGAIN_SECONDS = 0.05  # until an interrupt is sent again that was not heard
_now = partial(time.clock_gettime, time.CLOCK_BOOTTIME)  # which goes on while the machine sleeps


@dataclass(frozen=True, slots=True)
class Limits:
    """What an executor has to know of the settings."""

    max_result_bytes: int
    # What has waited so long behind another is not begun: nobody has called it back, so the dispatcher is
    # silent, and others may take the lease for lapsed.
    waiting_seconds: float


def main(channel: socket.socket, marks: Marks | None, limits: Limits) -> None:
    """Serve leases until told to stop, or until the dispatcher is gone.

    ``marks`` is a place in the dispatcher's open lock file: while any of its executors lives, the
    lock stays taken, and nobody concludes from a free one that the tasks may be run elsewhere.
    """
    child.die_with_the_dispatcher()
    child.stand_alone()
    child.keep_files()
    setproctitle("taskservice: executor")
    with suppress(AttributeError):  # none, or one of a user's own
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # what a handler prints is seen at once
    Executor(channel, marks, limits).serve()
    tracing.flush()
    os._exit(0)  # threads that a handler left behind must not hold us


class Executor:
    """The main thread runs handlers, a listener hears what the dispatcher says meanwhile.

    Before it begins a lease, the main thread reads all that has been sent. So a recall
    that was sent before the last outcome was reported is always obeyed, even when a handler
    held the GIL and the listener could not run.
    """

    def __init__(self, channel: socket.socket, marks: Marks | None, limits: Limits) -> None:
        self._channel = channel
        self._marks = marks
        self._limits = limits
        self._decoder = wire.Decoder()
        self._mail = threading.Condition()
        self._pen = threading.Lock()  # both threads send, and a long message goes out in pieces
        self._inbox: deque[tuple[Lease, float]] = deque()  # each with when it came
        self._interrupts: dict[wire.WireKey, Interrupt] = {}
        self._inside: wire.WireKey | None = None  # whose handler the main thread is in
        self._by_signal = True  # how that one is interrupted: an async handler never is
        self._loop: tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]] | None = None
        self._rested = True  # has waited for the present lease
        self._armed_for = ""  # the handler that the interrupts were last made ready for
        self._connections = HandlersConnections()
        self._stopping = False
        self._main = threading.main_thread().ident or 0
        self._pid = os.getpid()

    def serve(self) -> None:
        sys.unraisablehook = self._on_unraisable
        threading.Thread(target=self._listen, name="listener", daemon=True).start()
        self._send({"ready": True})
        while (lease := self._next()) is not None:
            key, began = wire.key_of(lease), time.perf_counter()
            outcome = self._run(key, lease)
            if entries := counted.take(tally.here):
                self._send({"counted": entries})
            self._report(key, outcome, time.perf_counter() - began)

    # -- mail

    def _next(self) -> Lease | None:
        """The next lease to begin, or None to stop."""
        with self._mail:
            self._read()
            self._rested = not self._inbox
            while not self._inbox:
                if self._stopping:
                    return None
                self._mail.wait()
            lease, came_at = self._inbox.popleft()
        if _now() - came_at > self._limits.waiting_seconds:
            self._interrupts[wire.key_of(lease)] = Interrupt("lost")
        return lease

    def _listen(self) -> None:
        poll = select.poll()
        poll.register(self._channel, select.POLLIN)
        while True:
            poll.poll(1000 * AGAIN_SECONDS if self._inside in self._interrupts else None)
            with self._mail:
                self._read()
                self._mail.notify()
                if self._unheard() is not None:
                    signal.pthread_kill(self._main, INTERRUPT)

    def _read(self) -> None:
        """Take in all that has arrived. The caller holds ``_mail``."""
        while (data := self._received()) is not None:
            if not data:
                child.end()  # the dispatcher is gone, and with it the leases
            for message in self._decoder.feed(data):
                self._obey(message)

    def _received(self) -> bytes | None:
        """None: nothing more yet; empty: nothing will come any more."""
        try:
            return self._channel.recv(READ_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None
        except OSError:  # a handler has closed it
            return b""

    def _obey(self, message: dict[str, Any]) -> None:
        match message:
            case {"leases": leases}:
                now = _now()
                self._inbox.extend((lease_from_wire(lease), now) for lease in leases)
            case {"interrupt": [task_id, fence], "why": why}:
                self._interrupt((task_id, fence), Interrupt(why))
            case {"recall": _}:
                recalled = [wire.key_of(lease) for lease, _ in self._inbox]
                self._inbox.clear()
                self._send({"recalled": recalled})
            case {"stop": _}:
                self._stopping = True

    def _report(self, key: wire.WireKey, outcome: Outcome, seconds: float) -> None:
        if isinstance(outcome, Succeeded):
            self._write(wire.encode_success(key, seconds, outcome.result))
        else:
            self._send({"ended": key, "seconds": seconds, **outcome_to_wire(outcome)})

    def _send(self, message: dict[str, Any]) -> None:
        self._write(wire.encode(message))

    def _write(self, line: bytes) -> None:
        try:
            with self._pen:
                self._channel.sendall(line)
        except OSError:
            child.end()

    # -- interrupts

    def _interrupt(self, key: wire.WireKey, interrupt: Interrupt) -> None:
        """An async handler is told at once, others by the listener's signals."""
        self._interrupts[key] = interrupt
        if self._inside == key and not self._by_signal and self._loop is not None:
            loop, task = self._loop
            with suppress(RuntimeError):  # the loop has just ended
                loop.call_soon_threadsafe(task.cancel)

    def on_signal(self, number: int, frame: Any) -> None:
        """In the main thread, between two steps of whatever it does: only a handler may be interrupted."""
        if (interrupt := self._unheard()) is not None:
            interrupt.heard = True
            raise Interrupted

    def _unheard(self) -> Interrupt | None:
        """What was not raised yet in the present handler: a signal that comes just before a call that blocks
        does not end that call, and is sent again and again.
        """
        interrupt = self._interrupts.get(self._inside) if self._inside and self._by_signal else None
        return None if interrupt is None or interrupt.heard else interrupt

    def _on_unraisable(self, unraisable: Any) -> None:
        """Python drops what is raised in a ``__del__`` or a callback: an interrupt is sent again then."""
        if unraisable.exc_type is Interrupted:
            for interrupt in [*self._interrupts.values()]:  # the listener may have another
                interrupt.heard = False
        else:
            sys.__unraisablehook__(unraisable)

    def _on_async(self, loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any]) -> None:
        self._loop = (loop, task)
        if self._inside in self._interrupts:
            task.cancel()

    # -- work

    def _run(self, key: wire.WireKey, lease: Lease) -> Outcome:
        try:
            return self._attempt(key, lease)
        except Interrupted:  # it came when the handler had ended already
            self._leave(key)
            return self._interrupts[key].outcome(lease, "")
        finally:
            self._inside = self._loop = None
            self._interrupts.clear()
            logs.now_about({})

    def _attempt(self, key: wire.WireKey, lease: Lease) -> Outcome:
        try:
            task = registry.find(lease.handler)
        except UnknownHandler as error:
            return Failed(ErrorReport.of(type(error), str(error)))
        if key in self._interrupts:  # before it began
            return Released(started=False)
        if self._marks is not None:
            self._marks.begin(lease)
        logs.now_about({"task_id": lease.task_id, "attempt": lease.attempt, "handler": lease.handler})
        args, payload = running.parsed(lease.args), running.parsed(lease.payload)
        try:
            telling.started(lease, task, args, payload)
            value = self._traced(key, lease, task, args, payload)
        except BaseException as error:  # whatever it raises, this process goes on
            self._leave(key)
            outcome = running.failure(error, lease, self._interrupts.get(key), home=task.func.__module__)
            telling.finished(lease, task, args, payload, outcome)
        else:
            self._leave(key)
            outcome = running.success(value, limit_bytes=self._limits.max_result_bytes)
            telling.finished(lease, task, args, payload, outcome)
        return outcome

    def _traced(self, key: wire.WireKey, lease: Lease, *how: Any) -> Any:
        """What the handler returns; it runs in the trace of what has asked for the task."""
        if lease.traceparent is None and not tracing.is_on():
            return self._call(key, lease, *how)
        about = {"task.id": str(lease.task_id), "task.queue": lease.queue, "task.attempt": lease.attempt}
        with tracing.within(lease.traceparent, "CONSUMER", f"task {lease.handler}", about):
            return self._call(key, lease, *how)

    def _call(
        self,
        key: wire.WireKey,
        lease: Lease,
        task: registry.ServiceTask,
        args: list[Any],
        payload: dict[str, Any],
    ) -> Any:
        """What the handler returns."""
        if self._rested:
            self._connections.refresh()
        given = [context_of(lease, task), *args] if task.takes_context else args
        self._arm(lease.handler)
        self._by_signal = not running.is_async(task.func)
        try:
            self._inside = key
            if key in self._interrupts:  # while the receivers were told
                self._interrupts[key].heard = True
                raise Interrupted
            return running.call(task.func, given, payload, self._on_async)
        finally:
            self._inside = None

    def _arm(self, handler: str) -> None:
        """Anew for each other handler: the last one may have taken the signal for itself."""
        if handler != self._armed_for:
            signal.signal(INTERRUPT, self.on_signal)
            self._armed_for = handler

    def _leave(self, key: wire.WireKey) -> None:
        """What one handler leaves behind must not meet the next."""
        self._inside = None
        if os.getpid() != self._pid:
            os._exit(0)  # a fork that the handler made came back from it: it is not the executor
        self._connections.let_go(all_of_them=key in self._interrupts)
