"""Thousands of lives of a queue whose workers crash, pause and lose acknowledgements, each by its seed."""

from __future__ import annotations

import os
import random
from collections.abc import Iterable
from datetime import timedelta
from secrets import randbits

import pytest
from django.db import DatabaseError

from tasks.tests.simulation import workers
from tasks.tests.simulation.bugs import BUGS
from tasks.tests.simulation.desk import Desk
from tasks.tests.simulation.memory import Memory
from tasks.tests.simulation.schedule import Schedule
from tasks.tests.simulation.stories import Broken
from tasks.tests.simulation.verbs import verbs
from tasks.tests.simulation.wrong_statements import WRONG, Wrong

pytestmark = pytest.mark.timeout(600)  # beside other load

# Plays one schedule again: SIMULATION_SEED=1234 pytest tasks/tests/simulation
TOLD = os.environ.get("SIMULATION_SEED")
FEW, MANY, PARTS = 5_000, 100_000, 10
ON_A_DATABASE, MORE_ON_A_DATABASE = 60, 300

CAME_UP = {
    "a cancel that came too late",
    "a hand-back for nothing",
    "a hand-back that costs",
    "a late outcome",
    "a run under a lease that had lapsed",
    "asked to stop, then cancelled",
    "asked to stop, then completed",
    "asked to stop, then failed",
    "expired",
    "handed back unbegun",
    "poison",
    "reaped after a lapse",
    "reaped of the dead",
    "two runs at once",
}


def play(desk: Desk, rng: random.Random, seed: int) -> Schedule:
    """Fails with what happened, and with the way to see it again."""
    schedule = Schedule(desk, rng)
    try:
        schedule.run()
    except Broken as broken:
        acts = " ".join(schedule.told)
        pytest.fail(f"{broken}\nafter: {acts}\nagain: SIMULATION_SEED={seed} pytest tasks/tests/simulation")
    return schedule


def in_memory(seed: int) -> Schedule:
    rng = random.Random(seed)
    return play(Memory(rng), rng, seed)


def on_the_database(seed: int) -> Schedule:
    rng = random.Random(seed)
    with verbs(rng) as desk:
        return play(desk, rng, seed)


def chosen(seeds: Iterable[int]) -> Iterable[int]:
    return seeds if TOLD is None else [int(TOLD)]


def fresh(count: int) -> Iterable[int]:
    first = randbits(40)
    print(f"seeds from {first} on")  # pytest shows it when the test fails
    return chosen(range(first, first + count))


def test_whatever_happens_to_its_workers_no_task_is_lost_doubled_or_forgotten() -> None:
    met: set[str] = set()

    for seed in chosen(range(FEW)):
        met |= in_memory(seed).rules.met

    assert met == CAME_UP or TOLD  # a rule whose case never came up has not been shown


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_nor_in_a_hundred_thousand_schedules_that_nobody_has_seen_before(part: int) -> None:
    for seed in fresh(MANY // PARTS):
        in_memory(seed)


@pytest.mark.django_db
def test_the_verbs_on_a_database_keep_the_same_rules() -> None:
    for seed in chosen(range(ON_A_DATABASE)):
        on_the_database(seed)


@pytest.mark.slow
@pytest.mark.django_db
def test_the_verbs_on_a_database_keep_them_in_schedules_that_nobody_has_seen_before() -> None:
    for seed in fresh(MORE_ON_A_DATABASE):
        on_the_database(seed)


@pytest.mark.django_db
def test_the_book_in_memory_does_what_the_database_does() -> None:
    for seed in chosen(range(ON_A_DATABASE, ON_A_DATABASE + 10)):
        simulated, real = in_memory(seed), on_the_database(seed)

        assert real.told == simulated.told
        assert real.rules.seen == simulated.rules.seen


def test_a_seed_plays_the_same_schedule_again() -> None:
    one, again = in_memory(7), in_memory(7)

    assert one.told == again.told
    assert one.rules.seen == again.rules.seen


@pytest.mark.parametrize("bug", BUGS)
def test_a_book_that_is_wrong_is_found_out(bug: type[Memory]) -> None:
    with pytest.raises(Broken):
        for seed in range(FEW):
            rng = random.Random(seed)
            Schedule(bug(rng), rng).run()


def test_a_worker_that_begins_what_has_waited_too_long_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "WAITING_AT_MOST", timedelta.max)

    with pytest.raises(Broken, match="no run without a lease"):
        for seed in range(FEW):
            rng = random.Random(seed)
            Schedule(Memory(rng), rng).run()


@pytest.mark.slow
@pytest.mark.django_db
@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_a_statement_that_is_wrong_is_found_out(wrong: Wrong) -> None:
    with pytest.raises((Broken, DatabaseError)), wrong():  # the constraints of the table notice some
        for seed in range(MORE_ON_A_DATABASE):
            rng = random.Random(seed)
            with verbs(rng) as desk:
                Schedule(desk, rng).run()
