"""Runs child processes side by side, and ends them in order."""

from __future__ import annotations

import ctypes
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from types import FrameType

from tasks.logs import event

logger = logging.getLogger(__name__)

SAME_SIGNAL = timedelta(seconds=1)  # a second one this soon may be the first, sent twice
PR_SET_PDEATHSIG = 1


class Signals:
    """Counts the signals that ask for a stop, and wakes whoever waits; SIGCHLD wakes too.

    The handlers only count: raising or taking a lock there could break whatever they
    interrupt. The byte that ends the wait is written by the interpreter itself.
    """

    def __init__(self) -> None:
        self.asked_at: float | None = None  # monotonic
        self.urgent = False
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
            if signal.getsignal(number) != signal.SIG_IGN or number != signal.SIGHUP:  # nohup stays in force
                signal.signal(number, self._count)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    @property
    def asked(self) -> bool:
        return self.asked_at is not None

    def wait(self, seconds: float | None = None) -> None:
        """Return at the next signal, or when the time is over; perhaps sooner."""
        select.select([self._reader], [], [], seconds)
        with suppress(BlockingIOError):
            while self._reader.recv(4096):
                pass

    def _count(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        again = self.asked_at is not None and now - self.asked_at > SAME_SIGNAL.total_seconds()
        self.urgent = self.urgent or again or number == signal.SIGQUIT
        self.asked_at = self.asked_at or now


@dataclass(slots=True)
class Child:
    name: str
    process: subprocess.Popen[bytes]
    patience: timedelta  # how long it may take to end after SIGTERM

    @property
    def code(self) -> int | None:
        return self.process.returncode

    def send(self, number: signal.Signals) -> None:
        if self.code is None:
            self.process.send_signal(number)

    def kill(self) -> None:
        """The whole session: what it started must not outlive it."""
        if self.code is None:
            os.killpg(self.process.pid, signal.SIGKILL)


class Supervisor:
    """Children run until a signal asks for a stop, or until one of them ends by itself."""

    def __init__(self, signals: Signals) -> None:
        self.signals = signals
        self.children: list[Child] = []

    def start(
        self, name: str, command: Sequence[str], *, patience: timedelta, fds: Sequence[int] = ()
    ) -> None:
        """In a session of its own, so that Ctrl-C reaches this process alone."""
        process = subprocess.Popen(  # noqa: S603 - the command is ours
            command,
            pass_fds=fds,
            start_new_session=True,
            preexec_fn=partial(_end_with_parent, os.getpid(), _prctl()),
        )
        self.children.append(Child(name, process, patience))

    def run(self) -> int:
        """Wait, then stop the children in the order of their start. The exit code: 0 if all was as asked."""
        while not self.signals.asked and all(child.code is None for child in self.children):
            self._wait()
        asked = self.signals.asked
        for child in self.children:
            if not asked and child.code is not None:
                event(logger, logging.ERROR, "serve.ended-by-itself", child=child.name, code=child.code)
        for child in self.children:
            self._stop(child)
        return 0 if asked and all(map(_ended_well, self.children)) else 1

    def _stop(self, child: Child) -> None:
        child.send(signal.SIGTERM)
        deadline = time.monotonic() + child.patience.total_seconds()
        while child.code is None:
            if self.signals.urgent:
                self._hurry()
            left = deadline - time.monotonic()
            if left <= 0:
                event(logger, logging.ERROR, "serve.killed", child=child.name)
                child.kill()
            self._wait(max(left, 1))

    def _hurry(self) -> None:
        self.signals.urgent = False  # once is enough; the next signal may do it again
        for child in self.children:
            child.send(signal.SIGQUIT)

    def _wait(self, seconds: float | None = None) -> None:
        self.signals.wait(seconds)
        self._reap()

    def _reap(self) -> None:
        """Collect every child that ended: as process 1 of a container, orphans of others as well."""
        with suppress(ChildProcessError):  # no child left
            while (ended := os.waitpid(-1, os.WNOHANG)) != (0, 0):
                for child in self.children:
                    if child.process.pid == ended[0]:
                        child.process.returncode = os.waitstatus_to_exitcode(ended[1])


def _ended_well(child: Child) -> bool:
    return child.code in (0, -signal.SIGTERM, -signal.SIGQUIT)  # the latter two: not yet listening


def _prctl() -> ctypes._NamedFuncPointer | None:
    return ctypes.CDLL(None).prctl if sys.platform == "linux" else None


def _end_with_parent(parent: int, prctl: ctypes._NamedFuncPointer | None) -> None:
    """In the child, before it becomes the command: a parent that is killed takes it along."""
    if prctl is not None:
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it died before that
        os._exit(1)
