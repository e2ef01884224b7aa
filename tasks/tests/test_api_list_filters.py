"""Parameters of ``GET /tasks``: they hold together, travel with the pages, or are refused by name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext

from tasks import stats
from tasks.api import pagination
from tasks.models import Task
from tasks.models.task import database
from tasks.states import Status, WaitingFor
from tasks.tests.api_client import Api, api, ids, joined, pages_from
from tasks.tests.rows import MakeTask

__all__ = ["api"]


@pytest.fixture
def seven(make_task: MakeTask) -> list[str]:
    """The ids of seven tasks, newest first."""
    return [str(make_task().pk) for _ in range(7)][::-1]


@pytest.mark.parametrize("status", Status)
def test_a_status_can_be_asked_for(api: Api, make_task: MakeTask, status: Status) -> None:
    made = {each: str(make_task(each).pk) for each in Status}

    assert pages_from(api, f"/tasks?status={status}") == [[made[status]]]


def test_a_queue_and_a_handler_can_be_asked_for(api: Api, make_task: MakeTask) -> None:
    wanted = str(make_task(queue="mail", handler="mail.send").pk)
    make_task(queue="mail", handler="demo.echo")
    make_task(queue="other", handler="mail.send")

    assert pages_from(api, "/tasks?queue=mail&handler=mail.send") == [[wanted]]
    assert len(pages_from(api, "/tasks?queue=mail")[0]) == 2
    assert len(pages_from(api, "/tasks?handler=mail.send")[0]) == 2
    assert pages_from(api, "/tasks?queue=none") == [[]]


def test_all_filters_hold_together(api: Api, make_task: MakeTask) -> None:
    wanted = str(make_task(Status.FAILED, queue="mail").pk)
    make_task(Status.FAILED)
    make_task(queue="mail")

    assert pages_from(api, "/tasks?status=failed&queue=mail&handler=demo.echo") == [[wanted]]


def test_the_filter_travels_with_the_pages(api: Api, make_task: MakeTask) -> None:
    wanted = [str(make_task(Status.FAILED, queue="mail").pk) for _ in range(5) if make_task(queue="mail")][
        ::-1
    ]

    first = api.get("/tasks?status=failed&queue=mail&limit=2").json()

    assert joined(pages_from(api, "/tasks?status=failed&queue=mail&limit=2")) == wanted
    query = parse_qs(urlsplit(first["next"]).query)
    assert (query["status"], query["queue"], query["limit"]) == (["failed"], ["mail"], ["2"])


def test_a_cursor_alone_keeps_its_filter(api: Api, make_task: MakeTask) -> None:
    wanted = [str(make_task(Status.FAILED).pk) for _ in range(3) if make_task()][::-1]
    url = api.get("/tasks?status=failed&limit=1").json()["next"]
    cursor = parse_qs(urlsplit(url).query)["cursor"][0]

    assert ids(api.get(f"/tasks?cursor={cursor}").json()["items"]) == wanted[1:]


# -- what is not asked for rightly


@pytest.mark.parametrize(
    ("query", "parameter", "code"),
    [
        ("limit=0", "limit", "invalid"),
        ("limit=201", "limit", "invalid"),
        ("limit=-1", "limit", "invalid"),
        ("limit=", "limit", "invalid"),
        ("limit=ten", "limit", "invalid"),
        ("limit=1e1", "limit", "invalid"),
        ("limit=%D9%A1", "limit", "invalid"),
        (f"limit={'9' * 5000}", "limit", "invalid"),
        ("status=done", "status", "invalid"),
        ("status=", "status", "invalid"),
        ("status=PENDING", "status", "invalid"),
        ("queue=a%20b", "queue", "invalid"),
        ("queue=", "queue", "invalid"),
        ("queue=%00", "queue", "invalid"),
        ("handler=%00", "handler", "invalid"),
        ("handler=", "handler", "invalid"),
        (f"handler={'x' * 256}", "handler", "invalid"),
        ("stauts=failed", "stauts", "unknown"),
        ("status=failed&status=pending", "status", "repeated"),
        ("cursor=", "cursor", "invalid"),
    ],
)
def test_a_wrong_parameter_is_refused_by_name(api: Api, query: str, parameter: str, code: str) -> None:
    [error] = api.get(f"/tasks?{query}").problem(400, "invalid-field")["errors"]

    assert (error["parameter"], error["code"]) == (parameter, code)
    assert error["detail"].startswith(parameter)


def test_all_wrong_parameters_are_told_at_once(api: Api) -> None:
    problem = api.get("/tasks?limit=0&colour=red&status=x").problem(400, "invalid-field")

    assert {error["parameter"] for error in problem["errors"]} == {"limit", "colour", "status"}


@pytest.mark.parametrize(
    "spoilt",
    [
        lambda cursor: cursor[:-1],
        lambda cursor: "A" + cursor[1:],
        lambda cursor: cursor.swapcase(),
        lambda cursor: cursor.split(":")[0],
        lambda cursor: "x",
        lambda cursor: "ü%00",
        lambda cursor: "9" * 5000,
    ],
)
def test_a_cursor_that_we_did_not_write_is_bad(api: Api, seven: list[str], spoilt: Any) -> None:
    url = api.get("/tasks?limit=2").json()["next"]
    cursor = parse_qs(urlsplit(url).query)["cursor"][0]

    problem = api.get(f"/tasks?cursor={spoilt(cursor)}").problem(400, "invalid-field")
    assert problem["detail"] == "bad cursor"


def test_a_cursor_of_another_filter_is_bad(api: Api, make_task: MakeTask) -> None:
    for _ in range(2):
        make_task(Status.FAILED)
    url = api.get("/tasks?status=failed&limit=1").json()["next"]

    problem = api.get(url.replace("status=failed", "status=pending")).problem(400, "invalid-field")
    assert problem["detail"] == "bad cursor"


# -- more of them


def test_a_tag_can_be_asked_for(api: Api, make_task: MakeTask) -> None:
    wanted = str(make_task(tags=["a", 'say "hi"', "ü"]).pk)
    make_task(tags=["ab"])
    make_task()

    assert pages_from(api, "/tasks?tag=a") == [[wanted]]
    assert pages_from(api, "/tasks?tag=say+%22hi%22") == [[wanted]]
    assert pages_from(api, "/tasks?tag=%C3%BC") == [[wanted]]
    assert pages_from(api, "/tasks?tag=b") == [[]]


def test_a_word_of_the_title_or_the_handler_can_be_asked_for(api: Api, make_task: MakeTask) -> None:
    titled = str(make_task(title="Monthly REPORT").pk)
    handled = str(make_task(handler="report.send").pk)
    make_task(title="other")

    assert pages_from(api, "/tasks?q=report") == [[handled, titled]]
    assert pages_from(api, "/tasks?q=%25") == [[]], "no pattern"


def test_times_can_be_asked_for(api: Api, make_task: MakeTask) -> None:
    at = [datetime(2026, 1, day, tzinfo=UTC) for day in (1, 2, 3)]
    made = [
        str(make_task(Status.COMPLETED, id=task_id_at(when), created_at=when, finished_at=when).pk)
        for when in at
    ]

    for column in ("created", "finished"):
        assert pages_from(api, f"/tasks?{column}_after=2026-01-02T00:00:00Z") == [[made[2]]]
        assert pages_from(api, f"/tasks?{column}_before=2026-01-02T00:00:00%2B00:00") == [[made[0]]]
        both = f"{column}_after=2026-01-01T12:00:00Z&{column}_before=2026-01-02T12:00:00Z"
        assert pages_from(api, f"/tasks?{both}&status=completed") == [[made[1]]]


def task_id_at(when: datetime) -> UUID:
    return UUID(int=int(when.timestamp() * 1000) << 80 | 0x7000_8000 << 48)


def test_clocks_that_disagree_hide_no_task(api: Api, make_task: MakeTask) -> None:
    """The id is of the process's clock, created_at of the database's."""
    when = datetime(2026, 1, 1, tzinfo=UTC)
    ahead = str(make_task(id=task_id_at(when + timedelta(minutes=50)), created_at=when).pk)
    behind = str(make_task(id=task_id_at(when - timedelta(minutes=50)), created_at=when).pk)

    exactly = "created_after=2025-12-31T23:59:59Z&created_before=2026-01-01T00:00:01Z"
    assert pages_from(api, f"/tasks?{exactly}") == [[ahead, behind]]


@pytest.mark.parametrize(
    "query",
    [
        "tag=",
        f"tag={'x' * 65}",
        "q=",
        f"q={'x' * 201}",
        "created_after=yesterday",
        "created_before=2026-01-01",
        "finished_after=",
        "finished_before=2026-01-02T00:00:00+01:00",
        "count=all",
        "sort=title",
    ],
)
def test_a_filter_that_cannot_be_is_refused_by_name(api: Api, query: str) -> None:
    problem = api.get(f"/tasks?{query}").problem(400, "invalid-field")

    assert [error["parameter"] for error in problem["errors"]] == [query.partition("=")[0]]


# -- how many there are


def test_a_list_counts_nothing_unless_it_is_asked_to(api: Api, seven: list[str]) -> None:
    assert "count" not in api.get("/tasks").json()
    assert "count" not in api.get("/tasks?count=none").json()


@pytest.mark.parametrize("kind", ["estimate", "exact"])
def test_all_that_match_are_counted_whatever_page_it_is(api: Api, seven: list[str], kind: str) -> None:
    first = api.get(f"/tasks?limit=3&count={kind}").json()
    second = api.get(first["next"]).json()

    assert first["count"] == second["count"] == {"value": 7, "relation": "eq"}
    assert api.get(f"/tasks?count={kind}&status=failed").json()["count"] == {"value": 0, "relation": "eq"}


def test_counting_ends_somewhere(api: Api, seven: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pagination, "ESTIMATED", 3)
    monkeypatch.setattr(pagination, "EXACT", 5)

    assert api.get("/tasks?count=estimate").json()["count"] == {"value": 3, "relation": "gte"}
    assert api.get("/tasks?count=exact").json()["count"] == {"value": 5, "relation": "gte"}


def test_an_estimate_looks_at_the_newest_alone(
    api: Api, seven: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pagination, "WALK", 3)

    assert api.get("/tasks?count=estimate").json()["count"] == {"value": 4, "relation": "gte"}
    assert api.get("/tasks?count=exact").json()["count"] == {"value": 7, "relation": "eq"}


@pytest.mark.parametrize(
    "query", ["created_before=2020-01-01T00:00:00Z", "created_after=2020-01-01T00:00:00Z"]
)
@pytest.mark.parametrize("more", ["", "&status=failed", "&handler=demo.echo"])
def test_what_was_made_when_is_found_by_the_key(api: Api, seven: list[str], query: str, more: str) -> None:
    """created_at has no index: a page of long ago would walk over all that came since."""
    with CaptureQueriesContext(connections[database()]) as asked:
        api.get(f"/tasks?{query}{more}")

    *_, page = (query["sql"] for query in asked.captured_queries if 'FROM "tasks"' in query["sql"])
    assert re.search(r'"tasks"\."id" (<|>=) ', page), page


def test_a_task_that_moves_while_pending_ones_are_looked_for_is_not_missed(
    api: Api, make_task: MakeTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = make_task(waiting_for=WaitingFor.TIME, ready_at=None, run_at=datetime(2999, 1, 1, tzinfo=UTC))
    parts = stats._indexed(Status.PENDING)

    def promoted_meanwhile(status: Status) -> Iterator[Any]:
        yield parts[0]
        Task.objects.filter(pk=waiting.pk).update(waiting_for=None, ready_at=datetime(2026, 1, 1, tzinfo=UTC))
        yield from parts[1:]

    class Parts(list[Any]):
        """The promotion happens between the first part and the second."""

        def __iter__(self) -> Iterator[Any]:
            return promoted_meanwhile(Status.PENDING)

    monkeypatch.setattr(stats, "_indexed", lambda status: Parts(parts))

    assert stats.live_ids(Status.PENDING, limit=10) == [waiting.pk]
