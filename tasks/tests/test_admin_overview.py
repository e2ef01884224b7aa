"""The front page: its numbers, charts and sentences are true, and cost no walk over the tasks."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from tasks import lifecycle, rollups, tally
from tasks.admin import charts, queue_rows
from tasks.admin.notices import about, sentence
from tasks.admin.queue_rows import Queues
from tasks.models import Queue, Task, Worker
from tasks.pending import Situation
from tasks.rollups import HOUR, Counts
from tasks.states import Status, WaitingFor
from tasks.tally import Cell
from tasks.tests.rows import MakeTask, make_worker
from tasks.tests.staff import QUEUES, TASKS, WORKERS, StaffClient, staff_client
from tasks.tests.test_indexes import assert_only, plans_of

__all__ = ["staff_client"]  # a fixture

MakeNotice = Callable[[MakeTask], None]


def words_of(client: Client, url: str = "/admin/") -> str:
    """What a page says, without its marks."""
    answer = client.get(url)
    assert answer.status_code == 200
    return " ".join(unescape(re.sub("<[^>]+>", " ", answer.content.decode())).split())


def row_of(name: str) -> dict[str, Any]:
    [row] = [row for row in Queues(Situation()).rows if row.name == name]
    return {field: getattr(row, field) for field in row.__slots__}


def happened(queue: str, **counts: int) -> None:
    cells = {
        "created": Cell(tally.CREATED, queue),
        "completed": Cell(tally.SETTLED, queue, transition="complete"),
        "failed": Cell(tally.SETTLED, queue, transition="fail"),
        "waited_10_to_25_ms": Cell(tally.WAIT, queue, detail="2"),
        "ran_1_to_2_5_s": Cell(tally.RUN_IN, queue, detail="8"),
    }
    rollups.add({cells[name]: count for name, count in counts.items()}, now=timezone.now())


# -- numbers


def test_it_leads_to_the_lists_and_counts_where_tasks_are(admin_client: Client, make_task: MakeTask) -> None:
    make_task(Status.FAILED)
    make_worker(executors=3, busy=2)

    page = admin_client.get("/admin/").content.decode()

    failed = (f"{TASKS}?status=failed", f"{TASKS}?queue=default&amp;status=failed")
    for link in (TASKS, QUEUES, WORKERS, *failed):
        assert f'href="{link}"' in page
    assert "Failed 1" in words_of(admin_client)
    assert "2 of 3 executors busy" in page


@pytest.mark.django_db
def test_a_queue_has_a_row_with_all_that_matters(make_task: MakeTask) -> None:
    now = timezone.now()
    make_task(queue="mail", ready_at=now - timedelta(minutes=3))
    make_task(queue="mail", ready_at=None, waiting_for=WaitingFor.TIME, run_at=now + timedelta(hours=1))
    make_task(Status.PROCESSING, queue="mail")
    make_worker("mail")
    make_worker("other")
    happened("mail", completed=7, failed=2, waited_10_to_25_ms=4, ran_1_to_2_5_s=4)

    row = row_of("mail")

    numbers = {what: row[what].text for what in ("ready", "processing", "waiting", "failed")}
    assert numbers == {"ready": "1", "processing": "1", "waiting": "1", "failed": "0"}
    assert timedelta(minutes=3) <= row["oldest_for"] < timedelta(minutes=4)
    assert (row["waits"], row["runs"]) == (["18 ms", "24 ms"], ["1.8 s", "2.4 s"])
    assert row["workers"] == 1
    assert row["an_hour"] == 9
    assert "Last hour: 7 completed, 2 failed" in row["spark"]


@pytest.mark.parametrize(
    ("seconds", "told"), [(0.0004, "<1 ms"), (48, "48 s"), (60, "1 min"), (180, "~3 min"), (288, "~5 min")]
)
def test_what_wide_buckets_tell_is_said_to_be_a_guess(seconds: float, told: str) -> None:
    assert queue_rows._seconds(seconds) == told


@pytest.mark.django_db
@pytest.mark.parametrize(
    "columns",
    [
        {"ready_at": None, "waiting_for": WaitingFor.HANDLER},
        {"status": Status.FAILED},
        {"status": Status.PROCESSING},
    ],
    ids=["waiting", "failed", "processing"],
)
def test_a_queue_is_shown_wherever_its_tasks_are(make_task: MakeTask, columns: dict[str, Any]) -> None:
    make_task(queue="elsewhere", **columns)

    assert row_of("elsewhere")


@pytest.mark.django_db
def test_a_queue_that_was_busy_lately_is_shown_though_it_is_empty() -> None:
    happened("busy", completed=1)

    assert row_of("busy")["an_hour"] == 1


@pytest.mark.django_db
def test_rows_end_somewhere_and_sums_say_so(make_task: MakeTask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.admin.queue_rows.MAX_QUEUES", 2)
    for name in ("a", "b", "c"):
        make_task(queue=name)

    queues = Queues(Situation())

    assert [row.name for row in queues.rows] == ["a", "b"]
    assert queues.more >= 1
    assert queues.all("ready").text == "2+"


def test_the_page_reads_tasks_by_index_alone(admin_client: Client, make_task: MakeTask) -> None:
    for status in Status:
        make_task(status, queue="mail")

    plans = plans_of(lambda: admin_client.get("/admin/"))

    for plan in plans:
        assert not plan.complaints, plan.text


def test_numbers_of_queues_come_from_the_same_indexes(make_task: MakeTask) -> None:
    make_task(queue="mail")

    plans = plans_of(lambda: Queues(Situation()).rows)

    assert_only(plans, "task_ready_idx", "task_waiting_queue_idx", "task_failed_queue_idx", "task_lease_idx")


# -- charts


def test_a_chart_is_told_in_words_and_as_a_table_too(admin_client: Client) -> None:
    happened("mail", created=1234, completed=1200, failed=3)

    page = admin_client.get("/admin/").content.decode()
    said = words_of(admin_client)

    assert 'aria-label="Last hour: 1,234 created, 1,200 completed, 3 failed, 0 cancelled"' in page
    assert 'aria-label="Last day: 1,234 created, 1,200 completed, 3 failed, 0 cancelled"' in page
    assert "From Created Completed Failed Cancelled" in said
    assert said.count("1,234 1,200 3 0") == 2  # a row of each table


@pytest.mark.parametrize(
    ("peak", "top"), [(0, 4), (4, 4), (5, 8), (9, 12), (21, 28), (29, 40), (2037, 2800), (41, 80)]
)
def test_the_axis_ends_at_a_number_with_four_equal_parts(peak: int, top: int) -> None:
    now = datetime(2026, 1, 12, 12, 0, 30, tzinfo=UTC)
    counts = {HOUR.begins(now)[3]: Counts(completed=peak)}

    made = charts.chart(
        "hour", "Last hour", "", period=HOUR, counts=counts, now=now, rows_of=timedelta(minutes=5)
    )

    assert made.ticks[0] == f"{top:,}"
    assert len(made.ticks) == 5


def test_bars_stand_on_each_other_and_fill_no_more_than_the_drawing() -> None:
    now = datetime(2026, 1, 12, 12, 0, 30, tzinfo=UTC)
    counts = {HOUR.begins(now)[0]: Counts(completed=2, failed=1, cancelled=1)}

    drawing = charts.chart(
        "hour", "Last hour", "", period=HOUR, counts=counts, now=now, rows_of=timedelta(minutes=5)
    ).drawing

    bars = re.findall(r'class="(\w+)" x="1" y="([\d.]+)" width="8" height="([\d.]+)"', drawing)
    assert bars == [
        ("completed", "50.00", "50.00"),
        ("failed", "25.00", "25.00"),
        ("cancelled", "0.00", "25.00"),
    ]


# -- sentences


def test_without_any_task_it_says_how_to_make_one(admin_client: Client) -> None:
    assert "No tasks yet. Make the first one: curl -X POST http://testserver/tasks" in words_of(admin_client)


def test_once_there_are_tasks_it_does_not(admin_client: Client, make_task: MakeTask) -> None:
    make_task()

    assert "No tasks yet" not in words_of(admin_client)


def no_worker(make_task: MakeTask) -> None:
    pass


def lost_worker(make_task: MakeTask) -> None:
    make_worker(unseen=timedelta(minutes=3, seconds=10))


def draining(make_task: MakeTask) -> None:
    make_worker(drain_requested_at=timezone.now())


def mixed_versions(make_task: MakeTask) -> None:
    for version in ("v2", "v2", "v1"):
        make_worker(version=version)


def paused_queue(make_task: MakeTask) -> None:
    make_worker()
    lifecycle.pause(["mail"], by="ann", reason="the provider is down")
    Queue.objects.update(paused_at=timezone.now() - timedelta(hours=3, minutes=1, seconds=30))
    make_task(queue="mail")


def unserved_queue(make_task: MakeTask) -> None:
    make_worker("other")
    make_task(queue="mail")
    make_task(queue="mail")


def unknown_handler(make_task: MakeTask) -> None:
    make_worker()
    make_task(handler="legacy.sync", ready_at=None, waiting_for=WaitingFor.HANDLER)


def behind(make_task: MakeTask) -> None:
    make_worker()
    make_task(queue="mail", ready_at=timezone.now() - timedelta(minutes=50, seconds=2))


@pytest.mark.parametrize(
    ("happen", "sentence"),
    [
        (no_worker, "No worker is running, so no task will: start one with manage.py runworkers ."),
        (lost_worker, "No worker has been seen for 3 minutes: start one with manage.py runworkers ."),
        (draining, "All workers drain, and claim nothing more: start one with manage.py runworkers ."),
        (mixed_versions, "Mixed versions: of the workers, 2 run v2 , 1 runs v1 ."),
        (paused_queue, "Queue mail has been paused by ann for 3 h 1 min: the provider is down. 1 task waits"),
        (
            unserved_queue,
            "No worker takes queue mail , and 2 tasks wait in it: "
            "start one with manage.py runworkers --queues mail",
        ),
        (unknown_handler, "No live worker knows the handler legacy.sync , for which 1 task waits"),
        (behind, "Workers are behind in queue mail : its oldest ready task has waited for 50 min"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(
    admin_client: Client, make_task: MakeTask, happen: MakeNotice, sentence: str
) -> None:
    happen(make_task)

    assert sentence in words_of(admin_client)


def test_when_all_is_well_nothing_is_said(admin_client: Client, make_task: MakeTask) -> None:
    make_worker()
    make_task()

    assert 'class="notices"' not in admin_client.get("/admin/").content.decode()


def test_a_command_in_a_sentence_is_marked_and_all_else_escaped() -> None:
    assert sentence("<b> `a & b`.") == "&lt;b&gt; <code>a &amp; b</code>."


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.2, "1 second"), (59, "59 seconds"), (61, "1 minute"), (7300, "2 hours"), (90_000, "1 day")],
)
def test_how_long_is_said_in_one_unit(seconds: float, said: str) -> None:
    assert about(timedelta(seconds=seconds)) == said


# -- who sees what


def test_each_part_is_for_those_who_may_see_its_rows(staff_client: StaffClient, make_task: MakeTask) -> None:
    paused_queue(make_task)
    make_worker(version="other")
    seen = {
        codename: words_of(staff_client(codename)) for codename in ("view_task", "view_queue", "view_worker")
    }

    parts = {"Last hour tasks": "view_task", "paused by ann": "view_queue", "Mixed versions": "view_worker"}
    for words, needed in parts.items():
        assert [codename for codename, page in seen.items() if words in page] == [needed]
    nothing = words_of(staff_client())
    assert not [words for words in parts if words in nothing]


def test_who_may_see_nothing_costs_nothing(staff_client: StaffClient, make_task: MakeTask) -> None:
    make_task()
    client = staff_client()

    with pytest.raises(AssertionError, match="asked the database nothing"):
        plans_of(lambda: client.get("/admin/"))


# -- live


def test_a_page_that_renews_itself_does_not_use_up_a_message(admin_client: Client) -> None:
    admin_client.post(f"{QUEUES}add/", {"name": "mail", "_save": "1"})

    renewed = admin_client.get(QUEUES, headers={"X-Live": "1"}).content.decode()
    loaded = admin_client.get(QUEUES).content.decode()

    assert "Queue mail is paused." not in renewed
    assert "Queue mail is paused." in loaded


@pytest.mark.parametrize("url", ["/admin/", QUEUES, WORKERS])
def test_what_renews_itself_is_marked_and_works_without_a_script(admin_client: Client, url: str) -> None:
    page = admin_client.get(url).content.decode()

    assert 'id="live" data-live' in page
    assert re.search(r'<p class="live" data-live-every="5" hidden>', page)  # the script shows it
    assert '<script src="/static/tasks/live.js" defer></script>' in page
    assert Task.objects.count() == Worker.objects.count() == 0
