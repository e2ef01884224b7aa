"""Who gets which task, and when."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from tasks import lifecycle
from tasks.contract import Lease
from tasks.lifecycle.leasing import PROMOTED_AT_ONCE
from tasks.models import Queue, Task
from tasks.states import Status, WaitingFor
from tasks.tests.rows import LEASE_FOR, LeasedTask, MakeTask, claimant

NOON = datetime(2026, 1, 12, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
TICK = timedelta(microseconds=1)


def claim(*queues: str, limit: int = 100, now: datetime | None = None, **fields: Any) -> list[Lease]:
    return lifecycle.claim(claimant(*queues), limit=limit, now=now or timezone.now(), **fields)


def titles(leases: list[Lease]) -> list[str]:
    by_id = dict(Task.objects.values_list("pk", "title"))
    return [by_id[lease.task_id] for lease in leases]


# --- what a claim does


def test_a_claim_leases_the_task_and_uses_an_attempt(make_task: MakeTask) -> None:
    task = make_task(fence=7, attempt=2)
    now = timezone.now()

    claim(now=now)

    task.refresh_from_db()
    assert (task.status, task.attempt, task.fence) == (Status.PROCESSING, 3, 8)
    assert (task.worker_id, task.attempted_at, task.started_at) == ("host:1:worker", now, now)
    assert task.lease_expires_at == now + LEASE_FOR
    assert task.ready_at is not None  # kept: leases are sorted by it


def test_a_lease_says_what_its_row_says(make_task: MakeTask) -> None:
    task = make_task(
        args=[1, "ä"],
        payload={"a": 1},
        queue="mail",
        attempt=4,
        attempts_before=3,
        max_attempts=9,
        crashes=1,
        releases=2,
        timeout_seconds=1.5,
    )
    now = timezone.now()

    [lease] = claim(now=now)

    assert (lease.task_id, lease.fence, lease.handler, lease.queue) == (task.pk, 1, task.handler, "mail")
    assert (lease.attempt, lease.attempts_before, lease.max_attempts) == (5, 3, 9)
    assert (lease.crashes, lease.releases, lease.timeout) == (1, 2, 1.5 * SECOND)
    assert (lease.worker_id, lease.claimed_at) == ("host:1:worker", now)


def test_arguments_go_out_as_the_text_they_came_in_as(make_task: MakeTask) -> None:
    make_task(args=["ä"], payload={"a": [1, None]})

    [lease] = claim()

    assert lease.args.replace(" ", "") == '["ä"]' or lease.args.replace(" ", "") == '["\\u00e4"]'
    assert lease.payload.replace(" ", "") == '{"a":[1,null]}'


def test_the_first_start_stays_the_first(make_task: MakeTask) -> None:
    first = timezone.now() - timedelta(days=1)
    task = make_task(started_at=first, attempt=1)

    claim()

    task.refresh_from_db()
    assert task.started_at == first
    assert task.attempted_at != first


def test_a_task_is_claimed_once(make_task: MakeTask) -> None:
    make_task()

    assert len(claim()) == 1
    assert claim() == []


@pytest.mark.parametrize("status", [status for status in Status if status != Status.PENDING])
def test_only_pending_tasks_are_claimed(make_task: MakeTask, status: Status) -> None:
    make_task(status)

    assert claim() == []


def test_no_more_are_claimed_than_there_is_room_for(make_task: MakeTask) -> None:
    for _ in range(5):
        make_task()

    assert len(claim(limit=3)) == 3
    assert len(claim(limit=3)) == 2
    assert claim(limit=3) == []


def test_no_room_is_no_claim(make_task: MakeTask) -> None:
    make_task()

    assert claim(limit=0) == []


# --- order


def test_higher_priority_first_then_first_ready_first_claimed(make_task: MakeTask) -> None:
    make_task(title="late", ready_at=NOON + TICK)
    make_task(title="low", priority=-1, ready_at=NOON - SECOND)
    make_task(title="early", ready_at=NOON)
    make_task(title="urgent", priority=5, ready_at=NOON + SECOND)
    make_task(title="high", priority=1, ready_at=NOON + SECOND)

    one_by_one = [titles(claim(limit=1))[0] for _ in range(3)]

    assert one_by_one + titles(claim()) == ["urgent", "high", "early", "late", "low"]


def test_what_was_ready_at_the_same_time_goes_by_age(make_task: MakeTask) -> None:
    for number in range(20):
        make_task(title=str(number), ready_at=NOON)

    assert titles(claim(limit=10)) + titles(claim()) == [str(number) for number in range(20)]


# --- queues


def test_queues_are_served_in_the_order_they_are_named(make_task: MakeTask) -> None:
    make_task(title="b", queue="b", priority=100)
    make_task(title="a", queue="a", ready_at=NOON)
    make_task(title="other", queue="c")

    assert titles(claim("b", "a")) == ["b", "a"]


def test_the_later_queue_gets_what_room_the_earlier_leaves(make_task: MakeTask) -> None:
    for queue in ("a", "a", "b", "b"):
        make_task(title=queue, queue=queue)

    assert titles(claim("a", "b", limit=3)) == ["a", "a", "b"]


def test_without_names_every_queue_is_served(make_task: MakeTask) -> None:
    for queue in ("a", "b", "default", "ü"):
        make_task(title=queue, queue=queue)

    assert sorted(titles(claim())) == ["a", "b", "default", "ü"]


def test_without_names_no_queue_starves_another(make_task: MakeTask) -> None:
    for queue in ("a", "b", "c"):
        for _ in range(40):
            make_task(title=queue, queue=queue)

    first_claims = {titles(claim(limit=1))[0] for _ in range(40)}

    assert first_claims == {"a", "b", "c"}


@pytest.mark.parametrize("queues", [(), ("held", "open")])
def test_nothing_is_claimed_from_a_paused_queue(make_task: MakeTask, queues: tuple[str, ...]) -> None:
    Queue.objects.create(name="held", paused_at=timezone.now())
    Queue.objects.create(name="open")
    make_task(title="held", queue="held")
    make_task(title="open", queue="open")

    assert titles(claim(*queues)) == ["open"]


# --- handlers


def test_a_handler_that_the_worker_does_not_know_is_left_to_others(make_task: MakeTask) -> None:
    make_task(title="strange", handler="no.such.handler", priority=100)
    make_task(title="known")

    assert titles(claim(limit=1)) == ["known"]


def test_a_worker_that_knows_nothing_takes_nothing(make_task: MakeTask) -> None:
    make_task()

    assert lifecycle.claim(claimant(handlers=()), limit=10, now=timezone.now()) == []


def test_a_worker_may_know_many_handlers(make_task: MakeTask) -> None:
    make_task(handler="handler.7")
    many = claimant(handlers=tuple(f"handler.{number}" for number in range(500)))

    assert len(lifecycle.claim(many, limit=10, now=timezone.now())) == 1


# --- time


@pytest.mark.parametrize("run_at", [NOON, NOON + TICK, NOON + 500_000 * TICK, NOON - TICK])
def test_never_early_not_even_by_a_microsecond(make_task: MakeTask, run_at: datetime) -> None:
    make_task(run_at=run_at, ready_at=None, waiting_for=WaitingFor.TIME)

    assert claim(now=run_at - TICK) == []
    assert len(claim(now=run_at)) == 1


def test_what_became_due_stands_in_line_by_its_time(make_task: MakeTask) -> None:
    for title, run_at in (("second", NOON + SECOND), ("first", NOON)):
        make_task(title=title, run_at=run_at, ready_at=None, waiting_for=WaitingFor.TIME)
    make_task(title="third", ready_at=NOON + 2 * SECOND)

    assert titles(claim(now=NOON + 3 * SECOND)) == ["first", "second", "third"]
    first = Task.objects.get(title="first")
    assert (first.ready_at, first.waiting_for) == (NOON, None)


def test_no_more_become_due_at_once_than_one_transaction_should_hold(make_task: MakeTask) -> None:
    due = PROMOTED_AT_ONCE + 1
    wait = {"handler": "other", "created_at": NOON, "run_at": NOON, "waiting_for": WaitingFor.TIME}
    Task.objects.bulk_create([Task(**wait) for _ in range(due)])

    claim(now=NOON)
    still_waiting = Task.objects.filter(waiting_for=WaitingFor.TIME).count()
    claim(now=NOON)

    assert still_waiting == 1
    assert not Task.objects.filter(waiting_for=WaitingFor.TIME).exists()


def test_what_waits_for_a_handler_is_not_claimed(make_task: MakeTask) -> None:
    make_task(ready_at=None, waiting_for=WaitingFor.HANDLER, run_at=NOON)

    assert claim(now=NOON + SECOND) == []


def test_nothing_starts_once_it_has_expired(make_task: MakeTask) -> None:
    make_task(title="dead", expires_at=NOON, priority=1)
    make_task(title="alive", expires_at=NOON + TICK)

    assert titles(claim(now=NOON)) == ["alive"]


# --- handed ahead


def test_ahead_come_more_that_wait_behind_others(make_task: MakeTask) -> None:
    for number in range(6):
        make_task(title=str(number), ready_at=NOON)

    assert titles(claim(limit=1, ahead=3)) == ["0", "1", "2", "3"]


def test_a_last_attempt_is_never_handed_ahead(make_task: MakeTask) -> None:
    make_task(title="first", priority=2)
    make_task(title="last attempt", priority=1, attempt=4, max_attempts=5)
    make_task(title="of a second budget", attempt=9, attempts_before=5, max_attempts=5)
    make_task(title="has more", ready_at=timezone.now())
    make_task(title="only one", priority=1, max_attempts=1)

    assert titles(claim(limit=1, ahead=4)) == ["first", "has more"]
    assert titles(claim(limit=3)) == ["last attempt", "only one", "of a second budget"]


def test_ahead_is_for_those_who_have_something_to_begin_with(make_task: MakeTask) -> None:
    make_task()

    assert len(claim(limit=0, ahead=1)) == 1
    assert claim(limit=0, ahead=1) == []


# --- looking before claiming


def test_a_look_offers_what_a_claim_would_find(make_task: MakeTask) -> None:
    assert not lifecycle.look().offers(claimant())
    make_task(queue="a")

    sight = lifecycle.look()

    assert sight.offers(claimant())
    assert sight.offers(claimant("b", "a"))
    assert not sight.offers(claimant("b"))
    assert not sight.offers(claimant("a", handlers=[]))


def test_a_look_offers_what_has_become_due(make_task: MakeTask) -> None:
    wait = {"ready_at": None, "waiting_for": WaitingFor.TIME}
    make_task(run_at=timezone.now() + timedelta(hours=1), **wait)
    assert not lifecycle.look().offers(claimant())

    make_task(run_at=timezone.now() - SECOND, **wait)

    assert lifecycle.look().offers(claimant())


def test_what_has_become_due_is_claimed_with_an_older_look_too(make_task: MakeTask) -> None:
    due = make_task(run_at=timezone.now() - SECOND, ready_at=None, waiting_for=WaitingFor.TIME)
    sight = lifecycle.look()

    [lease] = lifecycle.claim(claimant(), limit=1, now=sight.now, sight=sight)

    assert lease.task_id == due.id


def test_the_next_due_task_says_how_long_to_sleep(make_task: MakeTask) -> None:
    assert lifecycle.look().due_in is None
    wait = {"ready_at": None, "waiting_for": WaitingFor.TIME}
    make_task(run_at=timezone.now() + timedelta(hours=2), **wait)
    make_task(run_at=timezone.now() + timedelta(hours=1), **wait)

    wait_for = lifecycle.look().due_in

    assert wait_for is not None
    assert timedelta(minutes=55) < wait_for <= timedelta(hours=1, seconds=1)


def test_a_leased_task_is_not_leased_again(leased_task: LeasedTask) -> None:
    lease = leased_task(queue="a")

    assert claim("a") == []
    assert Task.objects.get().fence == lease.fence
