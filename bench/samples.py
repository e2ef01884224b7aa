"""Numbers from many samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median


def percentile(ordered: Sequence[float], share: float) -> float:
    """By nearest rank, of samples in order."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds."""

    samples: int
    p50: float
    p95: float
    p99: float
    max: float

    @classmethod
    def of(cls, nanoseconds: Sequence[int]) -> Latency:
        ordered = sorted(value / 1e6 for value in nanoseconds)
        return cls(
            samples=len(ordered),
            p50=percentile(ordered, 0.5),
            p95=percentile(ordered, 0.95),
            p99=percentile(ordered, 0.99),
            max=ordered[-1],
        )

    def __str__(self) -> str:
        return f"p50 {self.p50:.1f}  p95 {self.p95:.1f}  p99 {self.p99:.1f}  max {self.max:.1f} ms"

    def facts(self) -> dict[str, float]:
        return {name: round(value, 3) for name, value in asdict(self).items()}


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of a few runs, and how far they lay apart."""

    values: tuple[float, ...]

    @property
    def middle(self) -> float:
        return float(median(self.values))

    def __str__(self) -> str:
        if len(self.values) == 1:
            return f"{self.middle:,.0f}"
        return f"{self.middle:,.0f} ({min(self.values):,.0f} to {max(self.values):,.0f})"

    def facts(self) -> dict[str, object]:
        return {"median": round(self.middle, 1), "runs": [round(value, 1) for value in self.values]}
