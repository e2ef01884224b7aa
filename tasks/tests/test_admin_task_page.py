"""The page of one task: its life in order, what is masked, what only some may see, and its levers."""

from __future__ import annotations

import html
import json
import re
import shlex
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.utils import timezone

from tasks import lifecycle
from tasks.admin.page import RUNS_SHOWN
from tasks.admin.timeline import STRIP_UNITS
from tasks.contract import Crashed, ErrorReport, Failed, Succeeded
from tasks.masking import MASK
from tasks.models import Attempt, Failure, Task
from tasks.states import Status, WaitingFor
from tasks.tests.rows import MakeTask, claimant
from tasks.tests.staff import TASKS, StaffClient, page_of, pull_on_page, staff_client

__all__ = ["staff_client"]  # a fixture

pytestmark = pytest.mark.django_db

SECRET = "s3cr3t-value"
SECOND = timedelta(seconds=1)
NO = Failed(ErrorReport("shop.Refused", "card 1", "Traceback …", "shop.billing.pay"), retry_in=timedelta(0))


def text_of(client: Client, url: str) -> str:
    answer = client.get(url)
    assert answer.status_code == 200
    return answer.content.decode()


def lives(task: Task, *outcomes: Any, after: timedelta = SECOND, lasts: timedelta = SECOND) -> Task:
    """Attempts, each of which begins so long after the last moment; ``None`` for one that still runs."""
    moment = task.created_at
    for outcome in outcomes:
        moment += after
        Task.objects.filter(pk=task.pk, status=Status.PENDING).update(ready_at=moment, waiting_for=None)
        [lease] = lifecycle.claim(claimant(task.queue), limit=1, now=moment + SECOND / 2)
        moment += lasts
        if outcome is not None:
            assert lifecycle.settle([(lease, outcome)], now=moment).written
    task.refresh_from_db()
    return task


def steps(client: Client, task: Task) -> list[str]:
    """Each step in a few words."""
    told = []
    for step in client.get(page_of(task)).context["steps"]:
        run = step.get("run")
        name = f"attempt {run['number']} {run['length']}" if run else step["label"]
        told.append(f"{step.get('length', '')} {name}".strip())
    return told


# -- the timeline


def test_a_life_is_told_in_order_with_what_it_waited_for(admin_client: Client, make_task: MakeTask) -> None:
    task = lives(make_task(queue="life"), NO, Crashed("SIGSEGV"), Succeeded("{}"))

    assert steps(admin_client, task) == [
        "Created",
        "1.5 s until its first attempt",
        "attempt 1 500 ms",
        "1.5 s backoff, and for a worker",
        "attempt 2 500 ms",
        "1.0 s backoff",
        "Ready",
        "500 ms waited for a worker",
        "attempt 3 500 ms",
        "Completed",
    ]


def test_a_retry_by_hand_is_told(admin_client: Client, make_task: MakeTask) -> None:
    hour_ago = timezone.now() - timedelta(hours=1)
    task = lives(make_task(queue="life", max_attempts=1, created_at=hour_ago), NO)
    lifecycle.retry([task.pk])
    lifecycle.claim(claimant("life"), limit=1, now=timezone.now())

    told = " / ".join(steps(admin_client, task))

    assert re.search(r"attempt 1 .* min.* until it was run again by hand / Ready / .*attempt 2", told)


@pytest.mark.parametrize(
    ("status", "columns", "last"),
    [
        (Status.PENDING, {}, "Waits"),
        (
            Status.PENDING,
            {"ready_at": None, "waiting_for": WaitingFor.TIME, "run_at": timezone.now() + timedelta(days=1)},
            "Waits until",
        ),
        (Status.FAILED, {}, "Failed"),
        (Status.CANCELLED, {}, "Cancelled"),
        (Status.COMPLETED, {"attempt": 1, "attempted_at": timezone.now()}, "Completed"),
    ],
)
def test_it_ends_with_how_the_task_stands(
    admin_client: Client, make_task: MakeTask, status: Status, columns: dict[str, Any], last: str
) -> None:
    first, *_, final = steps(admin_client, make_task(status, **columns))

    assert (first, final) == ("Created", last)


def test_what_expired_says_so_though_no_attempt_did(admin_client: Client, make_task: MakeTask) -> None:
    task = make_task(expires_at=timezone.now() - SECOND)
    lifecycle.expire(now=timezone.now())

    assert "tasks.errors.TaskExpired" in text_of(admin_client, page_of(task))


def test_the_strip_is_filled_from_end_to_end(admin_client: Client, make_task: MakeTask) -> None:
    task = lives(make_task(queue="life"), NO, Succeeded("{}"))

    strip = admin_client.get(page_of(task)).context["strip"]

    assert [part["state"] for part in strip] == ["wait", "failed", "wait", "completed"]
    end = 0.0
    for part in strip:
        assert float(part["x"]) == pytest.approx(end, abs=0.02)
        end += float(part["width"])
    assert end == pytest.approx(STRIP_UNITS, abs=0.1)


def test_a_long_history_is_cut_and_says_so(admin_client: Client, make_task: MakeTask) -> None:
    task = make_task(status=Status.FAILED, attempt=RUNS_SHOWN + 5)
    now = timezone.now()
    Attempt.objects.bulk_create(
        Attempt(task=task, number=number, fence=number, outcome="failed", started_at=now, ended_at=now)
        for number in range(1, RUNS_SHOWN + 6)
    )

    page = text_of(admin_client, page_of(task))

    assert page.count("<b>Attempt ") == RUNS_SHOWN
    assert f"Attempt {RUNS_SHOWN + 5}<" in page
    assert "5 earlier attempts not shown" in page


def test_only_the_last_traceback_is_open(admin_client: Client, make_task: MakeTask) -> None:
    page = text_of(admin_client, page_of(lives(make_task(queue="life", max_attempts=2), NO, NO)))

    assert re.findall('<details class="traceback"( open)?>', page) == ["", " open"]


def test_an_attempt_leads_to_what_fails_like_it(admin_client: Client, make_task: MakeTask) -> None:
    task = lives(make_task(queue="life", max_attempts=2), NO, NO)
    before = text_of(admin_client, page_of(task))
    now = timezone.now()
    Failure.objects.create(
        fingerprint=str(task.fingerprint), handler="demo.echo", error_type="E", task_id=task.pk, count=2,
        first_seen_at=now, last_seen_at=now,
    )  # fmt: skip

    page = text_of(admin_client, page_of(task))

    assert "All that fails like this" not in before  # no worker has written it down yet
    assert page.count(f'href="/admin/tasks/failure/{task.fingerprint}/change/"') == 2


# -- secrets


def secretive(make_task: MakeTask) -> Task:
    error = Failed(
        ErrorReport("shop.Refused", f"no: password={SECRET}", f"Traceback …\nshop.Refused: token={SECRET}"),
        retryable=False,
    )
    payload = {"user": "ada", "password": SECRET, "deep": [{"api_key": SECRET}]}
    task = lives(make_task(queue="life", payload=payload, args=[{"token": SECRET}]), error)
    Task.objects.filter(pk=task.pk).update(result={"access_token": SECRET, "rows": 7})
    return task


def test_secrets_are_masked_wherever_they_are(admin_client: Client, make_task: MakeTask) -> None:
    task = secretive(make_task)
    Task.objects.filter(pk=task.pk).update(args=[])

    failed = text_of(admin_client, page_of(task))
    Task.objects.filter(pk=task.pk).update(status=Status.COMPLETED)
    completed = text_of(admin_client, page_of(task))
    listed = text_of(admin_client, f"{TASKS}?status=failed")
    clone = text_of(admin_client, f"{TASKS}{task.pk}/clone/")

    for page in (failed, completed, listed, clone):
        assert SECRET not in page
    assert "ada" in failed
    assert "curl -X POST" in failed
    assert failed.count(MASK) == 6  # payload and curl, both members; the message, and the traceback
    assert "access_token" in completed


def test_what_cannot_be_seen_is_written_out(admin_client: Client, make_task: MakeTask) -> None:
    """A mark that turns the direction of writing would make a command look like another one."""
    task = make_task(payload={"a\u202eb": "c\u2066\x7f"})

    page = text_of(admin_client, page_of(task))

    assert not {"\u202e", "\u2066", "\x7f"} & set(page)
    assert page.count("\\u202e") == 2
    assert page.count("\\u007f") == 2


# -- curl


def curl_of(client: Client, task: Task) -> str:
    found = re.search(r'<pre id="curl"[^>]*>(.*?)</pre>', text_of(client, page_of(task)), re.DOTALL)
    return html.unescape(found[1]) if found else ""


def test_curl_makes_the_same_task(admin_client: Client, make_task: MakeTask) -> None:
    payload = {"it's": 'a "quote" $HOME `id` \\ \n ü', "n": 1.5}
    task = make_task(title="O'Hara", queue="mail", priority=5, payload=payload, tags=["a"], timeout_seconds=9)

    words = shlex.split(curl_of(admin_client, task))
    body = words[words.index("-d") + 1]
    answer = Client().post("/tasks", body, content_type="application/json")

    assert words[:4] == ["curl", "-X", "POST", "http://testserver/tasks"]
    assert answer.status_code == 201, answer.content
    made = Task.objects.get(pk=answer.json()["id"])
    same = ("title", "handler", "queue", "priority", "payload", "tags", "timeout_seconds", "max_attempts")
    assert [getattr(made, name) for name in same] == [getattr(task, name) for name in same]


@pytest.mark.parametrize(
    "columns", [{"handler": "tasks.handlers.echo"}, {"handler": "no.such"}, {"args": [1]}]
)
def test_there_is_no_curl_for_what_http_cannot_make(
    admin_client: Client, make_task: MakeTask, columns: dict[str, Any]
) -> None:
    assert curl_of(admin_client, make_task(**columns)) == ""


# -- who may see and do what

INSIDE = ("hunter-payload", "hunter-result", "hunter-args", "hunter-message", "hunter-trace")


def full_of_secrets(make_task: MakeTask) -> Task:
    error = ErrorReport("shop.Refused", "hunter-message", "Traceback …\nhunter-trace")
    columns = {"payload": {"a": "hunter-payload"}, "args": ["hunter-args"]}
    task = lives(
        make_task(queue="life", **columns), Failed(error, retry_in=timedelta(0)), Succeeded('"hunter-result"')
    )
    Task.objects.filter(pk=task.pk).update(error={"type": "shop.Refused", "message": "hunter-message"})
    return task


def test_who_may_not_look_inside_sees_no_payload_result_or_error(
    staff_client: StaffClient, make_task: MakeTask
) -> None:
    task = full_of_secrets(make_task)
    everything_else = ("view_task", "add_task", "change_task", "retry_task", "cancel_task")
    outside, inside = staff_client(*everything_else), staff_client("view_task", "view_payload")

    pages = [page_of(task), f"{TASKS}{task.pk}/history/", TASKS]
    seen = "".join(text_of(outside, url) for url in pages)

    assert not [word for word in INSIDE if word in seen]
    assert "shop.Refused" in seen
    assert "curl" not in seen
    assert "/clone/" not in seen
    assert [word for word in INSIDE if word in text_of(inside, page_of(task))] == [*INSIDE]


def test_who_may_not_make_tasks_finds_neither_clone_nor_curl(
    staff_client: StaffClient, make_task: MakeTask
) -> None:
    task = make_task()

    page = text_of(staff_client("view_task", "view_payload"), page_of(task))

    assert "/clone/" not in page
    assert "curl" not in page
    assert "/clone/" in text_of(staff_client("view_task", "view_payload", "add_task"), page_of(task))


# -- levers


def log_of(task: Task) -> list[str]:
    return [entry.get_change_message() for entry in LogEntry.objects.filter(object_id=task.pk).order_by("pk")]


def test_a_cancel_keeps_its_reason(admin_client: Client, make_task: MakeTask) -> None:
    pending, running = make_task(), make_task(Status.PROCESSING)

    for task in (pending, running):
        sent = {"CHANGE_FORM-action": "cancel", "_selected_action": str(task.pk), "reason": " sent <b>twice "}
        assert admin_client.post(page_of(task), sent, follow=True).status_code == 200
        task.refresh_from_db()
        assert task.cancel_reason == "sent <b>twice"
        assert "sent &lt;b&gt;twice" in text_of(admin_client, page_of(task))

    assert log_of(pending) == ["Cancelled by hand: sent <b>twice"]
    assert log_of(running) == ["Asked to stop by hand: sent <b>twice"]


@pytest.mark.parametrize("reason", ["x" * 1001, "a\0b"])
def test_a_reason_that_cannot_be_kept_breaks_nothing(
    admin_client: Client, make_task: MakeTask, reason: str
) -> None:
    task = make_task()

    sent = {"CHANGE_FORM-action": "cancel", "_selected_action": str(task.pk), "reason": reason}
    answer = admin_client.post(page_of(task), sent, follow=True)

    assert answer.status_code == 200
    task.refresh_from_db()
    assert (task.status, task.cancel_reason) in [("pending", None), ("cancelled", "a\\0b")]


def scheduled(make_task: MakeTask) -> Task:
    later = timezone.now() + timedelta(hours=1)
    return make_task(run_at=later, ready_at=None, waiting_for=WaitingFor.TIME)


def test_run_now_ends_the_wait(admin_client: Client, make_task: MakeTask) -> None:
    task = scheduled(make_task)
    assert 'value="run_now"' in text_of(admin_client, page_of(task))

    said = pull_on_page(admin_client, page_of(task), "run_now", task.pk)

    task.refresh_from_db()
    assert said == ["It need not wait for its time any more."]
    assert (task.waiting_for, task.ready_at is None) == (None, False)
    assert log_of(task) == ["Made to run now by hand."]
    assert 'value="run_now"' not in text_of(admin_client, page_of(task))


def test_run_now_has_a_permission(staff_client: StaffClient, make_task: MakeTask) -> None:
    task = scheduled(make_task)
    looking = staff_client("view_task", "retry_task", "cancel_task", "add_task", "view_payload")
    sent = {"CHANGE_FORM-action": "run_now", "_selected_action": str(task.pk)}

    looking.post(page_of(task), sent)

    task.refresh_from_db()
    assert task.waiting_for == WaitingFor.TIME
    assert 'value="run_now"' not in text_of(looking, page_of(task))
    assert pull_on_page(staff_client("view_task", "change_task"), page_of(task), "run_now", task.pk) == [
        "It need not wait for its time any more."
    ]


def test_run_now_of_what_is_not_pending_says_so(admin_client: Client, make_task: MakeTask) -> None:
    task = make_task(Status.FAILED)

    assert pull_on_page(admin_client, page_of(task), "run_now", task.pk) == ["It is not pending any more."]
    assert log_of(task) == []


def test_a_page_asks_the_database_a_few_times_however_long_the_history(
    admin_client: Client, make_task: MakeTask, django_assert_max_num_queries: Any
) -> None:
    task = make_task(status=Status.FAILED, attempt=30, payload={"a": 1})
    now = timezone.now()
    Attempt.objects.bulk_create(
        Attempt(task=task, number=number, fence=number, outcome="failed", started_at=now, ended_at=now,
                error_type="E", fingerprint=f"{number:016}", traceback="Traceback …")
        for number in range(1, 31)
    )  # fmt: skip

    with django_assert_max_num_queries(14):
        text_of(admin_client, page_of(task))


def test_json_of_a_masked_payload_is_still_json(admin_client: Client, make_task: MakeTask) -> None:
    task = make_task(payload={"password": SECRET, "a": ["ü", None]})

    words = shlex.split(curl_of(admin_client, task))

    assert json.loads(words[words.index("-d") + 1])["payload"] == {"password": MASK, "a": ["ü", None]}
