"""The page of workers: who lives, what it runs and for how long, and the lever that drains one."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.admin.utils import quote
from django.test import Client
from django.utils import timezone

from tasks.admin.workers import cards
from tasks.models import Worker
from tasks.states import Status
from tasks.tests.rows import MakeTask, make_worker
from tasks.tests.staff import WORKERS, StaffClient, said, staff_client
from tasks.tests.test_admin_overview import words_of
from tasks.tests.test_indexes import assert_only, plans_of

__all__ = ["staff_client"]  # a fixture


def drain_of(worker: Worker) -> str:
    return f"{WORKERS}{quote(worker.pk)}/drain/"


def test_a_worker_tells_where_it_is_and_how_it_is(admin_client: Client) -> None:
    make_worker("mail", "images", host="web-1", pid=4711, busy=2, memory_mb=1320, recycled=41, version="v7")

    page = words_of(admin_client, WORKERS)

    for words in ("Host web-1", "Process 4711", "2 of 3 busy", "Memory 1,320 MB", "Recycled 41", "Code v7",
                  "Queues mail, images", "Last seen", "Alive"):  # fmt: skip
        assert words in page


@pytest.mark.parametrize(
    ("elapsed", "limit", "words", "late"),
    [
        (timedelta(seconds=60), 300, "1 min of 5 min", False),
        (timedelta(seconds=250), 300, "4 min 10 s of 5 min", True),
        (timedelta(seconds=3700), None, "1 h 1 min, no limit", False),
    ],
)
def test_what_it_runs_is_shown_with_its_time_against_its_limit(
    admin_client: Client,
    make_task: MakeTask,
    elapsed: timedelta,
    limit: float | None,
    words: str,
    late: bool,
) -> None:
    worker = make_worker()
    make_task(
        Status.PROCESSING,
        title="Invoices",
        worker_id=worker.pk,
        attempted_at=timezone.now() - elapsed,
        timeout_seconds=limit,
    )

    page = admin_client.get(WORKERS).content.decode()

    assert f"Invoices {words}" in words_of(admin_client, WORKERS)
    assert ('class="late"' in page) == late


@pytest.mark.django_db
def test_what_waits_behind_others_in_its_hands_is_only_counted(make_task: MakeTask) -> None:
    worker = make_worker(executors=2)
    for _ in range(5):
        make_task(Status.PROCESSING, worker_id=worker.pk, attempted_at=timezone.now())

    [card] = cards([worker])

    assert (len(card.running), card.more) == (2, 3)


@pytest.mark.django_db
def test_the_tasks_in_hand_are_found_by_their_leases(make_task: MakeTask) -> None:
    worker = make_worker()
    make_task(Status.PROCESSING, worker_id=worker.pk)

    assert_only(plans_of(lambda: list(cards([worker]))), "task_lease_idx")


@pytest.mark.django_db
def test_of_living_workers_those_that_run_other_code_than_most_are_marked() -> None:
    workers = [make_worker(version=version) for version in ("v2", "v2", "v1")]
    workers.append(make_worker(version="v0", unseen=timedelta(hours=1)))

    assert [card.differs for card in cards(workers)] == [False, False, True, False]


def test_mixed_versions_are_warned_of(admin_client: Client) -> None:
    make_worker(version="v1")
    assert "Mixed versions" not in words_of(admin_client, WORKERS)

    make_worker(version="v2")

    assert "Mixed versions" in words_of(admin_client, WORKERS)


def test_drain_asks_first_and_then_writes_it_into_the_workers_row(admin_client: Client) -> None:
    worker = make_worker()

    assert "will end when what it runs is done" in words_of(admin_client, drain_of(worker))
    assert Worker.objects.get().drain_requested_at is None
    answer = admin_client.post(drain_of(worker), follow=True)

    worker.refresh_from_db()
    assert worker.drain_requested_at is not None
    assert worker.drain_requested_by == "admin"
    [told] = said(answer)
    assert "claims nothing more within 10 s, and ends when what it runs is done" in told
    assert "Draining" in words_of(admin_client, WORKERS)
    assert f'href="{drain_of(worker)}"' not in answer.content.decode()
    [entry] = LogEntry.objects.filter(object_id=worker.pk)
    assert entry.get_change_message() == "Drained by hand."


def test_to_drain_it_twice_changes_nothing(admin_client: Client) -> None:
    worker = make_worker()
    admin_client.post(drain_of(worker))
    before = Worker.objects.values().get()

    answer = admin_client.post(drain_of(worker), follow=True)

    assert said(answer)[-1] == f"Worker {worker.pk} had been asked before."
    assert Worker.objects.values().get() == before
    assert LogEntry.objects.count() == 1


def test_a_worker_that_has_ended_cannot_be_drained(admin_client: Client) -> None:
    worker = make_worker()
    url = drain_of(worker)
    worker.delete()

    assert said(admin_client.post(url, follow=True)) == ["This worker is no longer there."]


def test_drain_has_a_permission(staff_client: StaffClient) -> None:
    worker = make_worker()
    looking, draining = staff_client("view_worker"), staff_client("view_worker", "drain_worker")

    assert looking.get(drain_of(worker)).status_code == 403
    assert looking.post(drain_of(worker)).status_code == 403
    assert "Drain…" not in looking.get(WORKERS).content.decode()
    assert Worker.objects.get().drain_requested_at is None
    assert "Drain…" in draining.get(WORKERS).content.decode()
    assert draining.post(drain_of(worker)).status_code == 302
    assert Worker.objects.get().drain_requested_at is not None


def test_without_any_worker_it_says_how_to_start_one(admin_client: Client) -> None:
    page = words_of(admin_client, WORKERS)

    assert "No worker is running, so no task will: start one with manage.py runworkers ." in page
