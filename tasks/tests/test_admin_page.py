"""The page of one task, worker or queue: what it tells, and that nothing can be edited or runs in it."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from datetime import timedelta
from html.parser import HTMLParser
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from tasks import lifecycle
from tasks.contract import Crashed, ErrorReport, Failed, Succeeded
from tasks.lifecycle.workers import ALIVE_FOR
from tasks.models import Attempt, Queue, Task, Worker
from tasks.states import Status
from tasks.tests.rows import LeasedTask, MakeTask, claimant
from tasks.tests.staff import QUEUES, TASKS, WORKERS, page_of

EVIL = "</pre></details><script>alert(1)</script><img src=x onerror=alert(2)>\"'"


def everything() -> list[Any]:
    """The one row of each table."""
    return [model._base_manager.values().get() for model in (Task, Queue, Worker)]


def make_worker(**columns: object) -> Worker:
    now = timezone.now()
    given = {"id": "host:1:worker", "host": "host", "pid": 1, "executors": 3, "handlers": ["demo.echo"]}
    return Worker.objects.create(**{**given, "started_at": now, "last_seen_at": now, **columns})


def text_of(client: Client, url: str) -> str:
    answer = client.get(url)
    assert answer.status_code == 200
    return answer.content.decode()


@pytest.mark.parametrize("status", Status)
def test_a_task_in_any_status_has_a_page(admin_client: Client, make_task: MakeTask, status: Status) -> None:
    task = make_task(status=status, title="Invoice 4711")

    page = text_of(admin_client, page_of(task))

    assert "Invoice 4711" in page
    assert status.label in page


def test_a_unique_key_is_shown_as_the_text_that_it_is(admin_client: Client, make_task: MakeTask) -> None:
    page = text_of(admin_client, page_of(make_task(unique_key="<b>report-42")))

    assert "Unique key" in page
    assert "&lt;b&gt;report-42" in page


def test_attempts_are_told_in_order_with_their_errors(admin_client: Client, leased_task: LeasedTask) -> None:
    lease = leased_task(max_attempts=3)
    now = timezone.now()
    for outcome in (
        Failed(
            ErrorReport("builtins.ValueError", "no such customer", "Traceback: line 14, in send"),
            retry_in=timedelta(0),
        ),
        Crashed("killed by SIGSEGV"),
    ):
        assert lifecycle.settle([(lease, outcome)], now=now).written
        Task.objects.update(ready_at=now, waiting_for=None)
        [lease] = lifecycle.claim(claimant(), limit=1, now=now)
    assert lifecycle.settle([(lease, Succeeded('{"sent": true}'))], now=now).written

    page = text_of(admin_client, f"{TASKS}{lease.task_id}/change/")

    told = [
        page.index(words)
        for words in (
            "Attempt 1",
            "no such customer",
            "line 14",
            "Attempt 2",
            "killed by SIGSEGV",
            "Attempt 3",
        )
    ]
    assert told == sorted(told)
    assert '<span class="name">&quot;sent&quot;</span>' in page


def test_why_it_waits_names_a_command_as_one(admin_client: Client, make_task: MakeTask) -> None:
    Queue.objects.create(name="mail", paused_at=timezone.now(), pause_reason="<b>a move</b>")
    task = make_task(queue="mail")

    page = admin_client.get(page_of(task)).content.decode()

    assert page.count("<code>manage.py tasks resume mail</code>") == 2, "above its facts, and in its timeline"
    assert "(&lt;b&gt;a move&lt;/b&gt;)" in page
    assert "`" not in page.split('id="content-main"')[1]


def test_values_are_shown_as_they_were_given(admin_client: Client, make_task: MakeTask) -> None:
    task = make_task(payload={"grüße": ["a", 1.5, None, True]}, args=[7], tags=["billing"])

    page = re.sub("<[^>]+>", "", text_of(admin_client, page_of(task))).replace("&quot;", '"')

    assert '{\n  "grüße": [\n    "a",\n    1.5,\n    null,\n    true\n  ]\n}' in page
    assert "[\n  7\n]" in page
    assert "billing" in page


def test_a_task_that_is_gone_leads_back_with_a_message(admin_client: Client) -> None:
    for key in ("0198c2f4-0000-7000-8000-000000000000", "nonsense"):
        answer = admin_client.get(f"{TASKS}{key}/change/", follow=True)

        assert "doesn’t exist" in answer.content.decode()  # noqa: RUF001 - Django's words


# -- nothing can be edited


@pytest.mark.parametrize("what", ["add/", "{}/delete/"])
def test_tasks_are_neither_added_nor_deleted(admin_client: Client, make_task: MakeTask, what: str) -> None:
    task = make_task(status=Status.COMPLETED)

    url = TASKS + what.format(task.pk)

    assert admin_client.get(url).status_code == 403
    assert admin_client.post(url, {"post": "yes", "title": "mine"}).status_code == 403
    assert Task.objects.get() == task


def test_what_is_sent_to_a_page_changes_nothing(admin_client: Client, make_task: MakeTask) -> None:
    task = make_task(title="Invoice")
    queue = Queue.objects.create(name="mail")
    make_worker()
    before = everything()

    for url in (page_of(task), f"{QUEUES}{queue.pk}/change/", f"{WORKERS}host_3A1_3Aworker/change/"):
        sent = {
            "title": "mine",
            "status": "completed",
            "paused_at": "2026-01-01",
            "host": "mine",
            "_save": "Save",
        }
        assert admin_client.post(url, sent).status_code == 403

    assert everything() == before


# -- nothing runs in it


def evil_task(make_task: MakeTask) -> str:
    error = {"type": EVIL, "message": EVIL, "attempt": 1}
    columns = {
        "title": EVIL,
        "handler": EVIL,
        "queue": "q<script>",
        "owner": EVIL[:64],
        "worker_id": EVIL,
        "tags": [EVIL],
    }
    task = make_task(
        status=Status.FAILED,
        payload={EVIL: EVIL},
        args=[EVIL],
        result=EVIL,
        error=error,
        attempt=1,
        **columns,
    )
    now = timezone.now()
    Attempt.objects.create(
        task=task, number=1, fence=1, outcome="failed", worker_id=EVIL, started_at=now, ended_at=now,
        error_type=EVIL, message=EVIL, traceback=EVIL,
    )  # fmt: skip
    return page_of(task)


def evil_worker(make_task: MakeTask) -> str:
    make_worker(id=EVIL, host=EVIL, handlers=[EVIL], queues=[EVIL])
    make_task(status=Status.PROCESSING, worker_id=EVIL, title=EVIL)
    return WORKERS


def evil_queue(make_task: MakeTask) -> str:
    Queue.objects.create(name=EVIL[:64], paused_at=timezone.now())
    make_task(queue="<script>alert(3)</script>")
    return QUEUES


def evil_list(make_task: MakeTask) -> str:
    evil_task(make_task)
    return TASKS


def evil_words(make_task: MakeTask) -> str:
    return f"{TASKS}?q={EVIL}&queue={EVIL}"


def evil_front(make_task: MakeTask) -> str:
    evil_queue(make_task)
    return "/admin/"


class Inline(HTMLParser):
    """Finds what a strict content security policy forbids."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "style" or (tag == "script" and "src" not in given):
            self.found.append(tag)
        self.found += [f"{tag} {name}" for name in given if name == "style" or name.startswith("on")]


@pytest.mark.parametrize("make", [evil_task, evil_list, evil_worker, evil_queue, evil_words, evil_front])
def test_what_comes_from_outside_is_text(
    admin_client: Client, make_task: MakeTask, make: Callable[[MakeTask], str]
) -> None:
    page = text_of(admin_client, make(make_task))

    assert "&lt;script&gt;" in page
    assert "<script>" not in page
    assert "<img src=x" not in page


def test_the_page_of_an_evil_worker_is_text_too(admin_client: Client, make_task: MakeTask) -> None:
    listing = text_of(admin_client, evil_worker(make_task))
    [link] = re.findall(r'<header><h2><a href="([^"]+)"', listing)

    page = text_of(admin_client, html.unescape(link))

    assert page.count("&lt;script&gt;") >= 4
    assert "<script>" not in page


@pytest.mark.parametrize("make", [evil_task, evil_list, evil_worker, evil_queue, evil_front])
def test_pages_need_neither_inline_scripts_nor_inline_styles(
    admin_client: Client, make_task: MakeTask, make: Callable[[MakeTask], str]
) -> None:
    answer = admin_client.get(make(make_task))

    assert "default-src 'self'" in answer["Content-Security-Policy"]
    reader = Inline()
    reader.feed(answer.content.decode())
    assert reader.found == []


# -- workers


def test_a_worker_that_was_not_heard_of_counts_as_gone(admin_client: Client) -> None:
    make_worker(id="host:1:alive")
    make_worker(id="host:2:gone", last_seen_at=timezone.now() - ALIVE_FOR - timedelta(seconds=1))

    page = text_of(admin_client, WORKERS)

    assert page.index("host:1:alive") < page.index("Alive") < page.index("host:2:gone") < page.index("Gone")


def test_the_page_of_a_worker_shows_what_it_runs(admin_client: Client, make_task: MakeTask) -> None:
    make_worker(queues=["mail"])
    make_task(
        status=Status.PROCESSING, worker_id="host:1:worker", title="In its hands", attempted_at=timezone.now()
    )
    make_task(status=Status.PROCESSING, worker_id="host:2:other", title="In other hands")

    page = text_of(admin_client, f"{WORKERS}host_3A1_3Aworker/change/")

    assert "In its hands" in page
    assert "In other hands" not in page
