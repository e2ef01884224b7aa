"""Runs child processes side by side, and ends them in order."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from tasks.logs import event
from tasks.worker import parent
from tasks.worker.stop import StopSignals

logger = logging.getLogger(__name__)


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

    def __init__(self, signals: StopSignals) -> None:
        self.signals = signals
        self.children: list[Child] = []
        self._hurried = False
        signal.signal(signal.SIGCHLD, lambda *_: None)  # the end of a child ends the wait as well

    def start(
        self, name: str, command: Sequence[str], *, patience: timedelta, fds: Sequence[int] = ()
    ) -> None:
        """In a session of its own, so that Ctrl-C reaches this process alone."""
        process = subprocess.Popen(  # noqa: S603 - the command is ours
            command,
            pass_fds=fds,
            start_new_session=True,
            preexec_fn=partial(parent.end_with_it, signal.SIGTERM, parent_pid=os.getpid()),
        )
        self.children.append(Child(name, process, patience))

    def run(self) -> int:
        """Wait, then stop the children in the order of their start. The exit code: 0 if all was as asked."""
        while not self.signals.wanted and all(child.code is None for child in self.children):
            self._wait()
        asked = self.signals.wanted
        for child in self.children:
            if not asked and child.code is not None:
                _log_own_end(child)
        for child in self.children:
            self._stop(child)
        return 0 if asked and all(map(_ended_well, self.children)) else 1

    def _stop(self, child: Child) -> None:
        child.send(signal.SIGTERM)
        deadline = time.monotonic() + child.patience.total_seconds()
        while child.code is None:
            if self.signals.at_once and not self._hurried:
                self._hurry()
            left = deadline - time.monotonic()
            if left <= 0:
                event(logger, logging.ERROR, "serve.killed", child=child.name)
                child.kill()
            self._wait(max(left, 1))

    def _hurry(self) -> None:
        self._hurried = True
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


def _log_own_end(child: Child) -> None:
    """Code 0 is no failure: workers that were asked to drain, and have."""
    if child.code == 0:
        event(logger, logging.WARNING, "serve.drained", child=child.name, hint="the rest is stopped, too")
    else:
        event(logger, logging.ERROR, "serve.ended-by-itself", child=child.name, code=child.code)


def _ended_well(child: Child) -> bool:
    return child.code in (0, -signal.SIGTERM, -signal.SIGQUIT)  # the latter two: not yet listening
