"""Which scope opens which endpoint, for every URL there is: one without a rule fails here (API5:2023)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings
from django.http import HttpResponse
from django.test import override_settings
from django.urls import URLPattern, URLResolver, get_resolver, path
from rest_framework.request import Request

from tasks import tokens
from tasks.api.views import ApiView
from tasks.grants import Scope
from tasks.models import Task, Token
from tasks.tests.api_client import Api
from tasks.tests.holders import BODY, Holder

pytestmark = pytest.mark.django_db

ID = "01a20bcf-958e-766c-8076-373a84ef31ff"
RULES: dict[tuple[str, str], Scope] = {
    ("GET", "tasks"): Scope.READ,
    ("POST", "tasks"): Scope.CREATE,
    ("POST", "tasks/batch"): Scope.CREATE,
    ("GET", "task"): Scope.READ,
    ("GET", "tasks/<str:task_id>"): Scope.READ,
    ("PATCH", "tasks/<str:task_id>"): Scope.MANAGE,
    ("DELETE", "tasks/<str:task_id>"): Scope.MANAGE,
    ("POST", "tasks/<str:task_id>/cancel"): Scope.MANAGE,
    ("POST", "tasks/<str:task_id>/retry"): Scope.MANAGE,
    ("POST", "tasks/<str:task_id>/run-now"): Scope.MANAGE,
    ("GET", "tasks/<str:task_id>/attempts"): Scope.READ,
    ("GET", "tasks/<str:task_id>/events"): Scope.READ,
    ("GET", "queues"): Scope.READ,
    ("GET", "queues/<str:name>"): Scope.READ,
    ("POST", "queues/<str:name>/pause"): Scope.QUEUES,
    ("POST", "queues/<str:name>/resume"): Scope.QUEUES,
    ("POST", "queues/<str:name>/purge"): Scope.QUEUES,
    ("GET", "workers"): Scope.READ,
    ("POST", "workers/<str:worker_id>/drain"): Scope.QUEUES,
    ("GET", "metrics"): Scope.METRICS,
    ("GET", "tokens"): Scope.ADMIN,
    ("POST", "tokens"): Scope.ADMIN,
    ("GET", "tokens/<str:token_id>"): Scope.ADMIN,
    ("DELETE", "tokens/<str:token_id>"): Scope.ADMIN,
}
# load balancers have no token, and what one may ask is no secret
FOR_EVERYBODY = {("GET", path) for path in ("healthz", "readyz", "openapi.json", "docs")}
FOR_PEOPLE = ("admin", "admin/")  # by session
BODIES = {
    "tasks": BODY,
    "tasks/batch": b'{"tasks": [%s]}' % BODY,
    "tokens": b'{"name": "new"}',
    "queues/<str:name>/purge": b'{"confirm": "%s"}' % ID.encode(),
    "tasks/<str:task_id>": b'{"priority": 1}',
}


def endpoints() -> list[tuple[str, str]]:
    """Each method of each URL; HEAD goes where GET goes."""
    found = []
    for route, view in _views(get_resolver().url_patterns, ""):
        if route.startswith(FOR_PEOPLE):
            continue
        kind: Any = getattr(view, "view_class", getattr(view, "cls", None))
        assert kind is not None, f"{route} is no class, so nobody knows its methods"
        found += [
            (name.upper(), route)
            for name in kind.http_method_names
            if hasattr(kind, name) and name not in ("head", "options")
        ]
    return found


def _views(patterns: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for pattern in patterns:
        route = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from _views(pattern.url_patterns, route)
        else:
            assert isinstance(pattern, URLPattern)
            yield route, pattern.callback


ENDPOINTS = endpoints()
GUARDED = sorted(set(ENDPOINTS) - FOR_EVERYBODY)
guarded = pytest.mark.parametrize(("method", "route"), GUARDED, ids=[" ".join(each) for each in GUARDED])


def ask(holder: Holder | None, method: str, route: str) -> Any:
    where = "/" + re.sub(r"<[^>]+>", ID, route) + ("?id=" + ID if route == "task" else "")
    body = BODIES.get(route, b"") if method in ("POST", "PATCH") else b""
    return holder.ask(method, where, body) if holder else Api().ask(method, where, body)


@pytest.fixture(autouse=True)
def required(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(tokens, "_tried", {})
    with override_settings(TASKSERVICE={**settings.TASKSERVICE, "authentication": "required"}):
        yield


def test_every_endpoint_has_a_rule_and_every_rule_an_endpoint() -> None:
    assert len(ENDPOINTS) == len(set(ENDPOINTS))
    assert set(ENDPOINTS) == RULES.keys() | FOR_EVERYBODY


@guarded
def test_nobody_comes_in_without_a_token(method: str, route: str) -> None:
    assert ask(None, method, route).problem(401, "unauthenticated")
    assert Task.objects.count() == Token.objects.count() == 0


@guarded
@pytest.mark.parametrize("scope", Scope)
def test_a_scope_opens_what_the_rules_say_and_nothing_else(method: str, route: str, scope: Scope) -> None:
    holder = Holder("holder", [scope])

    answer = ask(holder, method, route)

    if scope in (RULES[method, route], Scope.ADMIN):
        assert answer.status in (200, 201, 204, 404), answer.body
    else:
        assert RULES[method, route] in answer.problem(403, "forbidden")["detail"]
        assert (Task.objects.count(), Token.objects.count()) == (0, 1)


@pytest.mark.parametrize(("method", "route"), [each for each in GUARDED if each[0] == "GET"])
def test_a_head_needs_what_its_get_needs(method: str, route: str) -> None:
    wrong = [scope for scope in Scope if scope not in (RULES[method, route], Scope.ADMIN)]

    assert ask(None, "HEAD", route).status == 401
    assert ask(Holder("holder", wrong), "HEAD", route).status == 403


@guarded
def test_what_no_method_is_tells_nobody_more_than_the_methods(method: str, route: str) -> None:
    for other in ("PUT", "TRACE", "CONNECT", "PROPFIND", "OPTIONS"):
        answer = ask(None, other, route)
        assert answer.status == (204 if other == "OPTIONS" else 405)
        assert method in answer.headers["Allow"]


@guarded
@pytest.mark.parametrize("header", ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"])
def test_no_header_turns_a_request_into_another_method(method: str, route: str, header: str) -> None:
    holder = Holder("holder", [Scope.READ])
    where = "/" + re.sub(r"<[^>]+>", ID, route)

    plain = holder.ask("GET", where)
    overridden = holder.ask("GET", f"{where}", b"_method=DELETE", **{header: "DELETE"})

    assert (overridden.status, overridden.body) == (plain.status, plain.body)


class Unruled(ApiView):
    """As somebody would write it who did not think of scopes."""

    http_method_names = (*ApiView.http_method_names, "put")  # type: ignore[assignment]  # one more

    def put(self, request: Request) -> HttpResponse:
        return HttpResponse(status=204)


urlpatterns = [path("unruled", Unruled.as_view())]


@pytest.mark.urls(__name__)
def test_a_method_without_a_rule_is_for_admins_alone() -> None:
    others = Holder("holder", [scope for scope in Scope if scope is not Scope.ADMIN])

    assert Api().ask("PUT", "/unruled").status == 401
    assert others.ask("PUT", "/unruled").status == 403
    assert Holder.almighty().ask("PUT", "/unruled").status == 204


# -- what there is, and what not (API8, API9:2023)


@pytest.mark.parametrize(
    "where",
    ["/api", "/v1/tasks", "/api/v1/tasks", "/docs/", "/swagger", "/graphql", "/__debug__/", "/debug", "/.env",
     "/.git/config", "/manage.py", "/static/../taskservice/settings.py", "/static/%2e%2e/manage.py",
     "/api-auth/login/", "/metrics/../admin/", "/server-status", "/tasks.db", "/static/"],
)  # fmt: skip
def test_nothing_is_served_that_nobody_lists(where: str) -> None:
    Holder.almighty().ask("GET", where).problem(404, "not-found")


@pytest.mark.parametrize(
    "accept", ["text/html", "application/xml", "*/*", "text/html;q=1, */*;q=0.1", "nonsense"]
)
def test_there_is_no_browsable_api(accept: str) -> None:
    answer = Holder.almighty().ask("GET", "/tasks", Accept=accept)

    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
