"""The list of tasks in the admin: what it shows, how it is narrowed, and that it stays cheap."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from uuid import UUID

import pytest
from django.db import connections
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tasks import lifecycle, registry, selection
from tasks.models import Queue, Task
from tasks.models.task import database
from tasks.states import Status, WaitingFor
from tasks.tests.rows import HANDLER, MakeTask, columns_for
from tasks.tests.staff import TASKS, StaffClient, listed, page_of, staff_client

__all__ = ["staff_client"]  # a fixture

HOUR = timedelta(hours=1)


def make_many(number: int, status: Status = Status.COMPLETED, **columns: Any) -> list[UUID]:
    """The ids of new tasks, newest first."""
    given = {"handler": HANDLER, "created_at": timezone.now(), **columns_for(status), **columns}
    rows = Task.objects.bulk_create([Task(status=status, **given) for _ in range(number)])
    return [row.pk for row in reversed(rows)]


def walk(client: Client, query: str, *, link: str = "older") -> Iterator[list[UUID]]:
    """Page after page, as their links lead."""
    while query:
        answer = client.get(TASKS + query)
        yield listed(answer)
        query = getattr(answer.context["cl"], link)


def queries_of(client: Client, query: str) -> list[str]:
    """What a page asks the table of tasks."""
    with CaptureQueriesContext(connections[database()]) as captured:
        assert client.get(TASKS + query).status_code == 200
    return [asked["sql"] for asked in captured if 'FROM "tasks"' in asked["sql"]]


# -- pages


def test_pages_are_newest_first_and_show_each_task_once(admin_client: Client) -> None:
    ids = make_many(120)

    pages = list(walk(admin_client, "?"))

    assert [len(page) for page in pages] == [50, 50, 20]
    assert [*chain(*pages)] == ids


def test_the_way_back_shows_the_same_pages(admin_client: Client) -> None:
    ids = make_many(120)

    back = list(walk(admin_client, f"?newer_than={ids[110]}", link="newer"))

    assert back == [ids[60:110], ids[10:60], ids[:50]]  # the last is the first page again, and full


def test_another_filter_begins_at_the_newest(admin_client: Client) -> None:
    ids = make_many(60)

    answer = admin_client.get(f"{TASKS}?older_than={ids[49]}&queue=default")

    assert listed(answer) == ids[50:]
    for choice in answer.context["cl"].pills:
        assert "older_than" not in choice["query_string"]
        assert "queue=default" in choice["query_string"]


@pytest.mark.parametrize(
    "query",
    [
        "status=nope",
        "created=nope",
        "created_before=yesterday",
        "older_than=nope",
        "newer_than=1",
        "queue=%00",
        "q=%00",
        "id=nope",
        "created=%3C2y",
        "title__icontains=a",
    ],
)
def test_what_no_page_offers_leads_to_the_plain_list(admin_client: Client, query: str) -> None:
    answer = admin_client.get(f"{TASKS}?{query}")

    assert (answer.status_code, answer["Location"]) == (302, f"{TASKS}?e=1")


# -- filters


@pytest.mark.parametrize("status", Status)
def test_a_status_shows_its_own_tasks(admin_client: Client, make_task: MakeTask, status: Status) -> None:
    tasks = {each: make_task(status=each) for each in Status}

    assert listed(admin_client.get(f"{TASKS}?status={status}")) == [tasks[status].pk]


def test_filters_narrow_together(admin_client: Client, make_task: MakeTask) -> None:
    make_task(queue="mail", handler="mail.send")
    make_task(status=Status.FAILED, queue="images", handler="mail.send")
    make_task(status=Status.FAILED, queue="mail", handler="images.resize")
    wanted = make_task(status=Status.FAILED, queue="mail", handler="mail.send", title="Invoice")

    answer = admin_client.get(f"{TASKS}?status=failed&queue=mail&handler=mail.send&q=invo&created=")

    assert listed(answer) == [wanted.pk]


def test_time_narrows_from_both_sides(admin_client: Client) -> None:
    now = datetime.now(UTC)
    hours = {age: _made_at(now - age * HOUR) for age in (0.5, 2, 30)}

    past_day = listed(admin_client.get(f"{TASKS}?created=day"))
    before = listed(admin_client.get(f"{TASKS}?created_before={now - HOUR:%Y-%m-%dT%H:%M}"))

    assert past_day == [hours[0.5], hours[2]]
    assert before == [hours[2], hours[30]]


def _made_at(moment: datetime) -> UUID:
    id_ = UUID(int=(int(moment.timestamp() * 1000) << 80) | (7 << 76) | (2 << 62))
    columns = {"handler": HANDLER, "created_at": moment, **columns_for(Status.COMPLETED)}
    return Task.objects.create(pk=id_, status=Status.COMPLETED, **columns).pk


def test_queues_and_handlers_can_be_chosen_without_reading_the_tasks(admin_client: Client) -> None:
    make_many(1, Status.PENDING, queue="ready-now")
    make_many(1, queue="long-gone", handler="no.longer.here")
    Queue.objects.create(name="configured")

    queue, handler, *_ = admin_client.get(f"{TASKS}?queue=typed").context["cl"].fields

    assert {"ready-now", "configured", "default", "typed"} <= {each["value"] for each in queue.options()}
    assert "long-gone" not in {each["value"] for each in queue.options()}
    assert [each["value"] for each in queue.options() if each["selected"]] == ["typed"]
    assert "demo.sleep" in {each["value"] for each in handler.options()}
    assert "tasks.handlers.sleep" not in {each["value"] for each in handler.options()}


# -- search


@pytest.mark.parametrize("spell", [str, lambda id_: id_.hex, lambda id_: f" {str(id_).upper()} "])
def test_a_whole_id_leads_to_its_task(admin_client: Client, make_task: MakeTask, spell: Any) -> None:
    task = make_task()

    answer = admin_client.get(TASKS, {"q": spell(task.pk), "status": "failed"})

    assert (answer.status_code, answer["Location"]) == (302, page_of(task))


def test_an_id_tells_nothing_to_those_who_may_not_look(
    staff_client: StaffClient, make_task: MakeTask
) -> None:
    task = make_task()

    assert staff_client("view_queue").get(TASKS, {"q": str(task.pk)}).status_code == 403


def test_the_beginning_of_an_id_finds_its_tasks(admin_client: Client, make_task: MakeTask) -> None:
    task, _ = make_task(), make_task()

    answer = admin_client.get(TASKS, {"q": str(task.pk)[:30]}, follow=True)

    assert listed(answer) == [task.pk]
    assert [chip["name"] for chip in answer.context["cl"].chips] == ["id"]


def test_words_find_titles_in_any_case(admin_client: Client, make_task: MakeTask) -> None:
    task = make_task(title="Invoice 4711 to Ada, 100 %")
    make_task(title="Invoice 4712")

    assert listed(admin_client.get(TASKS, {"q": "4711 TO ada"})) == [task.pk]
    assert listed(admin_client.get(TASKS, {"q": "100 %"})) == [task.pk]


def test_a_word_that_could_begin_an_id_is_looked_for_in_titles(
    admin_client: Client, make_task: MakeTask
) -> None:
    task = make_task(title="Paint the facade")

    assert listed(admin_client.get(TASKS, {"q": "facade"})) == [task.pk]


@pytest.mark.parametrize(
    ("typed", "params"),
    [
        ("queue:mail", {"queue": "mail"}),
        ("handler:ECHO error:Timeout", {"handler": "demo.echo", "q": "error:Timeout"}),
        ("status:failed created:<2d two words", {"status": "failed", "created": "<2d", "q": "two words"}),
        ("worker:host-1 tag:vip", {"worker": "host-1", "tag": "vip"}),
    ],
)
def test_what_a_search_says_of_columns_becomes_filters_in_the_address(
    admin_client: Client, typed: str, params: dict[str, str]
) -> None:
    answer = admin_client.get(TASKS, {"q": typed, "queue": "default", "older_than": str(UUID(int=7))})

    assert answer.status_code == 302
    given = dict(parse_qsl(urlsplit(answer["Location"]).query))
    assert given == {"queue": "default", **params}


def test_the_end_of_a_handlers_name_is_enough_unless_two_end_so(
    admin_client: Client, own_registry: None, make_task: MakeTask
) -> None:
    task = make_task(handler="demo.echo")
    make_task(handler="other.echo")

    by_end = listed(admin_client.get(TASKS, {"q": "handler:echo"}, follow=True))
    registry._handlers["other.echo"] = replace(registry.find("demo.echo"), public_name="other.echo")
    ambiguous = admin_client.get(TASKS, {"q": "handler:echo"})
    misspelt = admin_client.get(TASKS, {"q": "handler:ecko"})

    assert by_end == [task.pk]
    assert "demo.echo or other.echo" in ambiguous.content.decode()
    assert "Did you mean handler:" in misspelt.content.decode()
    assert listed(ambiguous) == listed(misspelt) == []


def test_a_handler_that_is_no_longer_in_the_code_still_has_its_tasks(
    admin_client: Client, make_task: MakeTask
) -> None:
    task = make_task(handler="long.gone")

    assert listed(admin_client.get(TASKS, {"q": "handler:long.gone"}, follow=True)) == [task.pk]


def test_a_search_that_is_not_understood_shows_nothing_but_what_is_wrong(
    admin_client: Client, make_task: MakeTask
) -> None:
    make_task()

    answer = admin_client.get(TASKS, {"q": "quue:mail <b>", "status": "pending"})

    page = answer.content.decode()
    assert listed(answer) == []
    assert "Did you mean queue:?" in page
    assert "Everything that matches" not in page
    assert 'value="quue:mail &lt;b&gt;"' in page


@pytest.mark.parametrize(
    "typed", ["'", '"', "%", "_", "\\", "a" * 5000, "payload." + "a." * 3000 + ":1", "{{ 7 }}"]
)
def test_no_search_is_an_error(admin_client: Client, make_task: MakeTask, typed: str) -> None:
    make_task()

    assert admin_client.get(TASKS, {"q": typed}, follow=True).status_code == 200


def test_who_may_not_see_payloads_sees_no_errors_and_cannot_search_in_them(
    staff_client: StaffClient, make_task: MakeTask
) -> None:
    make_task(Status.FAILED, payload={"a": "secret"}, error={"type": "E", "message": "secret"})
    looking, seeing = staff_client("view_task"), staff_client("view_task", "view_payload")

    assert "secret" not in looking.get(TASKS).content.decode()
    assert listed(looking.get(TASKS, {"q": "secret"})) == []
    assert "You may not see payloads" in looking.get(TASKS, {"q": "error:secret"}).content.decode()
    assert "E: secret" in seeing.get(TASKS).content.decode()
    assert len(listed(seeing.get(TASKS, {"q": "payload.a:secret"}))) == 1


# -- how far a page looks


def reach(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    for name in ("REACH", "STEP", "LIVE_STEP"):
        monkeypatch.setattr(selection, name, rows)


def test_a_rare_match_is_found_piece_by_piece(admin_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    reach(monkeypatch, 20)
    oldest = make_many(1, handler="rare")
    make_many(49)

    answer = admin_client.get(f"{TASKS}?handler=rare")

    assert listed(answer) == []
    assert "Searched the newest 20 of more than 20 tasks" in answer.content.decode()
    assert "Search on" in answer.content.decode()
    assert list(walk(admin_client, "?handler=rare")) == [[], [], oldest]


@pytest.mark.parametrize("more", ["", "&queue=default"])
def test_many_pending_tasks_are_found_however_old(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch, more: str
) -> None:
    reach(monkeypatch, 60)
    ids = make_many(130, Status.PENDING)
    make_many(100)

    pages = list(walk(admin_client, f"?status=pending{more}"))

    assert [*chain(*pages)] == ids
    assert ids[79:129] in walk(admin_client, f"?status=pending{more}&newer_than={ids[129]}", link="newer")


def test_more_pending_tasks_than_fit_into_a_list_of_ids_are_walked_along(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selection, "LIVE_IDS", 50)
    ids = make_many(60, Status.PENDING)

    answer = admin_client.get(f"{TASKS}?status=pending")

    assert answer.context["cl"].chosen.selection.rail().ids is None
    assert listed(answer) == ids[:50]


@pytest.mark.parametrize(
    "query",
    [
        "",
        "?status=failed",
        "?status=pending",
        "?status=completed&queue=mail",
        "?q=zebra",
        "?created=day",
        "?q=payload.a:1",
        "?worker=host",
        "?tag=vip",
        "?id=01a20be6",
    ],
)
def test_every_question_to_the_table_ends_somewhere(admin_client: Client, query: str) -> None:
    make_many(3, Status.PENDING, queue="mail")
    make_many(3, Status.FAILED)
    make_many(60, queue="mail")

    asked = queries_of(admin_client, query)

    assert asked
    assert [sql for sql in asked if " LIMIT " not in sql] == []


def test_a_list_costs_as_many_questions_for_fifty_tasks_as_for_one(admin_client: Client) -> None:
    make_many(1, Status.FAILED)
    one = queries_of(admin_client, "?status=failed")
    make_many(49, Status.FAILED)

    assert len(queries_of(admin_client, "?status=failed")) == len(one)


def test_a_list_leaves_the_large_columns_where_they_are(admin_client: Client) -> None:
    make_many(1)

    assert not [sql for sql in queries_of(admin_client, "") if '"payload"' in sql or '"result"' in sql]


# -- what a row says


def test_a_row_says_why_a_task_waits(admin_client: Client, make_task: MakeTask) -> None:
    Queue.objects.create(name="held", paused_at=timezone.now())
    waiting = {"ready_at": None, "waiting_for": WaitingFor.TIME, "run_at": timezone.now() + 2.5 * HOUR}
    make_task(queue="held")
    make_task(ready_at=None, waiting_for=WaitingFor.HANDLER)
    make_task(**waiting)
    make_task(
        **waiting, attempt=1, error={"type": "builtins.ValueError", "message": "no\nluck", "attempt": 1}
    )

    page = admin_client.get(TASKS).content.decode()

    for words in (
        "its queue is paused",
        "no worker knows its handler",
        "starts in 2 h",
        "next attempt in 2 h",
        "ValueError: no luck",
    ):
        assert words in page


def test_a_row_says_who_has_a_task_and_for_how_long(admin_client: Client, make_task: MakeTask) -> None:
    now = timezone.now()
    make_task(Status.PROCESSING, worker_id="host-1:4711:ab", attempted_at=now - HOUR)
    make_task(
        Status.COMPLETED, worker_id="host-2:7:cd", attempted_at=now - HOUR, finished_at=now - 0.5 * HOUR
    )

    page = admin_client.get(TASKS).content.decode()

    assert "1 h so far" in page
    assert "30 min" in page
    assert ">host-1:4711</a>" in page
    assert len(listed(admin_client.get(TASKS, {"worker": "host-1"}))) == 1


def test_attempts_are_those_of_the_new_budget_after_a_retry_by_hand(
    admin_client: Client, make_task: MakeTask
) -> None:
    task = make_task(Status.FAILED, attempt=2, max_attempts=2)
    lifecycle.retry([task.pk])
    waiting = admin_client.get(TASKS).content.decode()
    Task.objects.filter(pk=task.pk).update(attempt=3)

    running = admin_client.get(TASKS).content.decode()

    assert ">0 of 2<" in waiting
    assert ">1 of 2<" in running


def test_a_list_says_how_many_there_are_up_to_where_it_counted(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_many(60, Status.FAILED)
    make_many(60, Status.PENDING)

    exact = [
        admin_client.get(TASKS + query).content.decode() for query in ("?status=failed", "?status=pending")
    ]
    monkeypatch.setattr("tasks.stats.COUNTED", 55)
    monkeypatch.setattr(selection, "COUNTED", 55)
    capped = [
        admin_client.get(TASKS + query).content.decode()
        for query in ("", "?status=failed", "?status=pending")
    ]

    assert all("50 of 60 tasks" in page for page in exact)
    assert all("50 of 55+ tasks" in page for page in capped)


def test_status_counts_come_from_indexes_and_say_when_they_ended(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.stats.COUNTED", 5)
    make_many(6, Status.FAILED)
    make_many(2, Status.PENDING)

    pills = {pill["value"]: pill.get("count") for pill in admin_client.get(TASKS).context["cl"].pills}

    assert pills == {
        "": None,
        "pending": "2",
        "processing": "0",
        "completed": "",
        "failed": "5+",
        "cancelled": "0",
    }


@pytest.mark.parametrize(("query", "words"), [("", "No tasks yet"), ("?queue=none", "No task matches")])
def test_an_empty_list_says_so_in_words(admin_client: Client, query: str, words: str) -> None:
    assert words in admin_client.get(TASKS + query).content.decode()
