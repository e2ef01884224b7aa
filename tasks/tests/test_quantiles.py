"""What share of the observations lies below a value, told from the buckets of a histogram."""

from __future__ import annotations

import pytest

from tasks.quantiles import quantile

ENDS = (1.0, 2.0, 4.0)


@pytest.mark.parametrize(
    ("counts", "share", "value"),
    [
        ((0, 0, 0, 0), 0.5, None),
        ((4, 0, 0, 0), 0.5, 0.5),  # the first bucket begins at nothing
        ((0, 4, 0, 0), 0.5, 1.5),
        ((2, 0, 2, 0), 0.5, 1.0),  # an empty bucket is never the one
        ((2, 0, 2, 0), 0.75, 3.0),
        ((1, 1, 1, 1), 0.95, 4.0),  # above the last end nobody knows how far
        ((0, 0, 0, 3), 0.5, 4.0),
    ],
)
def test_a_quantile_is_interpolated_within_its_bucket(
    counts: tuple[int, ...], share: float, value: float | None
) -> None:
    assert quantile(counts, ENDS, share) == value
