"""Several processes on one database: of two that want the same, one gets it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from django.utils import timezone

from tasks import lifecycle
from tasks.models import Attempt, Task
from tasks.states import Status
from tasks.tests.rows import HANDLER, claimant, columns_for

pytestmark = pytest.mark.django_db(transaction=True)

Race = Callable[..., list[Any]]


@pytest.fixture
def race(child_env: dict[str, str]) -> Race:
    """Run each of these (name, argument…) in a process of its own, all at once; their answers."""

    def run(*racers: tuple[str, ...]) -> list[Any]:
        done = subprocess.run(
            [sys.executable, "-m", "tasks.tests.racers"],
            input=json.dumps(racers),
            env=child_env,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        answers: list[Any] = json.loads(done.stdout)
        return answers

    return run


def make(count: int, status: Status = Status.PENDING) -> list[str]:
    """Ids as text, in order."""
    given = {"handler": HANDLER, "created_at": timezone.now(), **columns_for(status)}
    made = Task.objects.bulk_create(Task(status=status, **given) for _ in range(count))
    return sorted(str(task.pk) for task in made)


def test_no_two_claimers_get_the_same_lease_and_no_task_is_completed_twice(race: Race) -> None:
    ids = make(300)

    answers = race(*(("claim_all", f"worker-{number}") for number in range(4)))

    claimed = [tuple(lease) for claims, _ in answers for lease in claims]
    completed = [id_ for _, ids_ in answers for id_ in ids_]
    assert len(claimed) == len(set(claimed))
    assert sorted(completed) == ids
    assert sum(1 for claims, _ in answers if claims) > 1  # it was a race


def test_what_was_cancelled_never_starts_and_what_started_is_asked_to_stop(race: Race) -> None:
    ids = make(200)

    one, other, *answers = race(
        ("claim_what_is_there", "worker-1"),
        ("claim_what_is_there", "worker-2"),
        ("cancel_each", *ids),
        ("cancel_each", *reversed(ids)),
    )

    claimed = Counter(one + other)
    cancelled = Counter(id_ for cancelled, _ in answers for id_ in cancelled)
    requested = {id_ for _, requested in answers for id_ in requested}
    assert claimed + cancelled == Counter(ids)  # each once, in one of the two
    assert requested == set(claimed)
    assert Task.objects.filter(status=Status.CANCELLED).count() == len(cancelled)
    assert Task.objects.filter(status=Status.PROCESSING, cancel_requested_at__isnull=False).count() == len(
        claimed
    )


def test_an_attempt_ends_once_by_its_worker_or_by_the_reaper(race: Race) -> None:
    ids = make(150)
    lifecycle.claim(claimant(worker_id="worker"), limit=150, now=timezone.now())

    settled, also_settled, reaped, also_reaped = race(
        ("settle_what_is_held", "worker", "forward"),
        ("settle_what_is_held", "worker", "reverse"),
        ("reap_all",),
        ("reap_all",),
    )

    completed = settled + also_settled
    lapsed = reaped + also_reaped
    assert sorted(completed + lapsed) == ids
    assert {str(task.pk) for task in Task.objects.filter(status=Status.COMPLETED)} == set(completed)
    assert {str(task.pk) for task in Task.objects.filter(status=Status.PENDING)} == set(lapsed)
    assert Attempt.objects.count() == len(lapsed)


def test_of_several_retries_one_counts(race: Race) -> None:
    ids = make(60, Status.FAILED)

    moved = race(("retry_each", *ids), ("retry_each", *reversed(ids)), ("retry_each", *ids))

    assert sum(moved) == len(ids)
    assert Task.objects.filter(status=Status.PENDING).count() == len(ids)


def test_many_producers_lose_nothing(race: Race) -> None:
    answers = race(*(("enqueue_many", f"producer {number}", "50") for number in range(8)))

    ids = [id_ for made in answers for id_ in made]
    assert len(set(ids)) == 400
    assert {str(pk) for pk in Task.objects.values_list("pk", flat=True)} == set(ids)
    titles = Counter(Task.objects.values_list("title", flat=True))
    assert titles == {f"producer {number}": 50 for number in range(8)}
