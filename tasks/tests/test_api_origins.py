"""A web page of another site must not make, cancel or retry tasks with its reader's reach."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.models import Task
from tasks.tests.api_client import Api, api

__all__ = ["api"]

pytestmark = pytest.mark.django_db

BODY = b'{"title": "a"}'
FOREIGN = [
    "https://evil.example",
    "http://testserver.evil.example",
    "http://testserver:81",
    "https://testserver",
    "null",
    "",
]


@pytest.mark.parametrize("origin", FOREIGN)
def test_a_page_of_another_site_makes_no_task(api: Api, origin: str) -> None:
    """As plain text, a browser sends it without asking first."""
    answer = api.ask("POST", "/tasks", BODY, content_type="text/plain", origin=origin)

    answer.problem(403, "forbidden")
    assert not Task.objects.exists()


@pytest.mark.parametrize("action", ["cancel", "retry"])
def test_a_page_of_another_site_steers_no_task(api: Api, action: str) -> None:
    task = api.create()

    answer = api.ask("POST", f"/tasks/{task['id']}/{action}", origin="https://evil.example")

    answer.problem(403, "forbidden")
    assert api.task(task["id"])["status"] == "pending"


def test_pages_of_this_host_may(api: Api) -> None:
    assert api.ask("POST", "/tasks", BODY, origin="http://testserver").status == 201


def test_pages_of_trusted_origins_may(api: Api, settings: Any) -> None:
    settings.CSRF_TRUSTED_ORIGINS = ["https://tasks.example.com", "https://*.example.org"]

    statuses = [
        api.ask("POST", "/tasks", BODY, origin=origin).status
        for origin in ("https://tasks.example.com", "https://a.example.org", "https://example.com")
    ]

    assert statuses == [201, 201, 403]


def test_programs_that_send_no_origin_may(api: Api) -> None:
    assert api.ask("POST", "/tasks", BODY).status == 201


def test_reading_is_for_browsers_to_guard(api: Api) -> None:
    """They show no answer to a page of another site, as we send no CORS header."""
    answer = api.ask("GET", "/tasks", origin="https://evil.example")

    assert answer.status == 200
    assert not any(name.lower().startswith("access-control") for name in answer.headers)
