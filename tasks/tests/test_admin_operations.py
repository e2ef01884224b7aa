"""Doing one thing to all that match, in the admin: counted, confirmed, started, watched and stopped."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.utils import timezone

from tasks import operations
from tasks.ids import new_task_id
from tasks.models import Operation, Task, Worker
from tasks.operations import HANDLER
from tasks.states import Status
from tasks.tests.rows import HANDLER as ECHO
from tasks.tests.rows import MakeTask, columns_for, make_worker
from tasks.tests.staff import OPERATIONS, TASKS, StaffClient, said, staff_client
from tasks.tests.staff import listed as rows_of

__all__ = ["staff_client"]

ASK = f"{OPERATIONS}add/"


def made_ago(age: timedelta, status: Status = Status.FAILED) -> Task:
    moment = timezone.now() - age
    key = UUID(int=(int(moment.timestamp() * 1000) << 80) | (new_task_id().int & ((1 << 80) - 1)))
    columns = {"handler": ECHO, "created_at": moment, **columns_for(status)}
    return Task.objects.create(pk=key, status=status, **columns)


def number_of(answer: Any) -> str:
    assert answer.status_code == 200
    return str(answer.context["number"])


def start(client: Client, **params: Any) -> Operation:
    answer = client.post(ASK, params)
    assert answer.status_code == 302, answer.content
    return Operation.objects.latest("pk")


def page_of(operation: Operation) -> str:
    return f"{OPERATIONS}{operation.pk}/change/"


def finish(operation: Operation) -> Operation:
    while operations.advance(operation.pk):
        pass
    operation.refresh_from_db()
    return operation


def history_of(operation: Operation) -> list[str]:
    entries = LogEntry.objects.filter(object_id=operation.pk, content_type__model="operation")
    return [entry.get_change_message() for entry in entries.order_by("pk")]


def test_it_is_counted_first_and_nothing_has_happened_yet(admin_client: Client, make_task: MakeTask) -> None:
    make_task(Status.FAILED, queue="mail")
    make_task(Status.FAILED)
    make_task(queue="mail")

    answer = admin_client.get(ASK, {"queue": "mail", "verb": "retry"})

    assert number_of(answer) == "1 finished task"
    assert "Run 1 finished task again" in answer.content.decode()
    assert not Operation.objects.exists()
    assert Task.objects.filter(status=Status.FAILED).count() == 2


def test_the_last_seven_days_are_meant_unless_somebody_says_otherwise(admin_client: Client) -> None:
    for days in (1, 8, 40):
        made_ago(timedelta(days=days))

    numbers = {
        span: number_of(admin_client.get(ASK, {"verb": "retry", **({"created": span} if span else {})}))
        for span in ("", "hour", "month", "ever", "<9d")
    }

    assert numbers == {
        "": "1 finished task",
        "hour": "0 finished tasks",
        "month": "2 finished tasks",
        "ever": "3 finished tasks",
        "<9d": "2 finished tasks",
    }
    finish(start(admin_client, verb="retry"))
    assert Task.objects.filter(status=Status.FAILED).count() == 2


def test_a_count_says_that_it_ended(admin_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.selection.REACH", 3)
    monkeypatch.setattr("tasks.selection.STEP", 3)
    for _ in range(5):
        made_ago(timedelta(hours=1))

    answer = admin_client.get(ASK, {"verb": "retry"})

    assert number_of(answer).endswith("+ finished tasks")


def test_what_came_after_the_count_is_not_meant(admin_client: Client, make_task: MakeTask) -> None:
    counted = make_task(Status.FAILED)
    newest = admin_client.get(ASK, {"verb": "retry"}).context["found"].selection.newest
    later = make_task(Status.FAILED)

    finish(start(admin_client, verb="retry", newest=newest))

    assert newest == counted.pk
    assert Task.objects.get(pk=later.pk).status == Status.FAILED
    assert Task.objects.get(pk=counted.pk).status == Status.PENDING


def test_it_belongs_to_who_started_it_and_history_tells_its_life(
    staff_client: StaffClient, make_task: MakeTask
) -> None:
    make_task(Status.FAILED, queue="mail")
    ada = staff_client("view_task", "retry_task")

    done = finish(start(ada, verb="retry", queue="mail"))
    stopped = start(ada, verb="retry", queue="mail")
    ada.post(page_of(stopped), {"stop": "1"})

    assert done.user_name == "with-view_task-retry_task"
    assert [line.partition(":")[0] for line in history_of(done)] == ["Started", "Ended"]
    assert [line.partition(":")[0] for line in history_of(stopped)] == ["Started", "Stopped"]


def test_choosing_everything_in_the_list_leads_to_the_count(
    admin_client: Client, make_task: MakeTask
) -> None:
    task = make_task(Status.FAILED, queue="mail", title="a&b")

    answer = admin_client.post(
        f"{TASKS}?queue=mail&q=a%26b",
        {
            "action": ["", "retry", "cancel", "remove"],
            "index": 3,
            "select_across": 1,
            "_selected_action": str(task.pk),
        },
    )

    where = urlsplit(answer["Location"])
    assert where.path == ASK
    assert parse_qs(where.query) == {"queue": ["mail"], "q": ["a&b"], "verb": ["delete"]}
    assert Task.objects.filter(pk=task.pk, status=Status.FAILED).exists()


def test_without_a_worker_both_pages_say_so(admin_client: Client, make_task: MakeTask) -> None:
    make_task(Status.FAILED)
    nobody = "start one with <code>manage.py runworkers</code>"
    before = admin_client.get(ASK, {"verb": "retry"}).content.decode()
    operation = start(admin_client, verb="retry")
    waiting = admin_client.get(page_of(operation)).content.decode()
    make_worker(handlers=[HANDLER])

    served = admin_client.get(page_of(operation)).content.decode()

    assert nobody in before
    assert nobody in waiting
    assert nobody not in served


@pytest.mark.parametrize("loss", [Status.FAILED, Status.CANCELLED])
def test_one_whose_task_failed_can_go_on(admin_client: Client, make_task: MakeTask, loss: Status) -> None:
    task = make_task(Status.FAILED)
    operation = start(admin_client, verb="retry")
    Task.objects.filter(handler=HANDLER).update(status=loss, finished_at=timezone.now())

    assert 'name="go_on"' in admin_client.get(page_of(operation)).content.decode()
    assert said(admin_client.post(page_of(operation), {"go_on": "1"}, follow=True)) == [
        "It goes on where it was."
    ]

    finish(operation)
    assert Task.objects.get(pk=task.pk).status == Status.PENDING


def test_its_page_tells_how_far_it_is_and_what_it_was_about(
    admin_client: Client, make_task: MakeTask
) -> None:
    make_task(Status.FAILED, queue="mail", title="<b>")
    operation = start(admin_client, verb="retry", queue="mail", q="<b>")

    waiting = admin_client.get(page_of(operation)).content.decode()
    finish(operation)
    done = admin_client.get(page_of(operation)).content.decode()
    listed = admin_client.get(OPERATIONS).content.decode()

    for page in (waiting, done, listed):
        assert "Run again: queue mail" in page
        assert "<b>" not in page.partition("<h1")[2].partition("</h1>")[0]
    assert "0 queued again." in waiting
    assert "1 queued again." in done
    assert "1 queued again." in listed
    assert 'name="stop"' in waiting
    assert 'name="stop"' not in done


def test_its_page_shows_one_operation_whichever_task_does_it(
    admin_client: Client, make_task: MakeTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operations, "AT_ONCE", 1)
    monkeypatch.setattr(operations, "TURN_SECONDS", 0)
    make_worker(handlers=[HANDLER])
    first, second = make_task(Status.FAILED), make_task(Status.FAILED)
    operation = start(admin_client, verb="retry")
    operations.run(operation.pk, task_id=Task.objects.get(handler=HANDLER).pk)

    resting = admin_client.get(page_of(operation))
    Worker.objects.all().delete()
    a_moment_ago = timezone.now() - timedelta(seconds=1)
    Task.objects.filter(handler=HANDLER, status=Status.PENDING).update(run_at=a_moment_ago)
    alone = admin_client.get(page_of(operation))
    admin_client.post(page_of(operation), {"stop": "1"})

    page = resting.content.decode()
    assert "1 queued again." in page
    assert ">Resting<" in page
    assert resting.context["why"] == ""
    assert "No worker" in alone.context["why"], "it rests no longer, and nobody goes on with it"
    assert 'name="stop"' in page
    assert {first.pk, second.pk} & set(Task.objects.filter(status=Status.FAILED).values_list("pk", flat=True))
    assert Operation.objects.get(pk=operation.pk).stopped_by == "admin"
    assert Task.objects.filter(handler=HANDLER, status=Status.CANCELLED).count() == 1


@pytest.mark.parametrize("verb", ["retry", "cancel", "delete"])
def test_each_verb_has_its_own_permission(staff_client: StaffClient, make_task: MakeTask, verb: str) -> None:
    make_task()
    others = {"retry", "cancel", "delete"} - {verb}
    unentitled = staff_client("view_task", *(f"{other}_task" for other in others))
    entitled = staff_client("view_task", f"{verb}_task")

    assert unentitled.get(ASK, {"verb": verb}).status_code == 403
    assert unentitled.post(ASK, {"verb": verb}).status_code == 403
    assert not Operation.objects.exists()
    assert [name for name, _ in entitled.get(ASK).context["verbs"]] == [verb]
    start(entitled, verb=verb)


def test_who_may_do_nothing_to_tasks_begins_and_stops_nothing(
    staff_client: StaffClient, admin_client: Client, make_task: MakeTask
) -> None:
    make_task(Status.FAILED)
    operation = start(admin_client, verb="retry")
    looking = staff_client("view_task")

    assert looking.get(ASK).status_code == 403
    assert looking.get(page_of(operation)).status_code == 200
    assert looking.post(page_of(operation), {"stop": "1"}).status_code == 403
    assert ASK not in looking.get(TASKS).content.decode()
    operation.refresh_from_db()
    assert operation.ended_at is None


def test_who_has_lost_the_permission_can_stop_an_operation_and_not_let_it_go_on(
    staff_client: StaffClient, make_task: MakeTask
) -> None:
    make_task(Status.FAILED)
    client = staff_client("view_task", "retry_task")
    operation = start(client, verb="retry")
    Task.objects.filter(handler=HANDLER).update(status=Status.CANCELLED, finished_at=timezone.now())
    User.objects.get(pk=operation.user_key).user_permissions.remove(
        Permission.objects.get(codename="retry_task")
    )

    assert 'name="go_on"' not in client.get(page_of(operation)).content.decode()
    assert client.post(page_of(operation), {"go_on": "1"}).status_code == 403
    assert client.post(page_of(operation), {"stop": "1"}).status_code == 302


def test_who_may_not_see_payloads_cannot_choose_by_them(
    staff_client: StaffClient, make_task: MakeTask
) -> None:
    make_task(Status.FAILED, payload={"key": "secret"})
    client = staff_client("view_task", "retry_task")

    by_word = client.get(ASK, {"q": "secret"})
    by_value = client.get(ASK, {"q": "payload.key:secret"})
    client.post(ASK, {"q": "payload.key:secret"})

    assert number_of(by_word) == "0 finished tasks"
    assert "You may not see payloads" in by_value.content.decode()
    assert not Operation.objects.exists()


@pytest.mark.parametrize(
    "query",
    ["payload.password:x", "payload.db.0.apiKey:1", "payload.secret.a:b", "x payload.pin_number:1234"],
)
def test_what_is_masked_is_not_found_out_by_asking(
    admin_client: Client, make_task: MakeTask, query: str
) -> None:
    make_task(
        Status.FAILED,
        title="x",
        payload={"password": "x", "db": [{"apiKey": 1}], "secret": {"a": "b"}, "pin_number": 1234},
    )

    listed, asked = admin_client.get(TASKS, {"q": query}), admin_client.get(ASK, {"q": query})
    admin_client.post(ASK, {"q": query})

    for answer in (listed, asked):
        assert "is masked: no search finds out what it is." in answer.content.decode()
    assert rows_of(listed) == []
    assert number_of(asked) == "0 finished tasks"
    assert not Operation.objects.exists()


@pytest.mark.parametrize("query", ["payload.max_tokens:4096", "payload.password:null", "payload.author:ada"])
def test_what_is_shown_can_be_searched(admin_client: Client, make_task: MakeTask, query: str) -> None:
    task = make_task(payload={"max_tokens": 4096, "password": None, "author": "ada"})

    assert rows_of(admin_client.get(TASKS, {"q": query})) == [task.pk]


@pytest.mark.parametrize("query", ["status=lost", "newest=7", "created=soon", "queue=%00", "verb=drop"])
def test_what_no_page_offers_begins_nothing(admin_client: Client, make_task: MakeTask, query: str) -> None:
    make_task(Status.FAILED)

    assert admin_client.get(f"{ASK}?{query}").status_code in (403, 404)
    assert admin_client.post(ASK, parse_qs(query)).status_code in (403, 404)
    assert not Operation.objects.exists()


def test_a_search_that_is_not_understood_chooses_nothing(admin_client: Client, make_task: MakeTask) -> None:
    make_task(Status.FAILED)

    answer = admin_client.post(ASK, {"q": "quue:mail", "verb": "retry"})

    assert "Did you mean queue:?" in answer.content.decode()
    assert not Operation.objects.exists()
