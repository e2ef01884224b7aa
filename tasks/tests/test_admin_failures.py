"""Failures in the admin: groups, the tasks of one, and the lever that runs them again."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connections
from django.test import Client
from django.utils import timezone

from tasks import operations
from tasks.admin import failures
from tasks.models import Failure, Operation, Task
from tasks.models.task import database
from tasks.selection import Counted, Selection
from tasks.states import Status
from tasks.tests.rows import MakeTask
from tasks.tests.staff import OPERATIONS, TASKS, StaffClient, listed, page_of, pull_on_page, staff_client
from tasks.tests.test_indexes import assert_only, plans_of

__all__ = ["staff_client"]  # a fixture

pytestmark = pytest.mark.django_db

FAILURES = "/admin/tasks/failure/"
EVIL = "</pre></details><script>alert(1)</script><img src=x onerror=alert(2)>\"'"


def make_failure(**columns: Any) -> Failure:
    now = timezone.now()
    given = {
        "fingerprint": uuid4().hex[:16], "handler": "demo.echo", "error_type": "shop.Refused", "count": 1,
        "frame": "shop.billing.pay", "task_id": uuid4(), "first_seen_at": now, "last_seen_at": now,
    }  # fmt: skip
    return Failure.objects.create(**{**given, **columns})


def of(failure: Failure) -> str:
    return f"{FAILURES}{failure.pk}/change/"


def failed(make_task: MakeTask, failure: Failure, number: int, **columns: Any) -> list[Task]:
    return [make_task(Status.FAILED, fingerprint=failure.pk, **columns) for _ in range(number)]


def text_of(client: Client, url: str) -> str:
    answer = client.get(url)
    assert answer.status_code == 200
    return answer.content.decode()


# -- the list


def test_what_was_seen_last_comes_first(admin_client: Client) -> None:
    now = timezone.now()
    for minutes, name in ((30, "shop.Middle"), (1, "shop.Newest"), (90, "shop.Oldest")):
        make_failure(error_type=name, last_seen_at=now - timedelta(minutes=minutes))

    page = text_of(admin_client, FAILURES)

    assert page.index("shop.Newest") < page.index("shop.Middle") < page.index("shop.Oldest")


def test_a_group_says_how_often_where_and_what_is_still_failed(
    admin_client: Client, make_task: MakeTask
) -> None:
    failed(make_task, make_failure(count=12_345), 3)

    page = text_of(admin_client, FAILURES)

    for words in ("shop.Refused", "in shop.billing.pay", "demo.echo", "12,345", '"field-failed_now">3<'):
        assert words in page


def test_a_group_shows_what_its_sample_says_masked_to_who_may_look_inside(
    admin_client: Client, staff_client: StaffClient
) -> None:
    make_failure(message="no such customer\npassword=hunter2 <b>")

    seen, hidden = text_of(admin_client, FAILURES), text_of(staff_client("view_task"), FAILURES)

    assert "no such customer password=" in seen
    assert "&lt;b&gt;" in seen
    assert "hunter2" not in seen
    assert "no such customer" not in hidden


def test_groups_can_be_searched(admin_client: Client) -> None:
    make_failure(error_type="shop.Mine"), make_failure(error_type="shop.Other")

    page = text_of(admin_client, f"{FAILURES}?q=mine")

    assert "shop.Mine" in page
    assert "shop.Other" not in page


def test_the_list_asks_once_for_all_groups_by_an_index(admin_client: Client, make_task: MakeTask) -> None:
    for number in (0, 2, 1):
        failed(make_task, make_failure(), number)
    for number in range(600):  # else one of the other indexes of what has failed is as good
        make_task(Status.FAILED, fingerprint=f"other{number}")
    with connections[database()].cursor() as cursor:
        cursor.execute("ANALYZE tasks")
    found: list[Any] = []

    plans = plans_of(lambda: found.append(admin_client.get(FAILURES)))

    assert len(plans) == 1
    assert_only(plans, "task_failure_idx")
    assert sorted(failure.failed for failure in found[0].context["cl"].result_list) == [0, 1, 2]


def test_a_large_group_is_not_counted_to_its_end(
    admin_client: Client, make_task: MakeTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failures, "NAMED_IN_LIST", 2)
    failed(make_task, make_failure(), 4)

    assert '"field-failed_now">2+<' in text_of(admin_client, FAILURES)


def test_nothing_has_failed_in_plain_words(admin_client: Client) -> None:
    assert "Nothing has failed." in text_of(admin_client, FAILURES)
    make_failure()
    assert "No failure matches." in text_of(admin_client, f"{FAILURES}?q=nothing")


# -- the page of one


def test_a_group_shows_its_sample_and_its_tasks(admin_client: Client, make_task: MakeTask) -> None:
    trace = (
        'Traceback …\n  File "/app/shop/billing.py", line 5, in pay\n    x\nshop.Refused: password=hunter2'
    )
    failure = make_failure(message="no: password=hunter2", traceback=trace)
    [mine] = failed(make_task, failure, 1, title="Invoice 4711")
    make_task(Status.FAILED, fingerprint="another", title="Somebody else's")

    page = text_of(admin_client, of(failure))

    assert "/app/shop/billing.py" in page
    assert "Invoice 4711" in page
    assert page_of(mine) in page
    assert page_of(Task(pk=failure.task_id)) in page
    assert "Somebody else" not in page
    assert "hunter2" not in page


def test_its_tasks_are_paged_newest_first(
    admin_client: Client, make_task: MakeTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failures, "TASKS_SHOWN", 2)
    failure = make_failure()
    tasks = [task.pk for task in failed(make_task, failure, 5)][::-1]
    seen: list[str] = []
    url = of(failure)

    while url:
        context = admin_client.get(url).context
        seen += [link for link, *_ in context["rows"]]
        url = f"{of(failure)}?older_than={context['older']}" if context["older"] else ""

    assert [str(task) in link for task, link in zip(tasks, seen, strict=True)] == [True] * 5


def test_what_is_no_id_is_refused(admin_client: Client) -> None:
    assert admin_client.get(f"{of(make_failure())}?older_than=x").status_code == 400


def test_a_group_whose_tasks_are_gone_says_so(admin_client: Client) -> None:
    page = text_of(admin_client, of(make_failure()))

    assert "None is left" in page
    assert 'value="retry_group"' not in page


# -- the lever


def test_the_tasks_of_a_group_run_again(admin_client: Client, make_task: MakeTask) -> None:
    failure = make_failure()
    mine = failed(make_task, failure, 3)
    [other] = failed(make_task, make_failure(), 1)

    said = pull_on_page(admin_client, of(failure), "retry_group", failure.pk)

    assert said == ["3 of 3 queued again; 0 still failed."]
    assert {Task.objects.get(pk=task.pk).status for task in mine} == {"pending"}
    assert Task.objects.get(pk=other.pk).status == "failed"


def test_a_group_that_is_too_large_for_a_request_is_an_operation(
    admin_client: Client, make_task: MakeTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failures, "RETRIED_AT_ONCE", 2)
    failure = make_failure()
    mine = failed(make_task, failure, 3)
    [other] = failed(make_task, make_failure(), 1)
    assert ">Run all 3 again…<" in text_of(admin_client, of(failure))
    pressed = {"CHANGE_FORM-action": "retry_group", "_selected_action": failure.pk}

    asked = admin_client.post(of(failure), pressed, follow=True)
    untouched = Task.objects.filter(status=Status.FAILED).count()
    started = admin_client.post(f"{OPERATIONS}add/", parse_qs(urlsplit(asked.redirect_chain[-1][0]).query))
    while operations.advance(Operation.objects.get().pk):
        pass

    assert "Run 3 finished tasks again" in asked.content.decode()
    assert untouched == 4
    assert "Run again: failed, failure demo.echo: shop.Refused" in text_of(admin_client, started["Location"])
    assert {Task.objects.get(pk=task.pk).status for task in mine} == {"pending"}
    assert Task.objects.get(pk=other.pk).status == "failed"


def test_a_group_that_fits_into_a_request_is_done_at_once(
    admin_client: Client, make_task: MakeTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failures, "RETRIED_AT_ONCE", 2)
    failure = make_failure()
    failed(make_task, failure, 2)
    assert ">Run all 2 again<" in text_of(admin_client, of(failure))

    said = pull_on_page(admin_client, of(failure), "retry_group", failure.pk)

    assert said == ["2 of 2 queued again; 0 still failed."]
    assert not Operation.objects.exists()


def test_the_tasks_of_a_group_are_listed_and_found_by_its_index(
    admin_client: Client, make_task: MakeTask
) -> None:
    failure = make_failure()
    mine = failed(make_task, failure, 2)
    make_task(fingerprint=failure.pk)  # it was retried
    for number in range(600):
        make_task(Status.FAILED, fingerprint=f"other{number % 3}")
    with connections[database()].cursor() as cursor:
        cursor.execute("ANALYZE tasks")
    chosen = Selection(filters={"failure": failure.pk}, statuses=frozenset({Status.FAILED}), spared="x")

    shown = listed(admin_client.get(TASKS, {"failure": failure.pk}))
    plans = plans_of(chosen.count)

    assert shown == [task.pk for task in mine][::-1]
    assert chosen.count() == Counted(2, whole=True)
    assert_only(plans, "task_failure_idx")


def test_the_history_of_the_group_and_of_each_task_tells_of_it(
    admin_client: Client, make_task: MakeTask
) -> None:
    failure = make_failure()
    tasks = failed(make_task, failure, 2)

    pull_on_page(admin_client, of(failure), "retry_group", failure.pk)

    told = {entry.object_id: entry.get_change_message() for entry in LogEntry.objects.all()}
    assert set(told) == {failure.pk, *(str(task.pk) for task in tasks)}
    assert set(told.values()) == {"Run again by hand with its group: 2 of 2 queued again."}


# -- who


def test_who_may_see_tasks_may_see_failures_and_no_more(
    staff_client: StaffClient, make_task: MakeTask
) -> None:
    failure = make_failure(message="hunter-message", traceback="Traceback …\nhunter-trace")
    [task] = failed(make_task, failure, 1)
    looking, nobody = staff_client("view_task"), staff_client("view_queue")
    sent = {"CHANGE_FORM-action": "retry_group", "_selected_action": failure.pk}

    assert [nobody.get(url).status_code for url in (FAILURES, of(failure))] == [403, 403]
    assert nobody.post(of(failure), sent).status_code == 403
    page = text_of(looking, FAILURES) + text_of(looking, of(failure))
    looking.post(of(failure), sent)

    assert "hunter" not in page
    assert "shop.Refused" in page
    assert 'value="retry_group"' not in page
    task.refresh_from_db()
    assert task.status == Status.FAILED


def test_retrying_a_group_has_the_permission_of_a_retry(
    staff_client: StaffClient, make_task: MakeTask
) -> None:
    failure = make_failure()
    failed(make_task, failure, 1)

    said = pull_on_page(staff_client("view_task", "retry_task"), of(failure), "retry_group", failure.pk)

    assert said == ["1 of 1 queued again; 0 still failed."]


def test_nothing_can_be_edited_or_deleted(admin_client: Client) -> None:
    failure = make_failure()

    for url in (f"{FAILURES}add/", f"{FAILURES}{failure.pk}/delete/"):
        assert admin_client.post(url, {"post": "yes"}).status_code == 403
    assert admin_client.post(of(failure), {"handler": "mine", "_save": "1"}).status_code == 403
    failure.refresh_from_db()
    assert failure.handler == "demo.echo"


def test_what_comes_from_outside_is_text(admin_client: Client, make_task: MakeTask) -> None:
    failure = make_failure(
        handler=EVIL,
        error_type=EVIL,
        frame=EVIL,
        message=EVIL,
        traceback=f'  File "{EVIL}", line 1, in {EVIL}\n{EVIL}',
    )
    failed(make_task, failure, 1, title=EVIL)

    for url in (FAILURES, of(failure), f"{FAILURES}{failure.pk}/history/", f"{FAILURES}?q={EVIL}"):
        page = text_of(admin_client, url)
        assert "<script>" not in page
        assert "<img src=x" not in page
