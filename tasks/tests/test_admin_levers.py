"""What the admin can do to tasks and queues: each lever is a verb, and says truthfully what it moved."""

from __future__ import annotations

from uuid import uuid4

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client, RequestFactory
from django.utils import timezone
from django.views.defaults import server_error

from tasks import lifecycle
from tasks.models import Queue, Task
from tasks.states import Status
from tasks.tests.rows import MakeTask, claimant
from tasks.tests.staff import QUEUES, TASKS, StaffClient, page_of, pull, pull_on_page, staff_client

__all__ = ["staff_client"]  # a fixture


WHY = "Only finished tasks can run again, and not while another has their unique key."


def statuses(*tasks: Task) -> list[str]:
    return [Task.objects.get(pk=task.pk).status for task in tasks]


def log_of(row: Task | Queue) -> list[str]:
    entries = LogEntry.objects.filter(object_id=row.pk, user__isnull=False).order_by("pk")
    return [entry.get_change_message() for entry in entries]


# -- tasks


def test_run_again_counts_what_moved(admin_client: Client, make_task: MakeTask) -> None:
    tasks = [make_task(status=status) for status in Status]

    said = pull(admin_client, TASKS, "retry", [task.pk for task in tasks])

    assert said == [f"3 of 5 queued again. {WHY}"]
    assert statuses(*tasks) == ["pending", "processing", "pending", "pending", "pending"]


def test_cancel_says_what_became_of_each(admin_client: Client, make_task: MakeTask) -> None:
    tasks = [make_task(status=status) for status in Status]

    said = pull(admin_client, TASKS, "cancel", [*(task.pk for task in tasks), uuid4()])

    assert said == [
        "1 of 6 cancelled; 1 asked to stop, they are running; 3 had already finished; 1 no longer there."
    ]
    assert statuses(*tasks[:2]) == ["cancelled", "processing"]
    assert Task.objects.get(pk=tasks[1].pk).cancel_requested_at is not None


def test_what_no_longer_matches_the_filter_is_counted_too(admin_client: Client, make_task: MakeTask) -> None:
    """Somebody else was faster: the list shows failed tasks, and one of those chosen runs by now."""
    still, gone = make_task(status=Status.FAILED), make_task(status=Status.PROCESSING)

    said = pull(admin_client, f"{TASKS}?status=failed", "retry", [still.pk, gone.pk])

    assert said == [f"1 of 2 queued again. {WHY}"]


def test_delete_offers_nothing_where_none_is_finished(admin_client: Client, make_task: MakeTask) -> None:
    tasks = [make_task(), make_task(Status.PROCESSING)]
    chosen = {"action": "remove", "_selected_action": [task.pk for task in tasks]}

    asked = admin_client.post(TASKS, chosen).content.decode()

    assert "None of the 2 chosen tasks is finished" in asked
    assert 'name="sure"' not in asked


def test_a_lever_without_a_task_says_what_to_do(admin_client: Client, make_task: MakeTask) -> None:
    make_task()

    page = admin_client.post(TASKS, {"action": "cancel"}, follow=True).content.decode()

    assert "No task is chosen: tick some first. Nothing was done." in page


def test_delete_asks_first_and_takes_finished_tasks_alone(admin_client: Client, make_task: MakeTask) -> None:
    tasks = {status: make_task(status) for status in Status}
    chosen = [task.pk for task in tasks.values()]

    asked = admin_client.post(
        TASKS, {"action": "remove", "_selected_action": [str(pk) for pk in chosen]}
    ).content.decode()
    before = Task.objects.count()
    said = pull(admin_client, TASKS, "remove", chosen, sure=1)

    assert "Delete the finished ones of 5 chosen tasks for good" in asked
    assert before == 5
    assert said == ["3 of 5 deleted. Only finished tasks are deleted."]
    assert set(Task.objects.values_list("status", flat=True)) == {"pending", "processing"}
    assert log_of(tasks[Status.FAILED]) == ["Deleted by hand."]
    assert log_of(tasks[Status.PENDING]) == []


def test_the_page_of_a_task_has_the_levers_that_fit(admin_client: Client, make_task: MakeTask) -> None:
    asked = make_task(status=Status.PROCESSING, cancel_requested_at=timezone.now())
    tasks = {status: make_task(status=status) for status in Status}

    fitting = {
        status: [name for name in ("retry", "cancel") if f'value="{name}"' in _page(admin_client, task)]
        for status, task in tasks.items()
    }

    assert fitting == {
        Status.PENDING: ["cancel"],
        Status.PROCESSING: ["cancel"],
        Status.COMPLETED: ["retry"],
        Status.FAILED: ["retry"],
        Status.CANCELLED: ["retry"],
    }
    assert 'value="cancel"' not in _page(admin_client, asked)


def _page(client: Client, task: Task) -> str:
    return client.get(page_of(task)).content.decode()


def test_the_levers_of_the_page_move_its_task(admin_client: Client, make_task: MakeTask) -> None:
    task = make_task(status=Status.FAILED)

    assert pull_on_page(admin_client, page_of(task), "retry", task.pk) == ["1 of 1 queued again."]
    assert pull_on_page(admin_client, page_of(task), "cancel", task.pk) == ["1 of 1 cancelled."]
    assert statuses(task) == ["cancelled"]


def test_deleting_has_a_permission(staff_client: StaffClient, make_task: MakeTask) -> None:
    task = make_task(Status.FAILED)

    pull(staff_client("view_task", "retry_task", "cancel_task"), TASKS, "remove", [task.pk], sure=1)
    still = Task.objects.filter(pk=task.pk).exists()
    pull(staff_client("view_task", "delete_task"), TASKS, "remove", [task.pk], sure=1)

    assert still
    assert not Task.objects.filter(pk=task.pk).exists()


@pytest.mark.parametrize("lever", ["retry", "cancel"])
def test_each_lever_has_its_own_permission(
    staff_client: StaffClient, make_task: MakeTask, lever: str
) -> None:
    task = make_task(status=Status.FAILED if lever == "retry" else Status.PENDING)
    before = statuses(task)
    other = "cancel" if lever == "retry" else "retry"

    unentitled = staff_client("view_task", f"{other}_task")
    pull(unentitled, TASKS, lever, [task.pk])
    pull_on_page(unentitled, page_of(task), lever, task.pk)

    assert statuses(task) == before
    assert f'value="{lever}"' not in unentitled.get(page_of(task)).content.decode()

    pull(staff_client("view_task", f"{lever}_task"), TASKS, lever, [task.pk])

    assert statuses(task) != before


def test_those_who_may_only_look_find_no_levers(staff_client: StaffClient, make_task: MakeTask) -> None:
    make_task()

    page = staff_client("view_task").get(TASKS).content.decode()

    assert 'class="lever lever-' not in page
    assert "action-select" not in page


def test_history_tells_what_was_done_by_hand(admin_client: Client, make_task: MakeTask) -> None:
    failed, pending, running = (
        make_task(status=status) for status in (Status.FAILED, Status.PENDING, Status.PROCESSING)
    )
    chosen = [failed.pk, pending.pk, running.pk]

    pull(admin_client, TASKS, "cancel", chosen)
    pull(admin_client, TASKS, "retry", [failed.pk])

    assert log_of(failed) == ["Run again by hand: 1 of 1 queued again."]
    assert log_of(pending) == ["Cancelled by hand."]
    assert log_of(running) == ["Asked to stop by hand."]
    history = admin_client.get(f"{TASKS}{pending.pk}/history/").content.decode()
    assert "Cancelled by hand." in history


def test_what_moved_nothing_leaves_no_trace(admin_client: Client, make_task: MakeTask) -> None:
    task = make_task()

    pull(admin_client, TASKS, "retry", [task.pk])

    assert log_of(task) == []
    assert "Nobody has done anything to it" in admin_client.get(f"{TASKS}{task.pk}/history/").content.decode()


def test_what_is_no_id_is_refused(admin_client: Client, make_task: MakeTask) -> None:
    make_task()

    answer = admin_client.post(TASKS, {"action": ["", "retry"], "index": 1, "_selected_action": "1 OR 1=1"})

    assert answer.status_code == 400


# -- queues


def test_a_paused_queue_gives_nothing_until_it_is_resumed(admin_client: Client, make_task: MakeTask) -> None:
    task = make_task(queue="mail")

    admin_client.post(f"{QUEUES}add/", {"name": "mail", "_save": "1"})
    while_paused = lifecycle.claim(claimant(), limit=1, now=timezone.now())
    said = pull(admin_client, QUEUES, "resume", ["mail"])
    afterwards = lifecycle.claim(claimant(), limit=1, now=timezone.now())

    assert while_paused == []
    assert said[-1] == "1 of 1 resumed."
    assert [lease.task_id for lease in afterwards] == [task.pk]


def test_queues_are_paused_and_resumed_by_their_page_and_by_the_list(admin_client: Client) -> None:
    held = Queue.objects.create(name="held", paused_at=timezone.now())
    Queue.objects.create(name="open")

    assert pull(admin_client, QUEUES, "pause", ["held", "open"]) == ["1 of 2 paused. What runs goes on."]
    assert pull_on_page(admin_client, f"{QUEUES}held/change/", "resume", "held") == ["1 of 1 resumed."]
    assert list(Queue.objects.filter(paused_at__isnull=False).values_list("name", flat=True)) == ["open"]
    assert log_of(held) == ["Paused by hand.", "Resumed by hand."]


@pytest.mark.parametrize("has_row", [True, False])
def test_any_queue_can_be_paused_by_name(admin_client: Client, has_row: bool) -> None:
    if has_row:
        Queue.objects.create(name="mail")

    answer = admin_client.post(f"{QUEUES}add/", {"name": "mail", "_save": "1"}, follow=True)

    assert "Queue mail is paused." in answer.content.decode()
    assert Queue.objects.get().paused_at is not None


@pytest.mark.parametrize("name", ["", "with space", "x" * 65, "<script>"])
def test_what_cannot_name_a_queue_is_refused_with_a_sentence(admin_client: Client, name: str) -> None:
    answer = admin_client.post(f"{QUEUES}add/", {"name": name, "_save": "1"})

    assert 'class="errorlist"' in answer.content.decode()
    assert not Queue.objects.exists()


def test_pausing_has_a_permission(staff_client: StaffClient) -> None:
    queue = Queue.objects.create(name="mail")
    looking = staff_client("view_queue")

    pull(looking, QUEUES, "pause", ["mail"])
    pull_on_page_answer = looking.post(
        f"{QUEUES}mail/change/", {"CHANGE_FORM-action": "pause", "_selected_action": "mail"}
    )

    assert pull_on_page_answer.status_code == 403
    assert looking.get(f"{QUEUES}add/").status_code == 403
    assert looking.post(f"{QUEUES}add/", {"name": "mail"}).status_code == 403
    queue.refresh_from_db()
    assert queue.paused_at is None


def test_a_page_that_is_not_there_leads_back_and_names_nothing(admin_client: Client) -> None:
    answer = admin_client.get("/admin/secret-name/nowhere/")
    page = answer.content.decode()

    assert answer.status_code == 404
    assert 'href="/admin/">To the overview</a>' in page
    assert "secret-name" not in page


def test_the_page_of_a_failure_needs_no_database_and_tells_nothing_of_it(rf: RequestFactory) -> None:
    page = server_error(rf.get("/admin/")).content.decode()

    assert "<title>Something went wrong here</title>" in page
    assert 'href="/admin/">To the overview</a>' in page
