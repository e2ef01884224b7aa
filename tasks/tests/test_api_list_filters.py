"""Parameters of ``GET /tasks``: they hold together, travel with the pages, or are refused by name."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tasks.states import Status
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
