"""The wait before the next attempt."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.backoff import Backoff

SECOND = timedelta(seconds=1)


class Highest(random.Random):
    """Always the largest step, without jitter."""

    def random(self) -> float:
        return 1.0


class Lowest(random.Random):
    def random(self) -> float:
        return 0.0


backoffs = st.builds(
    lambda initial, more, factor: Backoff(initial, factor, initial + more),
    st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=10)),
    st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=10_000)),
    st.floats(1, 100) | st.integers(1, 100),
)
attempts = st.integers(1, 100_000)


@pytest.mark.parametrize(
    ("attempt", "step"), [(1, 2), (2, 4), (3, 8), (4, 16), (11, 2048), (12, 3600), (13, 3600), (10**9, 3600)]
)
def test_doubles_from_two_seconds_to_an_hour(attempt: int, step: int) -> None:
    assert Backoff().delay(attempt, Highest()) == step * SECOND


def test_jitter_takes_away_up_to_a_half() -> None:
    assert Backoff().delay(3, Lowest()) == 4 * SECOND
    assert Backoff().delay(3, Highest()) == 8 * SECOND


def test_tasks_that_failed_together_come_back_apart() -> None:
    rng = random.Random(1)

    assert len({Backoff().delay(5, rng) for _ in range(100)}) == 100


@given(backoffs, attempts, st.randoms(use_true_random=False))
def test_is_never_negative_and_never_above_the_maximum(
    backoff: Backoff, attempt: int, rng: random.Random
) -> None:
    assert timedelta(0) <= backoff.delay(attempt, rng) <= backoff.max


@given(backoffs, attempts)
def test_never_shrinks_as_attempts_go_on(backoff: Backoff, attempt: int) -> None:
    assert backoff.delay(attempt, Highest()) <= backoff.delay(attempt + 1, Highest())


@given(attempts)
def test_no_initial_wait_means_no_wait_ever(attempt: int) -> None:
    assert Backoff(initial=timedelta(0)).delay(attempt, Highest()) == timedelta(0)


@given(attempts)
def test_a_factor_of_one_is_a_constant_wait(attempt: int) -> None:
    assert Backoff(initial=7 * SECOND, factor=1).delay(attempt, Highest()) == 7 * SECOND


@pytest.mark.parametrize(
    "wrong",
    [
        {"initial": timedelta(seconds=-1)},
        {"initial": timedelta(hours=2)},
        {"factor": 0.5},
        {"factor": 101},
        {"factor": float("nan")},
        {"factor": float("inf")},
    ],
    ids=str,
)
def test_refuses_what_makes_no_sense(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="Backoff"):
        Backoff(**wrong)  # type: ignore[arg-type]  # on purpose
