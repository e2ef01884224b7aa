"""Tokens in the admin: made, shown once, withdrawn, and never changed."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.utils import timezone

from tasks import tokens
from tasks.errors import Unauthenticated
from tasks.grants import Grant, Scope
from tasks.models import Token
from tasks.tests.staff import StaffClient, staff_client

__all__ = ["staff_client"]

pytestmark = pytest.mark.django_db

TOKENS = "/admin/tasks/token/"
FORM = {
    "name": "shop", "owner": "", "scopes": ["tasks:create", "tasks:read"], "queues": "mail, reports",
    "expires_at": "",
}  # fmt: skip


def make(name: str = "shop") -> tuple[Token, str]:
    return tokens.issue(name, scopes=[Scope.READ], now=timezone.now())


def test_a_token_is_made_and_its_secret_is_shown_once(staff_client: StaffClient) -> None:
    client = staff_client("add_token", "view_token")

    page = client.post(f"{TOKENS}add/", FORM).content.decode()

    [secret] = re.findall(r"tsk_[0-9a-f]{10}_[\w-]{43}", page)
    grant = tokens.grant_of(secret, now=timezone.now())
    assert grant == Grant(
        owner="shop", scopes=frozenset({Scope.CREATE, Scope.READ}), queues=("mail", "reports")
    )
    for where in (TOKENS, f"{TOKENS}{Token.objects.get().pk}/change/"):
        assert secret[20:] not in client.get(where).content.decode()
    assert LogEntry.objects.count() == 1
    assert secret[20:] not in str(LogEntry.objects.values())


@pytest.mark.parametrize(
    ("member", "value", "says"),
    [
        ("name", "", "required"),
        ("scopes", [], "required"),
        ("scopes", ["root"], "not one of the available choices"),
        ("queues", "no queue", "must be 1 to 64"),
        ("expires_at", "tomorrow", "valid date/time"),
    ],
)
def test_what_is_wrong_is_said_and_no_token_is_made(
    staff_client: StaffClient, member: str, value: Any, says: str
) -> None:
    page = staff_client("add_token").post(f"{TOKENS}add/", {**FORM, member: value}).content.decode()

    assert says in page
    assert not Token.objects.exists()


def test_a_time_that_has_passed_is_refused(staff_client: StaffClient) -> None:
    past = {"expires_at": "2001-01-01T00:00"}

    page = staff_client("add_token").post(f"{TOKENS}add/", {**FORM, **past}).content.decode()

    assert "This time has passed." in page


def test_a_name_is_taken_once(staff_client: StaffClient) -> None:
    make("shop")

    page = staff_client("add_token").post(f"{TOKENS}add/", FORM).content.decode()

    assert "already exists" in page
    assert Token.objects.count() == 1


def test_the_list_and_the_page_show_what_a_token_may_do(staff_client: StaffClient) -> None:
    client, (token, secret) = staff_client("view_token"), make()

    for where in (TOKENS, f"{TOKENS}{token.pk}/change/"):
        page = client.get(where).content.decode()
        assert f"tsk_{token.prefix}" in page
        assert "tasks:read" in page
        assert token.digest not in page
        assert secret not in page
    assert "Withdraw" not in page


def test_a_token_is_withdrawn(staff_client: StaffClient) -> None:
    client, (token, secret) = staff_client("view_token", "delete_token"), make()
    assert "Withdraw" in client.get(f"{TOKENS}{token.pk}/change/").content.decode()

    client.post(f"{TOKENS}{token.pk}/delete/", {"post": "yes"})

    with pytest.raises(Unauthenticated):
        tokens.grant_of(secret, now=timezone.now())


def test_nobody_changes_one(staff_client: StaffClient) -> None:
    client, (token, _) = staff_client("view_token", "change_token", "add_token", "delete_token"), make()

    answer = client.post(f"{TOKENS}{token.pk}/change/", {**FORM, "scopes": ["admin"]})

    assert answer.status_code == 403
    assert Token.objects.get().scopes == ["tasks:read"]


@pytest.mark.parametrize("way", ["add/", "{}/delete/", "{}/change/", ""])
def test_who_has_no_permission_sees_and_does_nothing(staff_client: StaffClient, way: str) -> None:
    token, _ = make()

    assert staff_client().get(f"{TOKENS}{way.format(token.pk)}").status_code in (302, 403)


def test_a_token_that_has_expired_is_shown_as_such(staff_client: StaffClient) -> None:
    now = timezone.now()
    tokens.issue("old", scopes=[Scope.READ], now=now, expires_at=now - timedelta(days=1))

    assert "old" in staff_client("view_token").get(TOKENS).content.decode()
