"""What happened in each minute: written along with the totals, for all processes, and in bounded room."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.db import DatabaseError, connections
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tasks import lifecycle, rollups, tally, totals
from tasks.models import Rollup, Worker
from tasks.models.task import database
from tasks.rollups import DAY, HOUR, Counts
from tasks.states import TRANSITIONS
from tasks.tally import Cell, Tally
from tasks.tests.rows import MakeTask, claimant
from tasks.tests.workers import RunWorkers, enqueue, run_workers, wait_finished
from tasks.worker.duties import Duties

__all__ = ["run_workers"]

pytestmark = pytest.mark.django_db(transaction=True)

NOON = datetime(2026, 1, 12, 12, 0, 30, tzinfo=UTC)


def hour_of(queue: str) -> Counts:
    """All that is told of a queue's last hour."""
    return rollups.total([*rollups.by_queue(timezone.now()).get(queue, {}).values()])


def created(queue: str, count: int) -> Tally:
    mine = Tally()
    mine.created([(queue, "demo.echo")] * count)
    return mine


def test_what_several_processes_count_adds_up_by_the_minute_and_by_ten() -> None:
    totals.write_down(created("mail", 2))
    totals.write_down(created("mail", 3))

    assert hour_of("mail").created == 5
    assert rollups.total([*rollups.last_day(timezone.now()).values()]).created == 5


def test_each_stretch_has_a_row_of_its_own() -> None:
    for minutes in (0, 0, 1, 9, 10):
        rollups.add({Cell(tally.CREATED, "mail"): 1}, now=NOON + timedelta(minutes=minutes))

    now = NOON + timedelta(minutes=10)
    minutes_of = {moment.minute: counts.created for moment, counts in rollups.by_queue(now)["mail"].items()}
    tens = {moment.minute: counts.created for moment, counts in rollups.last_day(now).items()}
    assert minutes_of == {0: 2, 1: 1, 9: 1, 10: 1}
    assert tens == {0: 4, 10: 1}


COLUMNS = {
    "complete": "completed",
    "fail": "failed",
    "expire": "failed",
    "back-off": "retried",
    "stop": "cancelled",
    "cancel": "cancelled",
}


@pytest.mark.parametrize("name", [transition.name for transition in TRANSITIONS])
def test_a_transition_counts_in_one_column_or_in_none(name: str) -> None:
    mine = Tally()
    mine.settled({("mail", "demo.echo", "whatever", name): 3})
    totals.write_down(mine)

    told = {column: count for column, count in hour_of("mail")._asdict().items() if count}
    assert told == ({COLUMNS[name]: 3} if name in COLUMNS else {})


def test_what_ends_without_an_attempt_counts_too(make_task: MakeTask) -> None:
    tally.here.take()
    late = timezone.now() - timedelta(minutes=1)
    cancelled = make_task(queue="rollup-moved")
    make_task(queue="rollup-moved", expires_at=late)
    make_task(queue="rollup-moved", created_at=late)

    lifecycle.cancel([cancelled.pk])
    lifecycle.expire(now=timezone.now())
    lifecycle.purge("rollup-moved", before=timezone.now() - timedelta(seconds=30))
    totals.write_down()

    told = hour_of("rollup-moved")
    assert (told.cancelled, told.failed) == (2, 1)


def test_a_worker_tells_how_long_the_tasks_of_a_queue_waited_and_ran(run_workers: RunWorkers) -> None:
    task = enqueue("fault.noop", queue="told")
    worker = run_workers("--n", "1")
    wait_finished(task)
    worker.stop()

    told, times = hour_of("told"), rollups.times(timezone.now())["told"]

    assert (told.claimed, told.completed) == (1, 1)
    assert (sum(times.waits), sum(times.runs)) == (1, 1)


def test_run_times_by_queue_are_no_metric() -> None:
    mine = Tally()
    mine.ran({("mail", "demo.echo"): [0.2]})
    mine.moved("cancel", ["mail"])
    totals.write_down(mine)

    assert {cell.name for cell in totals.read()} == {tally.RUN}


def test_what_no_chart_shows_any_more_is_pruned() -> None:
    now = timezone.now()
    kept: set[tuple[int, datetime]] = set()
    for period in (HOUR, DAY):
        first = period.begins(now)[0]
        for moment in (first, first - 3 * timedelta(seconds=period.seconds)):
            rollups.add({Cell(tally.CREATED, "mail"): 1}, now=moment)
        kept.add((period.seconds, first))
    who = claimant()

    Duties(who, Worker(id=who.worker_id), None).prune([])

    left = set(Rollup.objects.values_list("seconds", "begins_at"))
    assert kept <= left
    assert all(moment >= now - timedelta(hours=1, minutes=3) for seconds, moment in left if seconds == 60)
    assert all(moment >= now - timedelta(hours=24, minutes=21) for _, moment in left)


def test_to_look_for_what_is_old_writes_nothing() -> None:
    with CaptureQueriesContext(connections[database()]) as asked:
        rollups.prune(now=timezone.now())

    assert not [query["sql"] for query in asked.captured_queries if not query["sql"].startswith("SELECT")]


def test_a_client_that_names_ever_more_queues_fills_no_table() -> None:
    for process in range(3):
        mine = Tally()
        mine.created([(f"queue-{process}-{number}", "demo.echo") for number in range(300)])
        totals.write_down(mine)

    stretches = Rollup.objects.values("seconds", "begins_at").distinct().count()
    assert Rollup.objects.count() <= (tally.MAX_QUEUES + 2) * stretches


def test_what_could_not_be_written_down_is_in_neither_table(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = created("mail", 1)
    with monkeypatch.context() as broken:
        broken.setattr(rollups, "_ADD", rollups._ADD.replace("INTO rollups", "INTO nowhere"))
        with pytest.raises(DatabaseError):
            totals.write_down(mine)

    assert not totals.read()
    totals.write_down(mine)
    assert hour_of("mail").created == 1
