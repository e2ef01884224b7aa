"""What an operation looked for in payloads and errors: nobody learns it who may not see these."""

from __future__ import annotations

from html import unescape

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client

from tasks.models import Operation
from tasks.tests.staff import OPERATIONS, StaffClient, staff_client

__all__ = ["staff_client"]

SEARCH = 'title:invoice payload:hunter1 error:"hunter2 x" payload.user:hunter3 hunter4'
OUTLINE = "Run again: queue mail, title:invoice payload:… error:… payload:… …"


def begun(client: Client, search: str = SEARCH) -> Operation:
    given = {"verb": "retry", "created": "ever", "queue": "mail", "q": search}
    assert client.post(f"{OPERATIONS}add/", given).status_code == 302
    return Operation.objects.latest("pk")


def pages_of(client: Client, operation: Operation) -> list[str]:
    answers = [client.get(OPERATIONS), client.get(f"{OPERATIONS}{operation.pk}/change/")]
    assert [answer.status_code for answer in answers] == [200, 200]
    return [unescape(answer.content.decode()) for answer in answers]


def test_who_may_not_see_payloads_sees_that_they_were_searched_and_not_for_what(
    admin_client: Client, staff_client: StaffClient
) -> None:
    operation = begun(admin_client)

    for page in pages_of(staff_client("view_task", "retry_task"), operation):
        assert "hunter" not in page
        assert OUTLINE in page


def test_who_may_see_payloads_sees_all_of_it(admin_client: Client, staff_client: StaffClient) -> None:
    operation = begun(admin_client)

    for page in pages_of(staff_client("view_task", "view_payload"), operation):
        assert f"Run again: queue mail, {SEARCH}" in page


@pytest.mark.django_db
def test_words_of_who_may_not_look_inside_are_no_secret(staff_client: StaffClient) -> None:
    client = staff_client("view_task", "retry_task")
    operation = begun(client, "hunter4")

    for page in pages_of(client, operation):
        assert "Run again: queue mail, hunter4" in page


def test_no_history_has_it(admin_client: Client) -> None:
    operation = begun(admin_client)

    [entry] = LogEntry.objects.filter(object_id=operation.pk)

    assert entry.get_change_message() == f"Started: {OUTLINE}"
