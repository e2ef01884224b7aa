"""How long handlers take, and so what may wait behind what."""

from __future__ import annotations

import math

from tasks.worker.pace import WEIGHT, Pace


def test_a_handler_never_seen_to_end_is_expected_to_take_for_ever() -> None:
    assert Pace().expect("new") == math.inf


def test_until_something_has_ended_nothing_is_known_of_the_pace() -> None:
    assert Pace().recent == math.inf


def test_one_run_tells_how_long_the_next_may_take() -> None:
    pace = Pace()

    pace.saw("mail", 0.5)

    assert pace.expect("mail") == 0.5
    assert pace.expect("other") == math.inf


def test_one_slow_run_among_short_ones_counts_for_little_and_is_forgotten() -> None:
    pace = Pace()
    for _ in range(50):
        pace.saw("mail", 0.001)

    pace.saw("mail", 1.0)
    after_the_hiccup = pace.expect("mail")
    for _ in range(100):
        pace.saw("mail", 0.001)

    assert math.isclose(after_the_hiccup, 0.001 + WEIGHT * 0.999)
    assert pace.expect("mail") < 0.0011


def test_a_handler_that_became_slow_is_known_as_slow_after_a_few_runs() -> None:
    pace = Pace()
    for _ in range(1000):
        pace.saw("mail", 0.001)

    for _ in range(5):
        pace.saw("mail", 1.0)

    assert pace.expect("mail") > 0.3


def test_the_recent_pace_is_that_of_whatever_ran_last() -> None:
    pace = Pace()

    pace.saw("long", 10.0)
    pace.saw("short", 0.001)

    assert pace.recent == 0.001
