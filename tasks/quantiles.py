"""What share of the observations lies below a value, told from the buckets of a histogram."""

from __future__ import annotations

from collections.abc import Sequence


def quantile(counts: Sequence[int], ends: Sequence[float], share: float) -> float | None:
    """The value that so much of them does not exceed, interpolated within its bucket; None: there are none.

    ``ends``: of the buckets; the last one has none, so that what lies in it counts as where it begins.
    """
    total = sum(counts)
    if not total:
        return None
    wanted, below, begins = share * total, 0, 0.0
    for count, end in zip(counts, ends, strict=False):
        if count and below + count >= wanted:
            return begins + (end - begins) * (wanted - below) / count
        below, begins = below + count, end
    return begins
