"""The admin in a real browser: it fits any window, runs nothing foreign, and its levers work by hand."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from django.contrib.admin.utils import quote
from django.contrib.auth.models import User
from django.utils import timezone

from tasks import lifecycle, operations, tokens
from tasks.contract import Cancelled, Crashed, ErrorReport, Failed, Succeeded, TaskSpec
from tasks.grants import Scope
from tasks.models import Failure, Operation, Task, Worker
from tasks.states import Status
from tasks.tests.browsers import CHROMIUM, NO_CHROMIUM, SIZES
from tasks.tests.rows import claimant
from tasks.tests.staff import OPERATIONS, QUEUES, TASKS, WORKERS, page_of

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

pytestmark = [
    NO_CHROMIUM,
    pytest.mark.django_db(transaction=True),
    pytest.mark.slow,
]

TOKENS = "/admin/tasks/token/"
FAILURES = "/admin/tasks/failure/"
EVIL = "</pre><script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>"


class Visitor:
    """Somebody with a browser, who hears whatever a page complains of."""

    def __init__(self, browser: Any, url: str) -> None:
        self._browser, self._url = browser, url
        self.complaints: list[str] = []

    def __call__(self, *, size: str = "desktop", theme: str = "light") -> Any:
        """A page in a new window, logged in."""
        width, height = SIZES[size]
        window = self._browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=theme, base_url=self._url
        )
        page = window.new_page()
        page.set_default_timeout(30_000)
        page.on("console", lambda message: self.complaints.append(f"{page.url}: {message.text}"))
        page.on("pageerror", lambda error: self.complaints.append(f"{page.url}: {error}"))
        page.on("response", self._hear)
        page.goto("/admin/")
        page.fill("#id_username", "ada")
        page.fill("#id_password", "secret")
        page.click("input[type=submit]")
        return page

    def _hear(self, answer: Any) -> None:
        if answer.status >= 400:
            self.complaints.append(f"{answer.status} {answer.url}")


@pytest.fixture
def visit(live_server: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Visitor]:
    """Open windows as "ada"; fails if a page complained or asked for what is not there."""
    User.objects.create_superuser("ada", "ada@example.com", "secret")
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")  # the driver's event loop is in this thread
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM)
        visitor = Visitor(browser, live_server.url)
        yield visitor
        browser.close()
    assert visitor.complaints == []


def attempt(spec: TaskSpec, *outcomes: Any) -> Task:
    """A task that has gone through these attempts; without any it is pending."""
    [made] = lifecycle.enqueue([spec])
    now = timezone.now()
    for outcome in outcomes:
        Task.objects.filter(pk=made.id).update(ready_at=now, waiting_for=None)
        [lease] = lifecycle.claim(claimant(spec.queue), limit=1, now=now)
        if outcome is not None:
            lifecycle.settle([(lease, outcome)], now=now + timedelta(seconds=1.4))
    return Task.objects.get(pk=made.id)


def wish(queue: str, **fields: Any) -> TaskSpec:
    return TaskSpec(handler="demo.echo", queue=queue, max_attempts=2, **fields)


def life() -> dict[str, Task]:
    """A task in each state, made by the verbs, some of them hostile."""
    boom = Failed(ErrorReport("builtins.ValueError", EVIL, f"Traceback (most recent call last):\n{EVIL}"))
    evil = wish("four", title=EVIL, payload={EVIL: EVIL})
    made = {
        "pending": attempt(wish("one", title="Waits " + "long " * 60)),
        "running": attempt(wish("two", title="x" * 400), None),
        "completed": attempt(wish("three", payload={"a": [1, "b"]}), Succeeded('{"sent": true}')),
        "failed": attempt(evil, Crashed("SIGSEGV"), boom),
        "cancelled": attempt(wish("five", title="Not needed"), Cancelled()),
    }
    now = timezone.now()
    worker = Worker(id="host:1:worker", host="host", pid=1, executors=3, handlers=["demo.echo"])
    lifecycle.present(worker, now=now)
    lifecycle.pause(["one"])
    write_down(made["failed"])
    return made


def write_down(task: Task) -> None:
    """The failure of its last attempt, as a worker would."""
    attempt = task.attempts.order_by("-pk")[0]
    Failure.objects.create(
        fingerprint=str(task.fingerprint),
        handler=task.handler,
        error_type=attempt.error_type,
        frame=EVIL,
        message=attempt.message,
        traceback=attempt.traceback,
        task_id=task.pk,
        count=1,
        first_seen_at=attempt.ended_at,
        last_seen_at=attempt.ended_at,
    )


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_every_page_fits_its_window_and_complains_of_nothing(visit: Visitor, size: str, theme: str) -> None:
    made = life()
    page = visit(size=size, theme=theme)
    urls = ["/admin/", "/admin/tasks/", "/admin/auth/user/", TASKS, WORKERS, QUEUES, f"{QUEUES}add/"]
    urls += [f"{TASKS}?status=failed", f"{TASKS}?q=nothing-like-it", f"{TASKS}{made['failed'].pk}/history/"]
    urls += [f"{TASKS}?q=quue%3Ax", f"{OPERATIONS}add/?verb=retry&status=failed", OPERATIONS]
    urls += [
        f"{TASKS}{made['failed'].pk}/clone/",
        FAILURES,
        f"{FAILURES}{made['failed'].fingerprint}/change/",
    ]
    urls += [f"{QUEUES}one/purge/", f"{WORKERS}host_3A1_3Aworker/drain/"]
    urls += [f"{QUEUES}one/change/", f"{WORKERS}host_3A1_3Aworker/change/", *map(page_of, made.values())]

    for url in urls:
        page.goto(url)
        assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size][0], url
        assert page.evaluate("window.hacked") is None, url


HOSTILE = [
    "<script>window.hacked = 1</script>",
    "\"'><img src=x onerror=window.hacked=1>",
    "javascript:window.hacked=1",
    "{{ 7|add:7 }}{% debug %}",
    '" autofocus onfocus=window.hacked=1 x="',
]


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_that_comes_from_outside_runs_or_is_blocked_as_a_script(visit: Visitor, text: str) -> None:
    """The browser complains of whatever the policy blocks; nothing may even try."""
    boom = Failed(ErrorReport(text, text, text))
    spec = wish("evil", title=text, payload={text: text}, tags=(text,), owner=text)
    failed = attempt(spec, boom, boom)
    running = attempt(wish("evil", title=text), None)
    Task.objects.filter(pk=running.pk).update(worker_id=text, handler=text)
    worker = Worker(id=text, host=text, pid=1, executors=3, handlers=[text], queues=[text])
    lifecycle.present(worker, now=timezone.now())
    token, _ = tokens.issue(text, owner=text, scopes=[Scope.READ], queues=[text], now=timezone.now())
    write_down(failed)
    page = visit()
    listed = ["/admin/", TASKS, WORKERS, QUEUES, TOKENS, page_of(failed), page_of(running)]
    listed += [f"{TASKS}{failed.pk}/clone/", FAILURES, f"{FAILURES}{failed.fingerprint}/change/"]
    listed += [
        f"{TOKENS}{token.pk}/change/",
        f"{TOKENS}{token.pk}/delete/",
        f"{WORKERS}{quote(text)}/change/",
    ]
    listed += [f"{TASKS}?{urlencode({name: text})}" for name in ("q", "queue", "handler")]

    for url in [*listed, f"{QUEUES}add/?{urlencode({'name': text})}", f"{TOKENS}add/"]:
        page.goto(url)
        assert page.evaluate("window.hacked") is None, url


def test_themes_differ_and_the_switch_changes_them(visit: Visitor) -> None:
    page = visit(theme="light")
    background = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(background)

    page.click(".theme-toggle")  # from auto, which is light here, to dark
    page.wait_for_function(f"{background} !== '{light}'")

    assert page.get_attribute("html", "data-theme") == "dark"


def test_a_traceback_unfolds(visit: Visitor) -> None:
    page = visit()
    page.goto(page_of(life()["failed"]))
    traceback = page.locator(".traceback pre").first
    assert traceback.is_visible()  # of the last attempt

    page.click("summary:has-text('Traceback')")
    assert not traceback.is_visible()
    page.click("summary:has-text('Traceback')")

    assert traceback.is_visible()
    assert "window.hacked" in page.locator(".trace").first.inner_text()


def test_the_curl_command_is_copied_with_a_click(visit: Visitor) -> None:
    page = visit()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto(page_of(life()["completed"]))

    page.click("button:has-text('Copy')")
    page.wait_for_selector("button:has-text('Copied')")

    assert page.evaluate("navigator.clipboard.readText()") == page.locator("#curl").inner_text()


def test_over_plain_http_the_curl_command_is_selected_and_copied(visit: Visitor) -> None:
    page = visit()
    page.add_init_script("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    page.goto(page_of(life()["completed"]))

    page.click("button:has-text('Copy')")
    page.wait_for_selector("button:has-text('Copied')")

    assert page.evaluate("getSelection().toString()").strip() == page.locator("#curl").inner_text().strip()


def test_a_task_is_cloned_with_edits_by_hand(visit: Visitor) -> None:
    made = life()["completed"]
    page = visit(size="phone")
    page.goto(page_of(made))

    page.click("a:has-text('Clone')")
    page.fill("textarea", "{")
    page.click("button:has-text('Make the clone')")
    page.wait_for_selector("text=This is no JSON")
    page.fill("textarea", '{"b": 2}')
    page.click("button:has-text('Make the clone')")

    page.wait_for_selector(f"text=This is the clone of {made.pk}.")
    assert [task.payload for task in Task.objects.exclude(pk=made.pk).filter(queue="three")] == [{"b": 2}]


def test_a_group_of_failures_is_run_again_by_hand(visit: Visitor) -> None:
    failed = life()["failed"]
    page = visit()
    page.goto(FAILURES)

    page.click(".field-what a")
    page.click("button:has-text('Run all 1 again')")

    page.wait_for_selector("text=1 of 1 queued again; 0 still failed.")
    failed.refresh_from_db()
    assert failed.status == Status.PENDING


def test_chosen_tasks_run_again(visit: Visitor) -> None:
    failed = life()["failed"]
    page = visit()
    page.goto(f"{TASKS}?status=failed")

    page.check(".action-select")
    page.click("button:has-text('Run again')")

    page.wait_for_selector("text=1 of 1 queued again.")
    failed.refresh_from_db()
    assert failed.status == Status.PENDING


def test_all_that_match_are_counted_confirmed_and_watched(visit: Visitor) -> None:
    for _ in range(52):
        attempt(wish("mail"), Crashed("SIGSEGV"), Crashed("SIGSEGV"))
    page = visit(size="phone")
    page.goto(f"{TASKS}?status=failed")

    page.check("#action-toggle") if page.is_visible("#action-toggle") else page.check(
        ".action-select >> nth=0"
    )
    page.click("text=Everything that matches…")
    page.wait_for_selector("text=52 finished tasks match.")
    page.click("button:has-text('Run 52 finished tasks again')")
    page.wait_for_selector("text=0 queued again.")
    operation = Operation.objects.get()
    while operations.advance(operation.pk):
        pass
    page.reload()

    page.wait_for_selector("text=52 queued again.")
    assert not Task.objects.filter(status=Status.FAILED).exists()


def test_everything_is_chosen_from_the_box_above_the_rows(visit: Visitor) -> None:
    for _ in range(3):
        attempt(wish("mail"), Crashed("SIGSEGV"), Crashed("SIGSEGV"))
    page = visit()
    page.goto(f"{TASKS}?status=failed")

    page.check("#action-toggle")
    page.click("text=Choose everything that matches")
    page.click("button:has-text('Run again')")

    page.wait_for_selector("text=3 finished tasks match.")


def test_rows_that_were_put_in_anew_can_be_chosen_all_at_once(visit: Visitor) -> None:
    life()
    page = visit()
    page.goto(TASKS)

    page.evaluate("const rows = document.getElementById('task-rows'); rows.innerHTML = rows.innerHTML")
    page.check("#action-toggle")

    assert page.locator(".action-select:checked").count() == 5
    page.wait_for_selector("text=5 of 5 selected")


def test_on_a_phone_the_first_screen_shows_tasks_and_filters_when_asked_for(visit: Visitor) -> None:
    life()
    page = visit(size="phone")
    page.goto(TASKS)

    first_row = page.locator("#result_list tbody tr").first.bounding_box()
    hidden = not page.is_visible("select[name=queue]")
    page.click("text=Filters")

    assert first_row is not None and first_row["y"] < SIZES["phone"][1] * 0.6
    assert hidden
    assert page.is_visible("select[name=queue]")


def test_the_page_of_a_task_cancels_it_and_runs_it_again(visit: Visitor) -> None:
    pending = life()["pending"]
    page = visit(size="phone")
    page.goto(page_of(pending))

    page.click("summary:has-text('Cancel')")
    page.fill("input[name=reason]", "not needed")
    page.press("input[name=reason]", "Enter")
    page.wait_for_selector("text=1 of 1 cancelled.")
    page.wait_for_selector("text=Why: not needed")
    page.click("button:has-text('Run again')")
    page.wait_for_selector("text=1 of 1 queued again.")

    pending.refresh_from_db()
    assert pending.status == Status.PENDING


def test_filters_and_search_work_by_keyboard(visit: Visitor) -> None:
    made = life()
    page = visit()
    page.goto(TASKS)

    page.select_option("select[name=queue]", "one")
    page.fill("input[name=q]", "waits LONG")
    page.press("input[name=q]", "Enter")
    page.wait_for_url("**queue=one**")

    assert page.locator("#result_list tbody tr").count() == 1
    assert str(made["pending"].pk) in (page.get_attribute(".field-what a", "href") or "")


def test_a_queue_is_paused_and_resumed_by_hand(visit: Visitor) -> None:
    lifecycle.enqueue([wish("mail")])
    page = visit()
    page.goto(QUEUES)

    page.click("tr:has-text('mail') >> text=Pause…")
    page.fill("#id_pause_reason", "the provider is down")
    page.click("button:has-text('Pause')")
    page.wait_for_selector("text=Queue mail is paused.")
    page.wait_for_selector("text=by ada: the provider is down")
    page.click("tr:has-text('mail') >> text=Resume")

    page.wait_for_selector("text=1 of 1 resumed.")


def test_a_queue_is_purged_once_its_name_was_typed(visit: Visitor) -> None:
    lifecycle.enqueue([wish("mail")] * 3)
    page = visit(size="phone")
    page.goto(QUEUES)

    page.click("tr:has-text('mail') >> text=Purge…")
    page.fill("#typed", "mall")
    page.click("button:has-text('Cancel all pending tasks')")
    page.wait_for_selector("text=That is not the name of the queue")
    page.fill("#typed", "mail")
    page.click("button:has-text('Cancel all pending tasks')")

    page.wait_for_selector("text=3 pending tasks of queue mail cancelled.")


def test_a_worker_is_drained_by_hand(visit: Visitor) -> None:
    life()
    page = visit()
    page.goto(WORKERS)

    page.click("text=Drain…")
    page.click("button:has-text('Drain it')")

    page.wait_for_selector("text=claims nothing more within 10 s")
    page.wait_for_selector(".badge:has-text('Draining')")
