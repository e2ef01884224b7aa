"""The verbs keep to a model of them in plain Python, whatever comes after whatever."""

from __future__ import annotations

from secrets import randbits

import hypothesis
import pytest
from django.db import DatabaseError
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tasks.tests.model.machine import Machine
from tasks.tests.simulation.wrong_statements import WRONG, Wrong

pytestmark = [pytest.mark.django_db, pytest.mark.timeout(600)]  # beside other load

QUIET = settings(
    max_examples=60,
    stateful_step_count=30,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],  # beside other load; no life may be cut short
)
UNSHRUNK = settings(QUIET, phases=[Phase.generate], max_examples=300)
THOROUGH = settings(QUIET, max_examples=500, stateful_step_count=50, derandomize=False)


def test_the_verbs_do_what_the_model_does() -> None:
    run_state_machine_as_test(Machine, settings=QUIET)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_verbs_do_what_the_model_does_in_lives_that_nobody_has_seen_before(
    request: pytest.FixtureRequest,
) -> None:
    """``--hypothesis-seed=1234`` plays them again."""
    seed = request.config.getoption("--hypothesis-seed") or randbits(32)
    print(f"again: --hypothesis-seed={seed}")  # pytest shows it when the test fails

    @hypothesis.seed(int(seed))
    class Seeded(Machine):
        pass

    run_state_machine_as_test(Seeded, settings=THOROUGH)


@pytest.mark.slow
@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_a_statement_that_is_wrong_does_not_do_what_the_model_does(wrong: Wrong) -> None:
    with pytest.raises((AssertionError, DatabaseError)), wrong():  # the table's constraints notice some
        run_state_machine_as_test(Machine, settings=UNSHRUNK)
