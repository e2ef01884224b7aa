"""One executor as the dispatcher sees it: feed, recall, interrupt, kill."""

from __future__ import annotations

import os
import resource
import signal
import socket
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import psutil

from tasks.contract import Lease, Outcome, Released, lease_to_wire
from tasks.worker import wire
from tasks.worker.marks import Marks
from tasks.worker.pace import HAND_AHEAD_BYTES, HAND_AHEAD_LEASES, HAND_AHEAD_SECONDS, OVERDUE_SECONDS

READ_BYTES = 256 * 1024


@dataclass(slots=True)
class Held:
    """A lease in an executor's hand."""

    lease: Lease
    expected: float  # seconds
    since: float  # monotonic: when it was put there
    begun: float | None = None  # monotonic: when it came to the head of the line
    interrupted: float | None = None  # monotonic
    why: str = ""  # of the interrupt
    lost: bool = False  # somebody else has the task: whatever comes of it is dropped


class Executor:
    """One child process and the line of leases in its hand; the head of the line is running.

    It works in order, and reports each outcome before it begins the next.
    """

    def __init__(
        self, process: Any, channel: socket.socket, *, tasks_limit: int, marks: Marks | None = None
    ) -> None:
        channel.setblocking(False)
        self.marks = marks
        self.process = process
        self.channel = channel
        self.line: deque[Held] = deque()
        self.ready = False
        self.retiring = False  # gets nothing more, and is stopped when its line is empty
        self.stopped = False
        self.hung_up = False  # its end of the channel is closed
        self.killed_for: Outcome | None = None
        self._killed_in: Lease | None = None  # which it was running when we decided to kill it
        self.recalling = False
        self._handed: list[Any] = []  # leases that go out together
        self._outbox = bytearray()
        self._decoder = wire.Decoder()
        self._tasks_left = tasks_limit
        self._born_with_mb = 0.0
        self._bytes = 0
        self._expected = 0.0  # seconds that the line will take

    @property
    def pid(self) -> int:
        return int(self.process.pid)

    @property
    def head(self) -> Held | None:
        return self.line[0] if self.line else None

    @property
    def idle(self) -> bool:
        return self.ready and not self.line and not self.retiring and not self.spent

    @property
    def has_begun(self) -> bool:
        """Whether it has begun the head; asked when it has ended, for else it may begin it meanwhile."""
        return self.marks is None or not self.line or self.marks.has(self.line[0].lease)

    @property
    def unsent(self) -> bool:
        return bool(self._outbox or self._handed)

    # -- the line

    def admits(self, lease: Lease, expected: float) -> bool:
        """Whether this lease may go to the end of the line.

        An idle executor takes anything. Behind others goes only what has attempts left, behind
        what is known to be short.
        """
        if not self.line:
            return self.idle
        return (
            lease.attempts_left > 0
            and not self.retiring
            and not self.recalling
            and not self._overdue
            and len(self.line) < min(HAND_AHEAD_LEASES, self._tasks_left)
            and self._expected < HAND_AHEAD_SECONDS
            and self._bytes + len(lease.payload) + len(lease.args) < HAND_AHEAD_BYTES
        )

    def room(self, pace: float) -> int:
        """How many more leases it could hold if they take ``pace`` seconds each."""
        if not self.ready or self.retiring or self.recalling or self._overdue:
            return 0
        if self._expected >= HAND_AHEAD_SECONDS:
            return 0
        seconds = HAND_AHEAD_SECONDS - self._expected
        free = max(0, min(HAND_AHEAD_LEASES, self._tasks_left) - len(self.line))
        return min(free, int(seconds / pace) if pace > 0 else free)

    @property
    def _overdue(self) -> bool:
        """Whether its head turned out slow: whatever was expected of it, nothing more goes behind it.

        Else what was recalled from there would be claimed and put there again, and again.
        """
        begun = self.line[0].begun if self.line else None
        return begun is not None and time.monotonic() - begun > OVERDUE_SECONDS

    def hand(self, lease: Lease, expected: float) -> Held:
        now = time.monotonic()
        held = Held(lease, expected, now, begun=None if self.line else now)
        self.line.append(held)
        self._expected += expected
        self._bytes += len(lease.payload) + len(lease.args)
        self._handed.append(lease_to_wire(lease))
        return held

    def ended(self) -> Held:
        """The head has ended: take it off; what is next has begun."""
        held = self.line.popleft()
        self._forget(held)
        self._tasks_left -= 1
        if self.line:
            self.line[0].begun = time.monotonic()
        return held

    def take_back(self, keys: set[wire.WireKey] | None = None) -> list[Held]:
        """Take these off the line; without keys all but the head."""
        rest = list(self.line)[1:]
        gone = rest if keys is None else [held for held in self.line if wire.key_of(held.lease) in keys]
        for held in gone:
            self.line.remove(held)
            self._forget(held)
        if self.line and self.line[0].begun is None:
            self.line[0].begun = time.monotonic()
        return gone

    def _forget(self, held: Held) -> None:
        self._bytes -= len(held.lease.payload) + len(held.lease.args)
        self._expected -= held.expected
        if not self.line or self._expected != self._expected:  # nothing left; or infinity less infinity
            self._expected = sum(other.expected for other in self.line)

    # -- what is said

    def recall(self) -> None:
        """Ask back all that it has not begun; ``Hands.recall`` says when it is back."""
        self.recalling = True
        self._say({"recall": True})

    def interrupt(self, why: str) -> None:
        """Ask the handler of the head to end."""
        held = self.line[0]
        held.interrupted, held.why = time.monotonic(), why
        self._say({"interrupt": wire.key_of(held.lease), "why": why})

    def stop(self) -> None:
        self.retiring = self.stopped = True
        self._say({"stop": True})

    def _say(self, message: wire.Message) -> None:
        self._pack()
        self._outbox += wire.encode(message)

    def _pack(self) -> None:
        if self._handed:
            self._outbox += wire.encode({"leases": self._handed})
            self._handed = []

    def flush(self) -> None:
        """Send what fits, without waiting."""
        self._pack()
        with suppress(OSError):  # full: later; gone: its end will be seen
            while self._outbox:
                del self._outbox[: self.channel.send(self._outbox)]

    def receive(self) -> Iterator[dict[str, Any]]:
        """All that it has said. Raises BrokenWire when it talks nonsense."""
        with suppress(OSError):  # nothing more yet, or gone
            while data := self.channel.recv(READ_BYTES):
                yield from self._decoder.feed(data)
            self.hung_up = True

    def kill(self, outcome: Outcome) -> None:
        """End it now, with all that its handler started; the head came to ``outcome``."""
        if self.killed_for is None:
            self.killed_for, self._killed_in = outcome, self.line[0].lease if self.line else None
        self.retiring = True  # what it still says may empty its line: nothing more for the dead
        self.kill_group()

    def came_to(self, lease: Lease, seen: Outcome) -> Outcome:
        """What became of the lease that it was running when it ended, as ``seen`` or by our own hand.

        The one that it was killed for may have ended just before: the next did nothing wrong.
        """
        if self.killed_for is None:
            return seen
        return self.killed_for if lease is self._killed_in else Released(started=True)

    def kill_group(self) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        with suppress(ProcessLookupError, PermissionError):
            os.kill(self.pid, signal.SIGKILL)  # before it had a group of its own

    # -- recycling

    @property
    def spent(self) -> bool:
        """Whether it has run its number of tasks."""
        return self._tasks_left <= 0

    def worn(self, limit_mb: int) -> bool:
        """Whether it holds too much memory, beyond what it was born with and shares with the others.

        Or half of the files that it may have open: with the last of them every task would fail.
        """
        if limit_mb and self._resident_mb() - self._born_with_mb > limit_mb:
            return True
        with suppress(OSError):  # it is gone; we may have no file left ourselves
            limit, _ = resource.prlimit(self.pid, resource.RLIMIT_NOFILE)
            return len(os.listdir(f"/proc/{self.pid}/fd")) > limit / 2
        return False

    def is_ready(self) -> None:
        self.ready = True
        self._born_with_mb = self._resident_mb()

    def _resident_mb(self) -> float:
        with suppress(psutil.Error, OSError):  # it is gone; we have no file left to look into
            return float(psutil.Process(self.pid).memory_info().rss) / 2**20
        return 0.0
