"""Whether a worker is to end, since when, and until when what it runs may go on."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import timedelta

from tasks.logs import event
from tasks.worker.stop import StopSignals
from tasks.worker.vitals import Vitals

logger = logging.getLogger("tasks.dispatcher")


class Ending:
    """A signal, or executors that cannot be started, give a grace. A drain gives all the time it takes."""

    def __init__(
        self, signals: StopSignals, vitals: Vitals, grace: timedelta, in_hand: Callable[[], int]
    ) -> None:
        self._signals = signals
        self._vitals = vitals
        self._grace = grace.total_seconds()
        self._in_hand = in_hand
        self.since: float | None = None  # monotonic
        self.until = float("inf")  # then what runs is interrupted

    def heed(self, now: float, *, hopeless: bool) -> bool:
        """Whether the end has just begun."""
        hurried = self._signals.wanted or hopeless
        if not (hurried or self._vitals.drains):
            return False
        if hurried and self.until == float("inf"):
            self.until = now + self._grace
            self._tell(self._grace)
        elif self.since is None:
            self._tell(None)
        begun, self.since = self.since is None, self.since or now
        return begun

    def _tell(self, grace: float | None) -> None:
        signal = self._signals.first.name if self._signals.first else None
        asked = True if self._vitals.drains and grace is None else None
        told = {"signal": signal, "drain": asked, "in_hand": self._in_hand(), "grace": grace}
        event(logger, logging.INFO, "worker.stopping", **told)

    def next_moment(self) -> float:
        """When the grace is over, if that is still to come (monotonic)."""
        return self.until if time.monotonic() < self.until else float("inf")
