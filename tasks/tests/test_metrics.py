"""``/metrics``: the whole service, right across its processes, in a bounded number of series."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from urllib.request import Request, urlopen

import pytest
from django.db import DatabaseError, connections, transaction
from django.http import HttpResponse
from django.test import RequestFactory, override_settings
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tasks import gauges, lifecycle, stats, tally, tokens, totals
from tasks.api import metrics
from tasks.conf import config
from tasks.contract import TaskSpec
from tasks.grants import Scope
from tasks.models import Total, Worker
from tasks.models.task import database
from tasks.ops import metering
from tasks.tally import Bounded, Cell, Tally
from tasks.tests.api_client import Api, api
from tasks.tests.exposition import Series, series, value
from tasks.tests.rows import MakeTask
from tasks.tests.service import Serve, Service, serve, where
from tasks.tests.test_health import gone
from tasks.tests.workers import RunWorkers, enqueue, run_workers, wait_finished, wait_until

__all__ = ["api", "gone", "run_workers", "serve", "where"]


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the answer to an earlier test."""
    monkeypatch.setattr(metrics, "_service", metrics.ServiceCollector())


ENDED = "taskservice_tasks_settled_total"


def scraped(service: Service, **headers: str) -> Series:
    with urlopen(Request(f"{service.url}/metrics", headers=headers), timeout=20) as answer:
        return series(answer.read().decode())


def test_api_and_workers_count_together_whichever_process_answers(serve: Serve) -> None:
    service = serve(TASKSERVICE_API_PROCESSES="2")
    made = [
        service.call("/tasks", {"handler": "demo.echo", "payload": {}, "queue": "mail"}) for _ in range(12)
    ]
    for task in made:
        service.until(task["id"], "completed")

    def counted() -> Series | None:
        found = scraped(service)
        return found if value(found, ENDED, queue="mail", outcome="succeeded") >= 12 else None

    found = wait_until(counted, "what ended is counted")

    assert found
    labels = {"queue": "mail", "handler": "demo.echo"}
    assert value(found, ENDED, **labels, outcome="succeeded", transition="complete") == 12
    assert value(found, "taskservice_tasks_claimed_total", **labels) == 12
    assert value(found, "taskservice_task_wait_seconds_count", queue="mail") == 12
    assert value(found, "taskservice_task_run_seconds_count", handler="demo.echo") == 12
    assert value(found, "taskservice_task_run_seconds_bucket", handler="demo.echo", le="+Inf") == 12
    created = "taskservice_tasks_created_total"
    wait_until(lambda: value(scraped(service), created, **labels) == 12, "both APIs have told what they made")
    posts = {"route": "/tasks", "method": "POST", "status": "201"}
    assert value(scraped(service), "taskservice_http_requests_total", **posts) == 12
    assert value(found, "taskservice_workers") == 1
    assert value(found, "taskservice_executors") == 1
    assert value(found, "taskservice_database_up") == 1


@pytest.mark.django_db(transaction=True)
def test_what_handlers_make_and_what_crashes_is_counted(run_workers: RunWorkers) -> None:
    before = totals.read()
    crash, parent = enqueue("fault.segfault", max_attempts=1), enqueue("fault.trace")
    worker = run_workers("--n", "1")
    wait_finished(crash)
    wait_finished(parent)
    worker.stop()

    after = totals.read()

    def more(cell: Cell) -> float:
        return after.get(cell, 0) - before.get(cell, 0)

    assert more(Cell(tally.SETTLED, "default", "fault.segfault", "crashed", "fail")) == 1
    assert more(Cell(tally.CRASHES)) == 1
    assert more(Cell(tally.CREATED, "default", "fault.tell")) == 1
    assert more(Cell(tally.CLAIMED, "default", "fault.segfault")) == 1


@pytest.mark.django_db(transaction=True)
def test_totals_of_several_add_up_and_never_go_back() -> None:
    one, other = Tally(), Tally()
    for each in (one, other, other):
        each.created([("mail", "demo.echo")])
        totals.write_down(each)

    assert totals.read()[Cell(tally.CREATED, "mail", "demo.echo")] == 3


@pytest.mark.django_db(transaction=True)
def test_what_could_not_be_written_down_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = Tally()
    mine.created([("mail", "demo.echo")])
    with monkeypatch.context() as broken:
        broken.setattr(totals, "_ADD", "INSERT INTO nowhere VALUES (%s, %s, %s, %s, %s, %s)")
        with pytest.raises(DatabaseError):
            totals.write_down(mine)

    totals.write_down(mine)

    assert totals.read()[Cell(tally.CREATED, "mail", "demo.echo")] == 1


@pytest.mark.django_db(transaction=True)
def test_a_client_cannot_make_ever_more_series() -> None:
    for process in range(3):
        mine = Tally()
        mine.created([(f"queue-{process}-{number}", "demo.echo") for number in range(1000)])
        totals.write_down(mine)

    queues = set(Total.objects.values_list("queue", flat=True))
    assert len(queues) <= tally.MAX_QUEUES + 2
    assert sum(totals.read().values()) == 3000
    assert tally.OTHER in queues


def test_beyond_its_bound_all_names_are_one() -> None:
    names = Bounded(most=2)

    assert [names.name(name) for name in ("a", "b", "c", "a", "d")] == [
        "a",
        "b",
        tally.OTHER,
        "a",
        tally.OTHER,
    ]


def test_unknown_paths_and_methods_are_one_series(api: Api) -> None:
    for number in range(20):
        api.get(f"/nowhere/{number}")
        api.ask(f"METHOD{number}", f"/tasks/{number}")

    found = series(api.get("/metrics").body.decode())

    labels = [dict(has) for name, has in found if name == "taskservice_http_requests_total"]
    assert not [one for one in labels if "nowhere" in one["route"] or "METHOD" in one["method"]]
    assert "none" in {one["route"] for one in labels}
    assert "other" in {one["method"] for one in labels}


def test_ready_tasks_and_the_oldest_of_any_priority_are_told(api: Api, make_task: MakeTask) -> None:
    now = timezone.now()
    for priority, age in ((50, 10), (0, 500), (-7, 90)):
        make_task(queue="mail", priority=priority, ready_at=now - timedelta(seconds=age))

    measured = gauges.measure()

    assert measured.ready["mail"] == 3
    assert 500 <= measured.oldest_ready_seconds["mail"] < 530
    assert measured.workers == 0


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("lengths", "told"),
    [
        ((500,), (401,)),  # no more than of one queue
        ((500, 500), (401, 401)),
        ((500, 500, 500, 500), (201, 201, 201, 201)),
        ((500, 30, 500, 0), (381, 30, 381, 0)),  # what the short ones leave is for the long
        ((150, 300, 10, 10), (150, 300, 10, 10)),
    ],
)
def test_all_queues_together_are_counted_so_far(
    monkeypatch: pytest.MonkeyPatch, lengths: Sequence[int], told: Sequence[int]
) -> None:
    for name, number in {"COUNTED": 400, "COUNTED_IN_ALL": 800, "STEP": 10}.items():
        monkeypatch.setattr(gauges, name, number)
    queues = {f"q{number}": length for number, length in enumerate(lengths)}
    counted: list[int] = []

    def ready_in(queue: str, *, most: int) -> int:
        counted.append(min(most + 1, queues[queue]))
        return counted[-1]

    monkeypatch.setattr(stats, "ready_in", ready_in)
    monkeypatch.setattr(stats, "queues_in_use", lambda: list(queues))

    assert tuple(gauges.measure().ready.values()) == told
    assert sum(counted) <= 2 * (gauges.COUNTED_IN_ALL + len(queues))


def test_scrapers_that_come_at_once_ask_the_database_once(api: Api, make_task: MakeTask) -> None:
    api.get("/metrics")

    with CaptureQueriesContext(connections[database()]) as asked:
        api.get("/metrics")

    assert len(asked.captured_queries) == 0


def test_a_token_needs_the_scope_metrics(api: Api) -> None:
    _, plain = tokens.issue("plain", scopes=[Scope.READ], now=timezone.now())
    _, scraper = tokens.issue("scraper", scopes=[Scope.METRICS], now=timezone.now())
    given = {**{name: getattr(config(), name) for name in config().__slots__}, "authentication": "required"}
    with override_settings(TASKSERVICE=given):
        api.get("/metrics").problem(401, "unauthenticated")
        api.ask("GET", "/metrics", authorization=f"Bearer {plain}").problem(403, "forbidden")
        assert api.ask("GET", "/metrics", authorization=f"Bearer {scraper}").status == 200
        assert api.get("/healthz").status == 200


@pytest.mark.usefixtures("gone")
def test_without_its_database_it_tells_that_and_what_it_knows_itself() -> None:
    api = Api()
    api.get("/healthz")

    found = series(api.get("/metrics").body.decode())

    assert found["taskservice_database_up", frozenset()] == 0
    assert value(found, "taskservice_http_requests_total", route="/healthz") > 0
    assert value(found, "taskservice_workers") == 0


def test_a_database_that_can_only_be_read_is_up(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(totals, "_ADD", "INSERT INTO nowhere VALUES (%s, %s, %s, %s, %s, %s)")
    tally.here.created([("mail", "demo.echo")])

    found = series(api.get("/metrics").body.decode())
    tally.here.take()

    assert found["taskservice_database_up", frozenset()] == 1
    assert ("taskservice_workers", frozenset()) in found


def test_openmetrics_is_spoken_to_those_who_ask(api: Api) -> None:
    answer = api.ask("GET", "/metrics", accept="application/openmetrics-text; version=1.0.0")

    assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
    assert answer.body.endswith(b"# EOF\n")


@pytest.mark.django_db(transaction=True)
def test_a_workers_presence_says_how_many_executors_are_busy() -> None:
    worker = Worker(id="a:1:b", host="a", pid=1, executors=3, busy=2)
    lifecycle.present(worker, now=timezone.now())

    measured = gauges.measure()

    assert (measured.workers, measured.executors, measured.busy) == (1, 3, 2)


@pytest.mark.django_db(transaction=True)
def test_what_was_rolled_back_is_not_counted() -> None:
    tally.here.take()
    with transaction.atomic(using=database()):
        lifecycle.enqueue([TaskSpec(handler="demo.echo", queue="undone")])
        transaction.set_rollback(True, using=database())

    assert not [cell for cell in tally.here.take() if cell.queue == "undone"]


def test_a_request_is_answered_where_it_cannot_be_counted(
    rf: RequestFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The arbiter was killed, and the next one has removed its folder."""

    def no_folder(*labels: str) -> None:
        raise FileNotFoundError

    monkeypatch.setattr(metering.REQUESTS, "labels", no_folder)

    assert metering.metered(lambda request: HttpResponse("yes"))(rf.get("/tasks")).status_code == 200
