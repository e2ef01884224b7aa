"""How long to wait before the next attempt."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential backoff: initial * factor ** (attempt - 1), at most ``max``, times 0.5 to 1 at random.

    The random half keeps tasks that failed together from coming back together (the "equal jitter"
    of Marc Brooker, *Exponential Backoff And Jitter*).
    """

    initial: timedelta = timedelta(seconds=2)
    factor: float = 2.0
    max: timedelta = timedelta(hours=1)

    def __post_init__(self) -> None:
        if self.initial < timedelta(0) or self.max < self.initial:
            raise ValueError("Backoff: initial must not be negative, and max not below initial.")
        if not 1 <= self.factor <= 100:
            raise ValueError("Backoff: factor must be from 1 to 100.")

    def delay(self, attempt: int, rng: random.Random) -> timedelta:
        """The wait after failed attempt number ``attempt`` (from 1, counted within the budget)."""
        return self._step(attempt) * (0.5 + rng.random() / 2)

    def _step(self, attempt: int) -> timedelta:
        if not self.initial:
            return self.initial  # however large the factor grew: it may not overflow to max
        try:
            return min(self.max, self.initial * float(self.factor) ** (attempt - 1))
        except OverflowError:  # far beyond any max
            return self.max
