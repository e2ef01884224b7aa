"""What a search finds, the same on both databases, and how far one looks for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tasks import selection
from tasks.models import Task
from tasks.models.task import database
from tasks.selection import Counted, Place, Selection, page_of
from tasks.states import Status
from tasks.tests.rows import HANDLER, MakeTask, columns_for


def found(search: str, **more: Any) -> list[UUID]:
    chosen = Selection(search=search, **more)
    return [pk for step in chosen.steps() for pk in step.tasks.values_list("pk", flat=True)]


def make_many(number: int, status: Status = Status.COMPLETED, **columns: Any) -> list[UUID]:
    """The ids of new tasks, oldest first."""
    given = {"handler": HANDLER, "created_at": timezone.now(), **columns_for(status), **columns}
    return [row.pk for row in Task.objects.bulk_create(Task(status=status, **given) for _ in range(number))]


# -- words


@pytest.mark.parametrize(
    "search",
    [
        "INVOICE",
        "title:voice",
        "demo.ec",
        "payload:geändert",
        "grüße",
        'say-\\"hi\\"',
        "error:TimeOut",
        'error:"no answer"',
        "NO ANSWER",
        "invoice answer",
    ],
)
def test_words_are_found_wherever_they_may_stand(make_task: MakeTask, search: str) -> None:
    task = make_task(
        Status.FAILED,
        title="Invoice 4711",
        payload={"note": "geändert", "greeting": 'grüße say-"hi"'},
        error={"type": "builtins.TimeoutError", "message": "no answer", "attempt": 1},
    )
    make_task(title="another", handler="other", payload={"note": "x"})
    search = search if '\\"' not in search else f'"{search}"'

    assert found(search) == [task.pk]


@pytest.mark.parametrize("search", ["title:100", "error:attempt", "payload:vip", "invoice other"])
def test_words_are_not_found_where_they_do_not_stand(make_task: MakeTask, search: str) -> None:
    make_task(
        title="Invoice",
        payload={"amount": 100},
        tags=["vip"],
        error={"type": "E", "message": "", "attempt": 1},
    )

    assert found(search) == []


@pytest.mark.parametrize("wild", ["%", "_", "\\", "'", "''; DROP TABLE tasks; --", "%s", "%(a)s", "{}"])
def test_what_means_something_to_a_database_is_a_text_like_any_other(make_task: MakeTask, wild: str) -> None:
    task = make_task(
        title=f"a{wild}b", payload={"x": f"a{wild}b"}, error={"type": f"a{wild}b", "message": ""}
    )
    make_task(title="axxb")
    quoted = '"' + f"a{wild}b".replace("\\", "\\\\") + '"'

    for about in ("", "title:", "payload:", "error:", "payload.x:"):
        assert found(f"{about}{quoted}") == [task.pk], about


# -- values


VALUES = {
    "number": 42,
    "fraction": 0.5,
    "large": 1e300,
    "most": 2**63 - 1,
    "digits": "42",
    "yes": True,
    "no": False,
    "word": "true",
    "null": None,
    "text": "Ada",
    "empty": "",
    "list": [1, 2],
    "object": {"a": 42},
}


@pytest.mark.parametrize(
    ("value", "kinds"),
    [
        ("42", {"number", "digits"}),
        ("42.0", {"number"}),
        ('"42"', {"digits"}),
        ("0.5", {"fraction"}),
        ("5e-1", {"fraction"}),
        ("1e300", {"large"}),
        ("9223372036854775807", {"most"}),
        ("true", {"yes", "word"}),
        ('"true"', {"word"}),
        ("false", {"no"}),
        ("null", {"null"}),
        ("Ada", {"text"}),
        ("ada", set()),
        ('""', {"empty"}),
        ("[1,2]", set()),
    ],
)
def test_values_are_compared_as_those_of_json(make_task: MakeTask, value: str, kinds: set[str]) -> None:
    tasks = {make_task(payload={"a": {"b": it}}).pk: kind for kind, it in VALUES.items()}
    make_task(payload={"a": 42, "b": 42})
    make_task(payload={})

    assert {tasks[pk] for pk in found(f"payload.a.b:{value}")} == kinds


def test_a_path_leads_through_lists_and_odd_names(make_task: MakeTask) -> None:
    in_list = make_task(payload={"items": [{"id": 1}, {"id": 7}]}).pk
    by_name = make_task(payload={"items": {"1": {"id": 7}}}).pk
    odd = make_task(payload={"a.b c": {"d'%s[": 7}}).pk

    assert found("payload.items.1.id:7") == [in_list]
    assert found('payload.items."1".id:7') == [by_name]
    assert found("""payload."a.b c"."d'%s[":7""") == [odd]
    assert found("payload.items.2.id:7") == []


@pytest.mark.parametrize("search", ["secret", "payload:secret", "payload.key:secret", "error:secret"])
def test_who_may_not_see_payloads_learns_nothing_of_them_by_searching(
    make_task: MakeTask, search: str
) -> None:
    task = make_task(Status.FAILED, payload={"key": "secret"}, error={"type": "E", "message": "secret"})

    assert found(search) == [task.pk]
    assert found(search, names_only=True) == []


def test_titles_and_handlers_are_no_secret(make_task: MakeTask) -> None:
    task = make_task(title="secret")

    assert found("secret", names_only=True) == [task.pk]


# -- how far


@pytest.fixture
def short_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "STEP", 5)
    monkeypatch.setattr(selection, "LIVE_STEP", 5)
    monkeypatch.setattr(selection, "LARGEST_STEP", 10)
    monkeypatch.setattr(selection, "REACH", 30)


def pages(chosen: Selection, *, newer: bool) -> Iterator[list[UUID]]:
    place = Place(newer=newer)
    while True:
        page = page_of(chosen, place, 4)
        yield [task.pk for task in page.tasks]
        if not page.full and page.end is None:
            return
        place = Place(page.tasks[-1].pk if page.full else page.end, newer)


SELECTIONS = {
    "all": Selection(),
    "failed": Selection(filters={"status": "failed"}),
    "pending": Selection(filters={"status": "pending"}),
    "completed": Selection(filters={"status": "completed"}),
    "of a queue": Selection(filters={"queue": "mail"}),
    "failed of a queue": Selection(filters={"status": "failed", "queue": "mail"}),
    "pending of a queue": Selection(filters={"status": "pending", "queue": "mail"}),
    "by a word": Selection(search="needle"),
    "by a value": Selection(filters={"queue": "mail"}, search="payload.a:1"),
    "unfinished": Selection(statuses=selection.LIVE),
    "but a handler's": Selection(statuses=frozenset({Status.FAILED, Status.CANCELLED}), spared="not.this"),
}


@pytest.mark.usefixtures("short_steps")
@pytest.mark.parametrize("chosen", SELECTIONS.values(), ids=SELECTIONS)
@pytest.mark.parametrize("newer", [False, True], ids=["older", "newer"])
def test_step_by_step_each_that_matches_is_found_once(db: None, chosen: Selection, newer: bool) -> None:
    for number in range(90):
        status = list(Status)[number % 5]
        make_many(
            1,
            status,
            queue="mail" if number % 3 == 0 else "default",
            title="needle" if number % 7 == 0 else "hay",
            payload={"a": number % 4},
            handler="not.this" if number % 11 == 0 else HANDLER,
        )
    every = chosen.matches(Task.objects.all()).order_by("pk" if newer else "-pk")
    wanted = list(every.values_list("pk", flat=True))

    assert len(wanted) >= 3
    assert [pk for page in pages(chosen, newer=newer) for pk in page] == wanted
    steps = chosen.steps(Place(newer=newer))
    assert [pk for step in steps for pk in step.tasks.values_list("pk", flat=True)] == wanted
    assert chosen.count(reach=1000) == Counted(len(wanted), whole=True)


@pytest.mark.usefixtures("short_steps")
def test_a_count_ends_where_it_is_enough_and_where_it_has_looked_enough(db: None) -> None:
    make_many(1, queue="rare")
    make_many(60)

    assert Selection().count(most=50) == Counted(50, whole=False)
    assert Selection(filters={"queue": "default"}).count(most=20) == Counted(20, whole=False)
    assert Selection(filters={"queue": "rare"}).count(reach=30) == Counted(0, whole=False)
    assert Selection(filters={"queue": "rare"}).count(reach=100) == Counted(1, whole=True)


def test_what_is_slow_is_looked_at_for_a_bounded_time(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "STEP", 5)
    monkeypatch.setattr(selection, "SECONDS", -1.0)
    make_many(20)

    page = page_of(Selection(search="nothing-like-it"), Place(), 4)

    assert (page.tasks, page.full, page.looked_at) == ([], False, 5)
    assert page.end is not None


@pytest.mark.usefixtures("short_steps")
def test_a_few_failed_tasks_are_found_by_their_index_however_many_others_there_are(db: None) -> None:
    failed = make_many(3, Status.FAILED)
    make_many(100)

    with CaptureQueriesContext(connections[database()]) as asked:
        page = page_of(Selection(filters={"status": "failed", "queue": "default"}), Place(), 4)

    assert [task.pk for task in page.tasks] == failed[::-1]
    assert len(asked) <= 2


def test_what_was_made_after_the_newest_is_not_meant(make_task: MakeTask) -> None:
    old = make_task(Status.FAILED)
    make_task(Status.FAILED)

    assert found("", newest=old.pk) == [old.pk]
    assert found("", newest=old.pk, filters={"status": "failed"}) == [old.pk]
