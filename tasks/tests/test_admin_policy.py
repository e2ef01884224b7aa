"""What protects the admin's pages, on each of them: policy, frames, cookies, CSRF and permissions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.test import Client, override_settings
from django.urls import reverse
from django.utils import timezone

from tasks import tokens
from tasks.grants import Scope
from tasks.models import Queue, Task, Token
from tasks.states import Status
from tasks.tests.rows import MakeTask
from tasks.tests.staff import QUEUES, TASKS, StaffClient, page_of, staff_client

__all__ = ["staff_client"]

pytestmark = pytest.mark.django_db


def pages() -> Iterator[str]:
    """Every list and form there is, by what is registered."""
    yield from (reverse(f"admin:{name}") for name in ("index", "login", "password_change"))
    for model in admin.site._registry:
        name = f"{model._meta.app_label}_{model._meta.model_name}"
        yield from (reverse(f"admin:{name}_{kind}") for kind in ("changelist", "add"))


PAGES = [*pages(), "/admin/nope/", "/admin/tasks/", "/admin/jsi18n/", f"{TASKS}?q=%3Cscript%3E"]


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("who", ["admin", "nobody"])
def test_no_page_allows_foreign_scripts_or_frames(admin_client: Client, page: str, who: str) -> None:
    answer = (admin_client if who == "admin" else Client()).get(page)

    policy = answer.headers["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "same-origin"


@pytest.mark.parametrize("https", [True, False])
def test_cookies_are_for_this_site_and_behind_https_for_https_alone(https: bool) -> None:
    User.objects.create_superuser("ada", password="right")
    client = Client()
    with override_settings(SESSION_COOKIE_SECURE=https, CSRF_COOKIE_SECURE=https):
        client.get("/admin/login/")
        client.post("/admin/login/", {"username": "ada", "password": "right"})

    session, csrf = client.cookies["sessionid"], client.cookies["csrftoken"]
    assert session["httponly"]
    for cookie in (session, csrf):
        assert cookie["samesite"] == "Lax"
        assert bool(cookie["secure"]) == https


@override_settings(HTTPS=True, SECURE_SSL_REDIRECT=True, SECURE_HSTS_SECONDS=60,
                   SECURE_PROXY_SSL_HEADER=("HTTP_X_FORWARDED_PROTO", "https"))  # fmt: skip
def test_behind_https_people_are_led_there_and_programs_are_not() -> None:
    plain, proxied = Client(), Client(headers={"X-Forwarded-Proto": "https"})

    for where in ("/admin", "/admin/", "/admin/login/"):
        answer = plain.get(where)
        assert (answer.status_code, answer.headers["Location"]) == (301, f"https://testserver{where}")
    assert plain.get("/healthz").status_code == 200
    assert plain.post("/tasks", b"{}", content_type="application/json").status_code in (400, 401)
    answer = proxied.get("/admin/login/")
    assert answer.status_code == 200
    assert answer.headers["Strict-Transport-Security"] == "max-age=60"


def test_a_login_gets_a_session_of_its_own_and_leads_nowhere_else() -> None:
    User.objects.create_superuser("ada", password="right")
    client = Client()
    client.cookies["sessionid"] = "chosen-by-somebody-else"

    answer = client.post(
        "/admin/login/?next=https://evil.example",
        {"username": "ada", "password": "right", "next": "//evil.example"},
    )

    assert answer.headers["Location"] == "/admin/"
    assert client.cookies["sessionid"].value != "chosen-by-somebody-else"


def levers(task: Task, token: Token) -> list[tuple[str, dict[str, Any]]]:
    chosen = {"_selected_action": str(task.pk)}
    return [
        (TASKS, {"action": ["", "retry", "cancel"], "index": 2, **chosen}),
        (page_of(task), {"CHANGE_FORM-action": "cancel", **chosen}),
        (QUEUES, {"action": ["", "pause", "resume"], "index": 1, "_selected_action": "mail"}),
        (f"{QUEUES}mail/change/", {"CHANGE_FORM-action": "pause", "_selected_action": "mail"}),
        (f"{QUEUES}add/", {"name": "mail", "_save": "1"}),
        ("/admin/tasks/token/add/", {"name": "new", "scopes": ["admin"], "_save": "1"}),
        (f"/admin/tasks/token/{token.pk}/delete/", {"post": "yes"}),
        ("/admin/auth/user/add/", {"username": "eve", "password1": "x", "password2": "x"}),
    ]


def nothing_has_moved(task: Task) -> bool:
    task.refresh_from_db()
    return (
        task.status == Status.PENDING
        and not Queue.objects.filter(paused_at__isnull=False).exists()
        and Token.objects.count() == 1
        and not User.objects.filter(username="eve").exists()
    )


def test_no_lever_moves_without_the_pages_own_token(admin_user: User, make_task: MakeTask) -> None:
    task, token = make_task(), tokens.issue("shop", scopes=[Scope.READ], now=timezone.now())[0]
    Queue.objects.create(name="mail")
    forger = Client(enforce_csrf_checks=True)
    forger.force_login(admin_user)

    for where, form in levers(task, token):
        assert forger.post(where, form).status_code == 403, where
    assert nothing_has_moved(task)


def test_staff_without_permissions_sees_and_moves_nothing(
    staff_client: StaffClient, make_task: MakeTask
) -> None:
    task, token = make_task(title="secret"), tokens.issue("shop", scopes=[Scope.READ], now=timezone.now())[0]
    Queue.objects.create(name="mail")
    nobody = staff_client()

    for where, form in levers(task, token):
        assert nobody.post(where, form).status_code == 403, where
        assert b"secret" not in nobody.get(where).content
    for page in PAGES:
        assert nobody.get(page).status_code in (200, 302, 403, 404), page
    assert nothing_has_moved(task)
