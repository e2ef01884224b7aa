"""Forms and questions of the admin: all in one frame, each saying what is wrong beside its field."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

import pytest
from django.test import Client
from django.utils import timezone

from tasks import tokens
from tasks.grants import Scope
from tasks.states import Status
from tasks.tests.rows import MakeTask, make_worker
from tasks.tests.staff import QUEUES, TASKS, WORKERS, said

pytestmark = pytest.mark.django_db

TOKENS = "/admin/tasks/token/"
FORMS = {f"{QUEUES}add/": ("Queues", "Pause a queue"), f"{TOKENS}add/": ("Tokens", "Make a token")}


def trail_of(page: str) -> list[str]:
    """What the breadcrumbs say."""
    crumbs = page[page.index('<ol class="breadcrumbs">') :]
    found = re.findall(r"<li[^>]*>(?:<a [^>]*>)?([^<]*)", crumbs[: crumbs.index("</ol>")])
    return [crumb.strip() for crumb in found]


def token() -> str:
    return str(tokens.issue("shop", scopes=[Scope.READ], now=timezone.now())[0].pk)


@pytest.mark.parametrize("url", FORMS)
def test_forms_stand_in_one_frame(admin_client: Client, url: str) -> None:
    page = admin_client.get(url).content.decode()

    assert trail_of(page) == ["Home", *FORMS[url]]
    assert 'class="fill-in"' in page
    assert "form-row" not in page  # of Django's own form
    assert "jsi18n" not in page


def test_a_clone_stands_in_the_same_frame(admin_client: Client, make_task: MakeTask) -> None:
    page = admin_client.get(f"{TASKS}{make_task(title='Invoice').pk}/clone/").content.decode()

    assert trail_of(page) == ["Home", "Tasks", "Invoice", "Clone"]
    assert 'class="fill-in"' in page


@pytest.mark.parametrize(
    ("url", "given", "wrong"),
    [(f"{QUEUES}add/", {"name": "no name!"}, ["name"]),
     (f"{TOKENS}add/", {"queues": "a b", "expires_at": "soon"}, ["name", "expires_at", "scopes", "queues"])],
)  # fmt: skip
def test_what_is_wrong_is_said_beside_each_field(
    admin_client: Client, url: str, given: dict[str, Any], wrong: list[str]
) -> None:
    page = admin_client.post(url, given).content.decode()

    assert re.findall(r'class="field of-(\w+) wrong"', page) == wrong
    assert page.count('class="errorlist"') == len(wrong)


@pytest.mark.parametrize("kind", ["purge", "drain", "withdraw", "delete"])
def test_questions_stand_in_one_frame(admin_client: Client, make_task: MakeTask, kind: str) -> None:
    task, worker = make_task(Status.FAILED, queue="mail"), make_worker()
    chosen = {"action": "remove", "_selected_action": [task.pk]}
    ways = {
        "purge": lambda: admin_client.get(f"{QUEUES}mail/purge/"),
        "drain": lambda: admin_client.get(f"{WORKERS}{quote(str(worker.pk))}/drain/"),
        "withdraw": lambda: admin_client.get(f"{TOKENS}{token()}/delete/"),
        "delete": lambda: admin_client.post(TASKS, chosen),
    }

    page = ways[kind]().content.decode()

    assert 'class="page confirm card"' in page
    assert len(trail_of(page)) == 3


def test_a_token_is_withdrawn_in_our_words(admin_client: Client) -> None:
    url = f"{TOKENS}{token()}/delete/"

    assert "Withdraw the token <b>shop</b>" in admin_client.get(url).content.decode()
    assert said(admin_client.post(url, {"post": "yes"}, follow=True)) == ["Token shop is withdrawn."]
