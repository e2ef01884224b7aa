"""Errors: each a problem+json, none leaks, and the database's are never called ours or the client's."""

from __future__ import annotations

from typing import Any

import pytest
from django.http import HttpResponse
from django.test import Client, override_settings
from django.urls import path

from tasks import errors
from tasks.api import problems
from tasks.api.views import ApiView
from tasks.errors import TaskServiceError
from tasks.models import Task
from tasks.tests.api_client import Api, api

__all__ = ["api"]

ID = "01a20bcf-958e-766c-8076-373a84ef31ff"
# -- paths and methods


@pytest.mark.parametrize(
    "where",
    [
        "/",
        "/nope",
        "/tasks/",
        "/task/",
        f"/tasks/{ID}/",
        f"/tasks/{ID}/nope",
        "//tasks",
        "/tasks.json",
        "/%00",
        "/%ff",
    ],
)
def test_an_unknown_path_is_a_problem(api: Api, where: str) -> None:
    for method in ("GET", "POST", "DELETE"):
        api.ask(method, where).problem(404, "not-found")


def test_who_types_the_address_alone_is_led_to_the_page_and_a_program_is_told_of_it(api: Api) -> None:
    browser = api.ask("GET", "/", Accept="text/html,application/xhtml+xml,*/*;q=0.8")
    program = api.ask("GET", "/", Accept="*/*")

    assert (browser.status, browser.headers["Location"]) == (302, "/docs")
    assert "/docs" in program.problem(404, "not-found")["detail"]


@pytest.mark.parametrize(
    ("where", "allowed"),
    [
        ("/tasks", "GET, POST, HEAD, OPTIONS"),
        ("/task", "GET, HEAD, OPTIONS"),
        ("/tasks/batch", "POST, OPTIONS"),
        (f"/tasks/{ID}", "GET, PATCH, DELETE, HEAD, OPTIONS"),
        (f"/tasks/{ID}/run-now", "POST, OPTIONS"),
        (f"/tasks/{ID}/attempts", "GET, HEAD, OPTIONS"),
        (f"/tasks/{ID}/cancel", "POST, OPTIONS"),
        (f"/tasks/{ID}/retry", "POST, OPTIONS"),
        ("/healthz", "GET, HEAD"),
        ("/readyz", "GET, HEAD"),
    ],
)
def test_a_method_that_is_not_there_is_told_which_are(api: Api, where: str, allowed: str) -> None:
    for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "TRACE", "BREW"} - set(allowed.split(", ")):
        answer = api.ask(method, where)

        answer.problem(405, "method-not-allowed")
        assert answer.headers["Allow"] == allowed


def test_options_says_what_is_allowed_and_nothing_else(api: Api) -> None:
    answer = api.ask("OPTIONS", "/tasks")

    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers["Allow"] == "GET, POST, HEAD, OPTIONS"
    assert "Content-Type" not in answer.headers


def test_head_is_a_get_without_its_body(api: Api) -> None:
    made = api.create()
    head, get = api.ask("HEAD", f"/tasks/{made['id']}"), api.get(f"/tasks/{made['id']}")

    assert (head.status, head.body) == (200, b"")
    assert head.headers["Content-Length"] == get.headers["Content-Length"] == str(len(get.body))


def test_answers_do_not_depend_on_the_format_asked_for(api: Api) -> None:
    made = api.create()

    assert api.get(f"/task?id={made['id']}&format=xml").json() == made


# -- hosts, and what Django refuses by itself


@override_settings(ALLOWED_HOSTS=["localhost"])
def test_a_host_that_is_not_served_is_a_bad_request(api: Api) -> None:
    for host in ("evil.example", "localhost.evil.example", "<script>", "local host"):
        problem = api.ask("GET", "/tasks", host=host).problem(400, "bad-request")
        assert host not in problem["detail"]


def test_too_many_parameters_are_a_bad_request(api: Api) -> None:
    api.get("/tasks?" + "&".join(f"a{number}=1" for number in range(2000))).problem(400, "bad-request")


def test_what_is_missing_in_the_admin_is_a_page(admin_client: Client) -> None:
    answer = admin_client.get("/admin/nope/")

    assert (answer.status_code, answer.headers["Content-Type"][:9]) == (404, "text/html")


@override_settings(DEBUG=True)
def test_debug_changes_no_answer_that_a_view_gives(api: Api) -> None:
    api.ask("POST", "/tasks", b"[").problem(400, "invalid-json")
    api.ask("PUT", "/tasks").problem(405, "method-not-allowed")
    api.get(f"/tasks/{ID}").problem(404, "not-found")
    assert api.post("/tasks", {"title": "a"}).status == 201


def test_a_session_of_the_admin_is_nobody_in_the_api(admin_client: Client) -> None:
    answer = admin_client.post("/tasks", b'{"title":"a"}', content_type="application/json")

    assert answer.status_code == 201
    assert Task.objects.get().owner == ""


# -- mistakes of ours


class Broken(ApiView):
    def get(self, request: Any) -> HttpResponse:
        raise RuntimeError("secret /path/to/somewhere")


def broken_page(request: Any) -> HttpResponse:
    raise ValueError("secret")


urlpatterns = [path("broken", Broken.as_view()), path("broken/page", broken_page)]
handler500 = "tasks.api.problems.server_error"


@pytest.mark.parametrize("where", ["/broken", "/broken/page"])
@pytest.mark.urls(__name__)
def test_a_mistake_of_ours_is_in_the_log_and_not_in_the_answer(
    api: Api, caplog: pytest.LogCaptureFixture, where: str
) -> None:
    answer = api.get(where)

    answer.problem(500, "internal-error")
    assert b"secret" not in answer.body
    assert any(record.exc_info and "secret" in str(record.exc_info[1]) for record in caplog.records)


def test_every_error_of_ours_has_a_status_or_is_never_raised_by_the_api() -> None:
    codes = {kind.code for kind in _subclasses(TaskServiceError)}

    assert codes - problems.KINDS.keys() == {"unstorable-result", "result-too-large"}


def _subclasses(kind: type[TaskServiceError]) -> set[type[TaskServiceError]]:
    direct = {each for each in kind.__subclasses__() if each.__module__ == errors.__name__}
    return direct.union(*map(_subclasses, direct))
