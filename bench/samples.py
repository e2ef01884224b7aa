"""Numbers from many samples, and from several runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any


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

    def facts(self) -> dict[str, float]:
        return {name: round(value, 3) for name, value in asdict(self).items()}


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of a few runs, and how far they lay apart."""

    values: tuple[float, ...]

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Spread:
        """What ``facts`` wrote."""
        return cls(tuple(facts["runs"]))

    @property
    def middle(self) -> float:
        return float(median(self.values))

    def __str__(self) -> str:
        return format(self, ",.0f")

    def __format__(self, spec: str) -> str:
        """``spec``: of each number."""
        spec = spec or ",.0f"
        middle, least, most = (format(value, spec) for value in (self.middle, *self._ends()))
        return middle if least == most else f"{middle} ({least} to {most})"

    def _ends(self) -> tuple[float, float]:
        return min(self.values), max(self.values)

    def facts(self) -> dict[str, object]:
        return {"median": round(self.middle, 3), "runs": [round(value, 3) for value in self.values]}


@dataclass(frozen=True, slots=True)
class Latencies:
    """Those of several runs: the median of each percentile, and of the largest."""

    p50: Spread
    p99: Spread
    max: Spread

    @classmethod
    def of(cls, facts: Iterable[Mapping[str, float]]) -> Latencies:
        """What ``Latency.facts`` wrote, for each run."""
        runs = list(facts)
        return cls(*(Spread(tuple(run[name] for run in runs)) for name in ("p50", "p99", "max")))

    def __str__(self) -> str:
        return f"p50 {self.p50:.1f}, p99 {self.p99:.1f} ms"
