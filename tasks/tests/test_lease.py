"""Keeping a lease, losing it, handing it back."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from tasks import lifecycle
from tasks.contract import ErrorReport, Failed, Succeeded
from tasks.models import Attempt, Task
from tasks.states import Status
from tasks.tests.rows import LeasedTask, MakeTask, Steal, claimant, row_of

HOUR = timedelta(hours=1)
BOOM = ErrorReport("builtins.ValueError", "boom")


# --- extend


def test_extend_prolongs_what_is_held_and_changes_nothing_else(leased_task: LeasedTask) -> None:
    lease, now = leased_task(), timezone.now()
    before = row_of(lease)

    extension = lifecycle.extend([lease], by=HOUR, now=now)

    assert extension == lifecycle.Extension(frozenset({lease.task_id}), frozenset(), ())
    assert row_of(lease) == {**before, "lease_expires_at": now + HOUR}


def test_extend_revives_a_lease_that_lapsed_and_that_nobody_took(leased_task: LeasedTask) -> None:
    lease = leased_task()
    later = timezone.now() + 10 * HOUR

    extension = lifecycle.extend([lease], by=HOUR, now=later)

    assert extension.held == {lease.task_id}
    assert lifecycle.reap(now=later).written == []


def test_extend_tells_who_has_lost_a_lease(leased_task: LeasedTask, steal: Steal) -> None:
    mine, stolen, ended = leased_task(), leased_task(), leased_task()
    steal(stolen)
    lifecycle.settle([(ended, Succeeded())], now=timezone.now())

    extension = lifecycle.extend([mine, stolen, ended], by=HOUR, now=timezone.now())

    assert extension.held == {mine.task_id}
    assert extension.lost == (stolen, ended)


def test_extend_tells_a_lost_lease_from_a_new_one_on_the_same_task(
    leased_task: LeasedTask, steal: Steal
) -> None:
    old = leased_task()
    new = steal(old)

    for both in ([old, new], [new, old]):
        extension = lifecycle.extend(both, by=HOUR, now=timezone.now())

        assert extension.held == {new.task_id}
        assert extension.lost == (old,)


def test_extend_tells_whose_end_was_asked_for(leased_task: LeasedTask) -> None:
    quiet, asked = leased_task(), leased_task()
    lifecycle.cancel([asked.task_id])

    extension = lifecycle.extend([quiet, asked], by=HOUR, now=timezone.now())

    assert extension.held == {quiet.task_id, asked.task_id}
    assert extension.cancelled == {asked.task_id}


def test_extend_takes_more_than_one_statement_can_hold(make_task: MakeTask) -> None:
    for _ in range(300):
        make_task()
    leases = lifecycle.claim(claimant(), limit=300, now=timezone.now())
    now = timezone.now()

    extension = lifecycle.extend(leases, by=HOUR, now=now)

    assert len(extension.held) == 300
    assert Task.objects.filter(lease_expires_at=now + HOUR).count() == 300


def test_extending_nothing_is_nothing(db: None) -> None:
    extension = lifecycle.extend([], by=HOUR, now=timezone.now())

    assert (extension.held, extension.lost) == (frozenset(), ())


# --- a wish to end what runs


def test_a_worker_hears_of_its_own_tasks_alone(leased_task: LeasedTask, steal: Steal) -> None:
    mine, quiet, stolen = leased_task(), leased_task(), leased_task()
    thief = steal(stolen)
    lifecycle.cancel([mine.task_id, stolen.task_id])

    assert lifecycle.asked_to_stop(mine.worker_id) == {mine.task_id}
    assert lifecycle.asked_to_stop(thief.worker_id) == {stolen.task_id}
    assert quiet.task_id not in lifecycle.asked_to_stop(mine.worker_id)


# --- release


def test_release_gives_the_attempt_back(leased_task: LeasedTask) -> None:
    lease = leased_task(attempt=2, attempts_before=1, max_attempts=2, releases=10)

    assert lifecycle.release([lease], now=timezone.now()) == 1

    after = row_of(lease)
    assert (after["status"], after["attempt"], after["releases"]) == (Status.PENDING, 2, 10)
    assert after["lease_expires_at"] is None
    assert not Attempt.objects.exists()


def test_a_task_that_never_began_keeps_its_place_in_the_line(make_task: MakeTask) -> None:
    first = make_task(ready_at=timezone.now() - HOUR)
    make_task()
    leases = lifecycle.claim(claimant(), limit=1, now=timezone.now())

    lifecycle.release(leases, now=timezone.now())

    [again] = lifecycle.claim(claimant(), limit=1, now=timezone.now())
    assert again.task_id == first.pk
    assert again.fence == leases[0].fence + 1
    assert again.attempt == 1


def test_a_task_that_never_began_has_not_started(leased_task: LeasedTask) -> None:
    lease = leased_task()

    lifecycle.release([lease], now=timezone.now())

    assert row_of(lease)["started_at"] is None


def test_a_fence_never_goes_down(leased_task: LeasedTask) -> None:
    lease = leased_task(queue="a")

    for expected in range(2, 5):
        lifecycle.release([lease], now=timezone.now())
        [lease] = lifecycle.claim(claimant("a"), limit=1, now=timezone.now())
        assert lease.fence == expected


@pytest.mark.parametrize("by", [1, -1])
def test_only_the_very_fence_counts(leased_task: LeasedTask, by: int) -> None:
    lease = leased_task(fence=5)
    other = lease._replace(fence=lease.fence + by)

    assert lifecycle.extend([other], by=HOUR, now=timezone.now()).lost == (other,)
    assert lifecycle.release([other], now=timezone.now()) == 0
    assert lifecycle.settle([(other, Succeeded())], now=timezone.now()).lost == [other]
    assert row_of(lease)["status"] == Status.PROCESSING


def test_a_task_that_is_gone_is_lost(leased_task: LeasedTask) -> None:
    lease = leased_task()
    Task.objects.all().delete()

    assert lifecycle.extend([lease], by=HOUR, now=timezone.now()).lost == (lease,)
    assert lifecycle.settle([(lease, Succeeded())], now=timezone.now()).lost == [lease]
    assert lifecycle.settle([(lease, Failed(error=BOOM))], now=timezone.now()).lost == [lease]
