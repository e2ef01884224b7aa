"""People who use the admin, with just the permissions a test gives them, and where its pages are."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any
from uuid import UUID

import pytest
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.auth.models import Permission, User
from django.test import Client

from tasks.models import Task

TASKS = "/admin/tasks/task/"
QUEUES = "/admin/tasks/queue/"
WORKERS = "/admin/tasks/worker/"
OPERATIONS = "/admin/tasks/operation/"

StaffClient = Callable[..., Client]


def page_of(task: Task) -> str:
    return f"{TASKS}{task.pk}/change/"


@pytest.fixture
def staff_client(db: None) -> StaffClient:
    """A client of somebody who may do nothing but what is named."""

    def log_in(*codenames: str) -> Client:
        user = User.objects.create_user(f"with-{'-'.join(codenames)}", is_staff=True)
        permissions = Permission.objects.filter(content_type__app_label="tasks", codename__in=codenames)
        assert permissions.count() == len(codenames)
        user.user_permissions.set(permissions)
        client = Client()
        client.force_login(user)
        return client

    return log_in


def pull(client: Client, url: str, lever: str, keys: Iterable[Any], **more: Any) -> list[str]:
    """Choose rows of a list, press the button of an action; returns what the next page says."""
    names = {TASKS: ("retry", "cancel", "remove"), QUEUES: ("pause", "resume")}[url.partition("?")[0]]
    chosen = {ACTION_CHECKBOX_NAME: [str(key) for key in keys]}
    answer = client.post(
        url, {"action": ["", *names], "index": 1 + names.index(lever), **chosen, **more}, follow=True
    )
    return said(answer)


def pull_on_page(client: Client, url: str, lever: str, key: Any) -> list[str]:
    """Press a button on the page of one row."""
    return said(client.post(url, {"CHANGE_FORM-action": lever, ACTION_CHECKBOX_NAME: str(key)}, follow=True))


def said(answer: Any) -> list[str]:
    assert answer.status_code == 200, answer
    return [str(message) for message in answer.context["messages"]]


def listed(answer: Any) -> list[UUID]:
    assert answer.status_code == 200, answer
    return [task.pk for task in answer.context["cl"].result_list]
