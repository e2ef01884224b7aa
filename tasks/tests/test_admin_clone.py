"""A task made from another: checked as the API checks, with the secrets that nobody wrote anew."""

from __future__ import annotations

import html
import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.admin.models import ADDITION, LogEntry
from django.test import Client
from django.utils import timezone

from tasks.masking import MASK
from tasks.models import Task
from tasks.states import Status
from tasks.tests.rows import MakeTask
from tasks.tests.staff import TASKS, StaffClient, page_of, staff_client

__all__ = ["staff_client"]  # a fixture

pytestmark = pytest.mark.django_db

SECRET = "s3cr3t-value"


def form_of(client: Client, task: Task) -> dict[str, str]:
    """The fields as they are filled in."""
    answer = client.get(f"{TASKS}{task.pk}/clone/")
    assert answer.status_code == 200
    page = answer.content.decode()
    given = dict(re.findall(r'<input[^>]* name="(\w+)"[^>]*? value="([^"]*)"', page))
    given["payload"] = re.search(r"<textarea[^>]*>\n?(.*?)</textarea>", page, re.DOTALL)[1]  # type: ignore[index]
    given.pop("csrfmiddlewaretoken", None)
    return {name: html.unescape(value) for name, value in given.items()}


def send(client: Client, task: Task, **edits: str) -> Any:
    return client.post(f"{TASKS}{task.pk}/clone/", {**form_of(client, task), **edits}, follow=True)


def clone_of(answer: Any, task: Task) -> Task:
    made = Task.objects.exclude(pk=task.pk).get()
    assert answer.redirect_chain == [(page_of(made), 302)], answer.content.decode()
    return made


def errors_of(answer: Any) -> dict[str, list[str]]:
    assert answer.status_code == 200
    return {name: list(errors) for name, errors in answer.context["form"].errors.items()}


def test_a_clone_without_edits_is_the_same_task_anew(admin_client: Client, make_task: MakeTask) -> None:
    later = timezone.now().replace(microsecond=0) + timedelta(days=1)
    task = make_task(
        Status.FAILED, title="Invoice", queue="mail", priority=-7, payload={"a": [1, "ü\n"]}, tags=["x", "y"],
        owner="shop", max_attempts=9, timeout_seconds=None, run_at=later, attempt=9, unique_key="once",
    )  # fmt: skip

    made = clone_of(send(admin_client, task), task)

    same = (
        "title",
        "handler",
        "queue",
        "priority",
        "payload",
        "tags",
        "owner",
        "max_attempts",
        "timeout_seconds",
    )
    assert {name: getattr(made, name) for name in same} == {name: getattr(task, name) for name in same}
    assert (made.status, made.attempt, made.run_at, made.unique_key) == (Status.PENDING, 0, later, None)


def test_edits_are_taken(admin_client: Client, make_task: MakeTask) -> None:
    task = make_task(payload={"a": 1})
    edits = {
        "title": "Another", "handler": "demo.sleep", "payload": '{"seconds": 1}', "queue": "slow",
        "priority": "100", "run_at": "2031-01-02T03:04",
    }  # fmt: skip

    made = clone_of(send(admin_client, task, **edits), task)

    assert (made.title, made.handler, made.payload, made.queue, made.priority, made.run_at) == (
        "Another", "demo.sleep", {"seconds": 1}, "slow", 100, datetime(2031, 1, 2, 3, 4, tzinfo=UTC)
    )  # fmt: skip


def test_both_histories_tell_of_it(admin_client: Client, make_task: MakeTask) -> None:
    task = make_task()

    made = clone_of(send(admin_client, task), task)

    entries = LogEntry.objects.order_by("pk")
    assert [(entry.object_id, entry.get_change_message()) for entry in entries] == [
        (str(made.pk), f"Cloned by hand from {task.pk}."),
        (str(task.pk), f"Cloned by hand as {made.pk}."),
    ]
    assert entries[0].action_flag == ADDITION


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("handler", "no.such.handler", "No handler is called"),
        ("handler", "", "required"),
        ("handler", "tasks.handlers.echo", "No handler is called"),  # HTTP could not ask for it either
        ("payload", "{", "This is no JSON: "),
        ("payload", "[1]", "must be an object"),
        ("payload", '{"a": 1, "a": 2}', "an object has a member twice"),
        ("payload", '{"a": NaN}', "cannot be stored"),
        ("payload", '{"a": 1e999}', "cannot be stored"),
        ("payload", '{"a": "\\u0000"}', "contains NUL"),
        ("payload", '{"a": "\\ud800"}', "lone surrogate"),
        ("payload", '{"a": 99999999999999999999}', "64 bits"),
        ("payload", f'{{"a": {"[" * 70}{"]" * 70}}}', "nested deeper"),
        ("payload", f'{{"a": {"[" * 100_000}', "cannot be stored"),
        ("payload", json.dumps({"a": "x" * 300_000}), "larger than 262,144 bytes"),
        ("payload", "", "required"),
        ("queue", "a b", "must be 1 to 64 of"),
        ("queue", "", "required"),
        ("priority", "101", "must be from -100 to 100"),
        ("priority", "high", "whole number"),
        ("run_at", "tomorrow", "RFC 3339"),
        ("run_at", "9999-99-99T00:00", "is not a time that exists"),
        ("title", "x" * 1001, "at most 1000"),
        ("title", "a\0b", "Null characters"),
    ],
)
def test_what_the_api_refuses_is_told_at_its_field(
    admin_client: Client, make_task: MakeTask, field: str, value: str, words: str
) -> None:
    task = make_task(payload={"a": 1})

    answer = send(admin_client, task, **{field: value})

    errors = errors_of(answer)
    assert list(errors) == [field]
    assert words in errors[field][0]
    assert Task.objects.count() == 1


def test_all_that_is_wrong_is_told_at_once(admin_client: Client, make_task: MakeTask) -> None:
    edits = {
        "title": "x" * 1001, "handler": "no.such.handler", "payload": "{", "queue": "a b", "priority": "101",
        "run_at": "tomorrow",
    }  # fmt: skip

    errors = errors_of(send(admin_client, make_task(), **edits))

    assert set(errors) == set(edits)
    assert all(len(told) == 1 for told in errors.values())


def test_a_payload_that_is_too_large_does_not_wait_for_the_rest(
    admin_client: Client, make_task: MakeTask
) -> None:
    edits = {"payload": json.dumps({"a": "x" * 300_000}), "queue": "a b", "handler": ""}

    assert set(errors_of(send(admin_client, make_task(), **edits))) == set(edits)


def test_a_handler_that_is_mistyped_makes_no_secret_wrong(admin_client: Client, make_task: MakeTask) -> None:
    answer = send(admin_client, make_task(payload={"password": SECRET}), handler="no.such.handler")

    assert list(errors_of(answer)) == ["handler"]


def test_what_was_typed_is_still_there_beside_an_error(admin_client: Client, make_task: MakeTask) -> None:
    answer = send(admin_client, make_task(), payload='{"mine": <b>', queue="a b")

    page = answer.content.decode()
    assert "{&quot;mine&quot;: &lt;b&gt;" in page
    assert 'value="a b"' in page


# -- secrets


def test_secrets_are_neither_shown_nor_lost(admin_client: Client, make_task: MakeTask) -> None:
    payload = {"password": SECRET, "db": {"url": f"postgres://u:{SECRET}@db/x"}, "to": 1}
    task = make_task(payload=payload)
    form = form_of(admin_client, task)

    made = clone_of(send(admin_client, task, queue="other"), task)

    assert SECRET not in json.dumps(form)
    assert (made.payload, made.queue) == (payload, "other")
    assert SECRET not in admin_client.get(page_of(made)).content.decode()


@pytest.mark.parametrize(
    "edits",
    [
        {"payload": json.dumps({"password": MASK, "note": MASK})},  # moved to where it would be seen
        {"payload": json.dumps({"to": [MASK]})},
        {"handler": "demo.sleep"},  # another handler might tell it
        {"payload": json.dumps({"password": MASK, "url": "https://elsewhere"})},  # and so might its receiver
    ],
)
def test_a_secret_goes_nowhere_else(admin_client: Client, make_task: MakeTask, edits: dict[str, str]) -> None:
    task = make_task(payload={"password": SECRET})

    answer = send(admin_client, task, **edits)

    [error] = errors_of(answer)["payload"]
    assert "is masked" in error
    assert "write its value anew" in error
    assert SECRET not in answer.content.decode()
    assert Task.objects.count() == 1


# -- what only Django code makes


def test_a_handler_without_a_public_name_can_be_cloned_with_its_arguments(
    admin_client: Client, make_task: MakeTask
) -> None:
    task = make_task(handler="tasks.handlers.echo", args=[1, {"token": SECRET}], payload={"b": 2})

    made = clone_of(send(admin_client, task, queue="other"), task)

    assert (made.handler, made.args, made.payload) == ("tasks.handlers.echo", task.args, {"b": 2})
    assert (made.queue, made.title) == ("other", "")


@pytest.mark.parametrize(("args", "made"), [([{"token": SECRET}], 0), ([{"a": 1}], 1)])
def test_with_masked_arguments_the_payload_stays(
    admin_client: Client, make_task: MakeTask, args: list[Any], made: int
) -> None:
    task = make_task(handler="tasks.handlers.echo", args=args, payload={"url": "https://shop.example"})

    answer = send(admin_client, task, payload='{"url": "https://elsewhere"}')

    assert Task.objects.exclude(pk=task.pk).count() == made
    if not made:
        assert "arguments that are masked" in errors_of(answer)["payload"][0]


def test_a_handler_that_is_gone_cannot(admin_client: Client, make_task: MakeTask) -> None:
    task = make_task(handler="shop.gone")

    assert "No handler is called" in errors_of(send(admin_client, task))["handler"][0]


# -- who


@pytest.mark.parametrize(
    "permissions",
    [(), ("add_task", "view_payload"), ("view_task", "add_task"), ("view_task", "view_payload"),
     ("view_task", "view_payload", "change_task", "retry_task")],
)  # fmt: skip
def test_to_clone_is_to_see_to_look_inside_and_to_make(
    staff_client: StaffClient, make_task: MakeTask, permissions: tuple[str, ...]
) -> None:
    task = make_task(payload={"a": "hunter-payload"})
    somebody = staff_client(*permissions)
    url = f"{TASKS}{task.pk}/clone/"
    given = {"handler": "demo.echo", "payload": "{}", "queue": "default", "priority": "0"}

    looked, sent = somebody.get(url), somebody.post(url, given)

    assert (looked.status_code, sent.status_code) == (403, 403)
    assert b"hunter" not in looked.content + sent.content
    assert Task.objects.count() == 1


def test_who_may_can(staff_client: StaffClient, make_task: MakeTask) -> None:
    task = make_task()

    clone_of(send(staff_client("view_task", "view_payload", "add_task"), task), task)


def test_strangers_are_asked_to_log_in(make_task: MakeTask) -> None:
    answer = Client().get(f"{TASKS}{make_task().pk}/clone/")

    assert answer.status_code == 302
    assert answer["Location"].startswith("/admin/login/")


def test_a_task_that_is_gone_has_no_clone(admin_client: Client) -> None:
    assert admin_client.get(f"{TASKS}{uuid4()}/clone/").status_code == 404
