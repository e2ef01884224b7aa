"""``GET /tasks``: newest first, page by page, each task exactly once, by an index, never counted."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qs

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tasks.api import pagination, task_list
from tasks.models import Task
from tasks.models.task import database
from tasks.states import Status
from tasks.tests.api_client import Api, api, ids, joined, pages_from
from tasks.tests.rows import MakeTask

__all__ = ["api"]


@pytest.fixture
def seven(make_task: MakeTask) -> list[str]:
    """The ids of seven tasks, newest first."""
    return [str(make_task().pk) for _ in range(7)][::-1]


def test_an_empty_list_has_one_empty_page(api: Api) -> None:
    assert api.get("/tasks").json() == {"items": [], "next": None, "previous": None}


def test_an_item_is_the_same_resource_as_by_its_id(api: Api) -> None:
    made = api.create(title="a", payload={"a": 1})

    assert api.get("/tasks").json()["items"] == [made]


def test_the_newest_come_first(api: Api, seven: list[str]) -> None:
    page = api.get("/tasks").json()

    assert ids(page["items"]) == seven
    assert (page["next"], page["previous"]) == (None, None)


@pytest.mark.parametrize("limit", [1, 2, 3, 6, 7, 8])
def test_the_pages_show_each_task_once(api: Api, seven: list[str], limit: int) -> None:
    pages = pages_from(api, f"/tasks?limit={limit}")

    assert joined(pages) == seven
    assert all(len(page) == limit for page in pages[:-1])


def test_previous_leads_back_to_the_first_page(api: Api, seven: list[str]) -> None:
    second = api.get(api.get("/tasks?limit=3").json()["next"]).json()
    third = api.get(second["next"]).json()

    assert pages_from(api, third["previous"], "previous") == [seven[3:6], seven[:3]]


def test_a_first_page_reached_backwards_leads_on_again(api: Api, seven: list[str]) -> None:
    second = api.get(api.get("/tasks?limit=3").json()["next"]).json()
    first = api.get(second["previous"]).json()

    assert (ids(first["items"]), first["previous"]) == (seven[:3], None)
    assert ids(api.get(first["next"]).json()["items"]) == seven[3:6]


@pytest.mark.parametrize("limit", [1, 3, 7, 8])
def test_oldest_first_is_the_same_list_from_its_other_end(api: Api, seven: list[str], limit: int) -> None:
    pages = pages_from(api, f"/tasks?sort=created_at&limit={limit}")

    assert joined(pages) == seven[::-1]
    assert all(len(page) == limit for page in pages[:-1])


def test_oldest_first_leads_back_and_to_what_comes_meanwhile(
    api: Api, make_task: MakeTask, seven: list[str]
) -> None:
    first = api.get("/tasks?sort=created_at&limit=4").json()
    second = api.get(first["next"]).json()

    assert (first["previous"], second["next"]) == (None, None)
    assert pages_from(api, second["previous"], "previous") == [seven[:2:-1]]
    newer = str(make_task().pk)
    assert ids(api.get(first["next"]).json()["items"]) == [*seven[2::-1], newer]


def test_oldest_first_holds_with_a_filter_that_no_index_serves(
    api: Api, make_task: MakeTask, seven: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pagination, "WALK", 3)
    rare = str(make_task(handler="rare.one").pk)

    pages = pages_from(api, "/tasks?sort=created_at&handler=rare.one")

    assert joined(pages) == [rare]
    assert len(pages) > 1


def test_a_cursor_knows_its_order(api: Api, seven: list[str]) -> None:
    cursor = parse_qs(api.get("/tasks?sort=created_at&limit=2").json()["next"].partition("?")[2])["cursor"][0]

    assert ids(api.get(f"/tasks?limit=2&cursor={cursor}").json()["items"]) == seven[4:2:-1]
    api.get(f"/tasks?cursor={cursor}&sort=-created_at").problem(400, "invalid-field")


@pytest.mark.parametrize("query", ["sort=priority", "sort=", "sort=created_at&sort=created_at"])
def test_orders_that_no_index_serves_are_refused(api: Api, query: str) -> None:
    [error] = api.get(f"/tasks?{query}").problem(400, "invalid-field")["errors"]

    assert error["parameter"] == "sort"


def test_a_page_of_large_tasks_ends_early_and_the_next_goes_on(
    api: Api, make_task: MakeTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pagination, "PAGE_BYTES", 200_000)
    monkeypatch.setattr(pagination, "ROWS_OF_A_PART", 3)
    made = [str(make_task(payload={"text": "x" * size}).pk) for size in [90_000] * 7 + [300_000, 10]][::-1]

    pages = pages_from(api, "/tasks")

    assert joined(pages) == made
    assert [len(page) for page in pages] == [1, 1, 2, 2, 2, 1]
    last = api.get(f"/tasks?cursor={_cursor_of_last_page(api)}").json()
    assert joined(pages_from(api, last["previous"], "previous")[::-1]) == made[:-1]


def _cursor_of_last_page(api: Api) -> str:
    url = "/tasks"
    while following := api.get(url).json()["next"]:
        url = following
    return parse_qs(url.partition("?")[2])["cursor"][0]


def test_few_of_many_large_tasks_are_in_memory(api: Api, make_task: MakeTask) -> None:
    """Of 200 tasks with 500 KB each, what the answer has room for."""
    for _ in range(200):
        make_task(payload={"text": "x" * 250_000})

    with CaptureQueriesContext(connections[database()]) as asked:
        answer = api.get("/tasks?limit=200")

    parts = [query["sql"] for query in asked if 'FROM "tasks"' in query["sql"]]
    assert ["LIMIT 64" in sql for sql in parts] == [True]
    assert 7 * 2**20 < len(answer.body) < 9 * 2**20
    assert answer.json()["next"]


def test_tasks_that_come_meanwhile_do_not_shift_the_pages(
    api: Api, make_task: MakeTask, seven: list[str]
) -> None:
    first = api.get("/tasks?limit=3").json()
    newer = str(make_task().pk)

    assert [*ids(first["items"]), *joined(pages_from(api, first["next"]))] == seven
    second = api.get(first["next"]).json()
    assert pages_from(api, second["previous"], "previous") == [seven[:3], [newer]]


def test_tasks_that_go_meanwhile_do_not_shift_the_pages(api: Api, seven: list[str]) -> None:
    first = api.get("/tasks?limit=3").json()
    Task.objects.filter(pk__in=seven[1:4]).delete()

    assert joined(pages_from(api, first["next"])) == seven[4:]


def test_the_links_are_in_the_header_too(api: Api, seven: list[str]) -> None:
    answer = api.get(api.get("/tasks?limit=3").json()["next"])

    page = answer.json()
    links = dict(re.findall(r'<([^>]+)>; rel="(\w+)"', answer.headers["Link"]))
    assert links == {page["next"]: "next", page["previous"]: "prev"}
    assert "Link" not in api.get("/tasks").headers


def test_a_page_has_fifty_tasks_unless_asked_otherwise(api: Api, make_task: MakeTask) -> None:
    made = {"handler": "demo.echo", "created_at": timezone.now(), "ready_at": timezone.now()}
    Task.objects.bulk_create(Task(**made) for _ in range(201))

    assert len(api.get("/tasks").json()["items"]) == 50
    assert len(api.get("/tasks?limit=200").json()["items"]) == 200


# -- at the size of millions


def test_a_rare_match_is_found_by_pages_of_bounded_work(
    api: Api, make_task: MakeTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pagination, "WALK", 3)
    rare = [str(make_task(queue="rare").pk) for _ in range(2) for _ in range(10) if make_task()][::-1]

    pages = pages_from(api, "/tasks?queue=rare&limit=2")

    assert joined(pages) == rare
    assert max(map(len, pages)) <= 2


@pytest.mark.parametrize("walk", [1, 2, 3, 5])
@pytest.mark.parametrize(
    "query", ["queue=rare", "status=completed", "status=failed&queue=rare", "status=failed"]
)
def test_bounded_pages_show_each_task_once_in_both_directions(
    api: Api, make_task: MakeTask, monkeypatch: pytest.MonkeyPatch, walk: int, query: str
) -> None:
    monkeypatch.setattr(pagination, "WALK", walk)
    monkeypatch.setattr(task_list, "RARE_WALK", walk)
    for number in range(12):
        make_task(
            Status.FAILED if number % 3 else Status.COMPLETED,
            queue="rare" if number in (1, 5, 6) else "other",
        )
    filters = {name: values[0] for name, values in parse_qs(query).items()}
    wanted = [str(pk) for pk in Task.objects.filter(**filters).order_by("-pk").values_list("pk", flat=True)]

    assert joined(pages_from(api, f"/tasks?{query}&limit=2")) == wanted
    last = _last_page(api, f"/tasks?{query}&limit=2")
    back = pages_from(api, last["previous"], "previous")
    assert joined(back[::-1]) + ids(last["items"]) == wanted


def _last_page(api: Api, url: str) -> dict[str, Any]:
    page: dict[str, Any] = api.get(url).json()
    while page["next"]:
        page = api.get(page["next"]).json()
    return page


@pytest.mark.parametrize("known", [0, 100])
def test_live_tasks_are_listed_alike_by_their_ids_and_by_a_walk(
    api: Api, make_task: MakeTask, monkeypatch: pytest.MonkeyPatch, known: int
) -> None:
    monkeypatch.setattr(task_list, "LIVE_IDS", known)
    pending = [str(make_task().pk) for _ in range(3) if make_task(Status.PROCESSING)][::-1]

    assert joined(pages_from(api, "/tasks?status=pending&limit=2")) == pending
    assert len(joined(pages_from(api, "/tasks?status=processing&limit=2"))) == 3


@pytest.mark.parametrize(
    "query", ["", "status=failed", "status=cancelled", "status=pending", "status=processing", "queue=mail"]
)
def test_a_page_is_read_by_an_index_and_nothing_is_counted_to_its_end_or_sorted(
    api: Api, make_task: MakeTask, query: str
) -> None:
    for status in Status:
        make_task(status)

    with CaptureQueriesContext(connections[database()]) as asked:
        assert api.get(f"/tasks?{query}").status == 200

    texts = [query["sql"] for query in asked.captured_queries if 'FROM "tasks"' in query["sql"]]
    assert texts
    assert not any("COUNT(" in text and "LIMIT" not in text for text in texts)
    if connections[database()].vendor == "sqlite":
        plan = "\n".join(_plan(text) for text in texts)
        assert "USING" in plan
        assert "TEMP B-TREE" not in plan


def _plan(sql: str) -> str:
    with connections[database()].cursor() as cursor:
        cursor.execute(f"EXPLAIN QUERY PLAN {sql.replace('%', '%%')}")
        return "\n".join(row[3] for row in cursor.fetchall())


def test_the_number_of_queries_does_not_grow_with_the_page(api: Api, seven: list[str]) -> None:
    """What keeps pending ones from running is read once for all of them."""
    with CaptureQueriesContext(connections[database()]) as for_one:
        api.get("/tasks?limit=1")
    with CaptureQueriesContext(connections[database()]) as for_all:
        api.get("/tasks")

    assert len(for_all) == len(for_one) <= 4
