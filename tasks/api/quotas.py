"""How much of a limit is left: each process takes a little of it in advance, so that few requests ask."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from django.db import DatabaseError, connections

from tasks.api.counters import Counter, counter
from tasks.logs import event
from tasks.models.task import database
from tasks.rates import Rate

logger = logging.getLogger("tasks.api")

PARTS = 100  # of a limit: a process takes one at a time,
SHRINK = 8  # and no more than this part of what was left, so that little of it lies idle at the end
AVOID_SECONDS = 5.0  # a counter that did not answer
WAIT_SECONDS = 2.0  # for another thread that asks it
SHARES_KEPT = 10_000


class CounterGone(Exception):
    """Nobody knows what is left."""


@dataclass(slots=True)
class Share:
    """What this process has of one window of one client."""

    rate: Rate
    left: int = 0  # taken in advance
    beyond: int = 0  # what nobody had taken when it was heard last
    ends: float = 0.0  # monotonic
    lock: threading.Lock = field(default_factory=threading.Lock)

    def expire(self, now: float) -> None:
        if now >= self.ends:
            self.left, self.beyond = 0, self.rate.limit

    def refill(self, count: Callable[[int], tuple[int, float]], now: float) -> None:
        limit = self.rate.limit
        wanted = max(1, min(limit // PARTS, self.beyond // SHRINK))
        used, seconds = count(wanted)
        self.ends = now + seconds  # counted from before it was asked: rather too soon than too late
        self.left = max(0, min(wanted, limit - (used - wanted)))
        self.beyond = max(0, limit - used)


@dataclass(frozen=True, slots=True)
class Standing:
    """What a client may still ask for in this window, as far as this process knows."""

    admitted: bool
    remaining: int
    seconds: float


class Quotas:
    def __init__(self, choose: Callable[[], Counter] = counter) -> None:
        self._choose = choose
        self._shares: dict[str, Share] = {}
        self._avoid_until = 0.0  # monotonic
        self._is_gone = False
        self._lock = threading.Lock()

    def take(self, key: str, rate: Rate) -> Standing:
        """One request. Raises CounterGone."""
        share = self._share(key, rate)
        if not share.lock.acquire(timeout=WAIT_SECONDS):
            raise CounterGone
        try:
            now = time.monotonic()
            share.expire(now)
            if not share.left and share.beyond:
                self._refill(key, share, now)
            admitted = share.left > 0
            share.left -= admitted
            return Standing(admitted, share.left + share.beyond, share.ends - now)
        finally:
            share.lock.release()

    def is_spent(self, key: str, rate: Rate) -> Standing | None:
        """As far as this process knows already: costs nothing. None: perhaps not."""
        share, now = self._shares.get(key), time.monotonic()
        if share is None or share.rate != rate or share.left or share.beyond or now >= share.ends:
            return None
        return Standing(False, 0, share.ends - now)

    def give_back(self, key: str) -> None:
        """What was taken is not used. One of a window that has ended is lost."""
        share = self._shares.get(key)
        if share is not None and share.lock.acquire(timeout=WAIT_SECONDS):
            share.left += time.monotonic() < share.ends
            share.lock.release()

    def _share(self, key: str, rate: Rate) -> Share:
        share = self._shares.get(key)
        if share is not None and share.rate == rate:
            return share
        with self._lock:
            if len(self._shares) >= SHARES_KEPT:  # what they have taken is lost, and asked for again
                self._shares.clear()
            return self._shares.setdefault(key, Share(rate))

    def _refill(self, key: str, share: Share, now: float) -> None:
        if now < self._avoid_until:
            raise CounterGone
        if self._is_gone:  # one asks whether it is back; the others do not wait for that
            self._avoid_until = now + AVOID_SECONDS
        try:
            share.refill(lambda wanted: self._choose().add(key, wanted, seconds=share.rate.seconds), now)
        except Exception as error:
            self._avoid_until = time.monotonic() + AVOID_SECONDS
            self._tell(error)
            if isinstance(error, DatabaseError) and _is_cut_off():
                raise  # the request needs that database: it need not wait for it twice
            raise CounterGone from error
        if self._is_gone:
            self._is_gone, self._avoid_until = False, 0.0
            event(logger, logging.INFO, "throttle.counts-again")

    def _tell(self, error: Exception) -> None:
        if not self._is_gone:
            self._is_gone = True
            event(logger, logging.WARNING, "throttle.cannot-count", error=type(error).__name__, reason=error)


def _is_cut_off() -> bool:
    connection = connections[database()].connection
    return connection is None or bool(getattr(connection, "closed", False))
