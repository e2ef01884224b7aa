"""The page of queues: all that are in use, and the levers that pause, resume and purge one."""

from __future__ import annotations

import re

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client

from tasks import clock, lifecycle
from tasks.models import Queue, Task
from tasks.models.task import database
from tasks.states import Status
from tasks.tests.rows import MakeTask
from tasks.tests.staff import QUEUES, TASKS, StaffClient, said, staff_client
from tasks.tests.test_admin_overview import words_of

__all__ = ["staff_client"]  # a fixture

PURGE = f"{QUEUES}mail/purge/"


def log_of(name: str) -> list[str]:
    return [entry.get_change_message() for entry in LogEntry.objects.filter(object_id=name).order_by("pk")]


def statuses() -> dict[str, int]:
    found = list(Task.objects.values_list("status", flat=True))
    return {status: found.count(status) for status in found}


def test_queues_in_use_are_listed_before_anybody_paused_them(
    admin_client: Client, make_task: MakeTask
) -> None:
    make_task(queue="mail")

    page = admin_client.get(QUEUES).content.decode()

    assert f'href="{QUEUES}add/?name=mail"' in page
    assert re.search(rf'href="{re.escape(TASKS)}\?queue=mail&amp;status=pending">1</a>', page)


def test_a_pause_keeps_author_time_and_reason_and_is_in_the_history(admin_client: Client) -> None:
    before = clock.now(database())

    admin_client.post(f"{QUEUES}add/", {"name": "mail", "pause_reason": "provider is down", "_save": "1"})

    queue = Queue.objects.get()
    assert (queue.paused_by, queue.pause_reason) == ("admin", "provider is down")
    assert queue.paused_at is not None
    assert before <= queue.paused_at <= clock.now(database())
    assert log_of("mail") == ["Paused by hand. Reason: provider is down"]
    assert "Paused" in words_of(admin_client, QUEUES)
    assert "ago by admin: provider is down" in words_of(admin_client, QUEUES)


def test_to_pause_a_paused_queue_changes_nothing_and_leaves_no_trace(admin_client: Client) -> None:
    lifecycle.pause(["mail"], by="ann", reason="first")

    admin_client.post(f"{QUEUES}add/", {"name": "mail", "pause_reason": "second", "_save": "1"})

    assert Queue.objects.get().pause_reason == "first"
    assert log_of("mail") == []


def test_the_button_of_a_row_resumes_it(admin_client: Client) -> None:
    lifecycle.pause(["mail"], by="ann")
    page = admin_client.get(QUEUES).content.decode()
    assert 'form="resume" name="_selected_action" value="mail"' in page
    form = page[page.index('id="resume"') :]
    fields = re.findall(r'type="hidden" name="(action|index)" value="(\w*)"', form[: form.index("</form>")])

    answer = admin_client.post(
        QUEUES,
        {
            "action": [value for name, value in fields if name == "action"],
            "index": dict(fields)["index"],
            "_selected_action": "mail",
        },
        follow=True,
    )

    assert said(answer) == ["1 of 1 resumed."]
    assert Queue.objects.get().paused_at is None


def test_how_long_finished_tasks_are_kept_is_shown(admin_client: Client) -> None:
    assert "Cancelled 30 d Completed 7 d Failed 30 d" in words_of(admin_client, QUEUES)


# -- purge


def test_purge_shows_what_is_meant_before_it_asks(admin_client: Client, make_task: MakeTask) -> None:
    for status in (Status.PENDING, Status.PENDING, Status.PROCESSING):
        make_task(status, queue="mail")
    make_task(queue="mail", ready_at=None, waiting_for="handler")

    asked = words_of(admin_client, PURGE)

    assert "Ready 2 Waiting 1" in asked
    assert "What runs goes on (1 now)" in asked
    assert statuses() == {"pending": 3, "processing": 1}


@pytest.mark.django_db(transaction=True)  # in one, PostgreSQL's clock stands still
def test_purge_cancels_what_is_pending_once_the_name_was_typed(
    admin_client: Client, make_task: MakeTask
) -> None:
    for status in Status:
        make_task(status, queue="mail")
    other = make_task(queue="other")

    answer = admin_client.post(PURGE, {"typed": "mail"}, follow=True)

    assert said(answer) == ["1 pending tasks of queue mail cancelled."]
    assert statuses() == {"cancelled": 2, "processing": 1, "completed": 1, "failed": 1, "pending": 1}
    assert Task.objects.get(status="pending") == other
    assert "Queue mail was purged by admin." in [task.cancel_reason for task in Task.objects.all()]
    assert log_of("mail") == ["Purged by hand: 1 pending tasks cancelled."]


@pytest.mark.parametrize("typed", ["", "Mail", "mail ", "other"])
def test_purge_does_nothing_for_another_name(admin_client: Client, make_task: MakeTask, typed: str) -> None:
    make_task(queue="mail")

    answer = admin_client.post(PURGE, {"typed": typed})

    assert "nothing was cancelled" in answer.content.decode()
    assert statuses() == {"pending": 1}
    assert log_of("mail") == []


@pytest.mark.django_db(transaction=True)  # in one, PostgreSQL's clock stands still
def test_purge_of_very_many_ends_in_time_and_says_that_more_are_left(
    admin_client: Client, make_task: MakeTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.queues.PURGE_SECONDS", 0.0)
    for _ in range(3):
        make_task(queue="mail")
    purge = lifecycle.purge
    monkeypatch.setattr(lifecycle, "purge", lambda queue, **given: purge(queue, limit=2, **given))

    first = said(admin_client.post(PURGE, {"typed": "mail"}, follow=True))
    second = said(admin_client.post(PURGE, {"typed": "mail"}, follow=True))

    assert first == ["2 pending tasks of queue mail cancelled. More are left: purge it again to go on."]
    assert second[-1].startswith("1 pending tasks of queue mail cancelled.")
    assert statuses() == {"cancelled": 3}


def test_an_empty_queue_has_nothing_to_purge(admin_client: Client) -> None:
    page = admin_client.get(PURGE).content.decode()

    assert "there is nothing to purge" in page
    assert 'name="typed"' not in page


@pytest.mark.parametrize("lever", ["pause", "purge"])
def test_each_lever_has_its_own_permission(
    staff_client: StaffClient, make_task: MakeTask, lever: str
) -> None:
    make_task(queue="mail")
    other = "purge" if lever == "pause" else "pause"
    forms: dict[str, tuple[str, dict[str, str]]] = {
        "pause": (f"{QUEUES}add/", {"name": "mail", "_save": "1"}),
        "purge": (PURGE, {"typed": "mail"}),
    }
    url, form = forms[lever]

    unentitled = staff_client("view_queue", f"{other}_queue")
    assert unentitled.get(url).status_code == 403
    assert unentitled.post(url, form).status_code == 403
    assert f">{lever.capitalize()}…<" not in unentitled.get(QUEUES).content.decode()
    assert statuses() == {"pending": 1}
    assert not Queue.objects.exists()

    entitled = staff_client("view_queue", f"{lever}_queue")
    assert f">{lever.capitalize()}…<" in entitled.get(QUEUES).content.decode()
    assert entitled.post(url, form).status_code == 302
    assert (statuses() == {"cancelled": 1}) or Queue.objects.filter(paused_at__isnull=False).exists()
