"""How long handlers take: what may wait behind what."""

from __future__ import annotations

from collections import defaultdict

HAND_AHEAD_SECONDS = 0.02  # work that may lie ready in an executor's hand
OVERDUE_SECONDS = 0.05  # what runs longer than this is not short, whatever its handler's other runs were
HAND_AHEAD_LEASES = 192  # on 2 cores 64 drain 9,000 no-op tasks a second, 128 10,200, 192 12,900, 256 12,200
HAND_AHEAD_BYTES = 1024 * 1024
WEIGHT = 0.1  # of the newest run: a hiccup of the machine must not count for long


class Pace:
    """The seconds that each handler's recent runs took, as a moving average.

    A wrong guess costs little: what waits behind a slow run is recalled.
    """

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self.recent = float("inf")  # of whatever ran last
        self._runs: dict[tuple[str, str], list[float]] = defaultdict(list)

    def saw(self, handler: str, seconds: float, *, queue: str = "default") -> None:
        self._runs[queue, handler].append(seconds)
        before = self._seconds.get(handler, seconds)
        self._seconds[handler] = self.recent = before + (seconds - before) * WEIGHT

    def take_runs(self) -> dict[tuple[str, str], list[float]]:
        """What was seen since this was last asked, by queue and handler: for the metrics."""
        runs, self._runs = self._runs, defaultdict(list)
        return runs

    def expect(self, handler: str) -> float:
        """Seconds; infinity for a handler that was never seen to end."""
        return self._seconds.get(handler, float("inf"))
