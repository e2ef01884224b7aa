"""The OpenAPI document says what the service does: nothing more, nothing less."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Iterator
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.test import override_settings
from django.urls import URLPattern
from django.utils import timezone
from jsonschema import Draft202012Validator, FormatChecker
from openapi_spec_validator import OpenAPIV31SpecValidator

from tasks import lifecycle, specs
from tasks.api import queue_views, token_views, urls
from tasks.api.openapi.checks import NOT_BLANK
from tasks.api.openapi.document import OPERATIONS, SCOPES, document
from tasks.api.openapi.parameters import FILTERS
from tasks.api.openapi.problems import EVERYWHERE, TOLD
from tasks.api.problems import KINDS
from tasks.filtering import TASK_FILTERS
from tasks.grants import Scope
from tasks.models import Attempt, Task, Token
from tasks.ops import urls as probes
from tasks.pending import Situation
from tasks.resource import attempt_resource, resource
from tasks.states import Status
from tasks.tests.api_client import Api
from tasks.tests.rows import MakeTask, make_worker

ROOT = Path(settings.BASE_DIR)
IMPLIED = {"head", "options"}  # of every path
PATTERNS = [*urls.urlpatterns, *probes.urlpatterns]


@pytest.fixture(scope="module")
def written() -> dict[str, Any]:
    """As a client reads it."""
    read: dict[str, Any] = json.loads(json.dumps(document()))
    return read


def endpoints(patterns: list[URLPattern]) -> Iterator[tuple[str, str, Any]]:
    for one in patterns:
        path = "/" + re.sub(r"<\w+:(\w+)>", r"{\1}", str(one.pattern))
        view = getattr(one.callback, "view_class")  # noqa: B009 - of a view that as_view made
        for method in view.http_method_names:
            if hasattr(view, method) and method not in IMPLIED:
                yield method, path, view


ENDPOINTS = {(method, path): view for method, path, view in endpoints(PATTERNS)}


def members_of(written: dict[str, Any], name: str) -> list[str]:
    return list(written["components"]["schemas"][name]["properties"])


def validator(written: dict[str, Any], name: str) -> Draft202012Validator:
    schema = {"$ref": f"#/components/schemas/{name}", "components": written["components"]}
    return Draft202012Validator(schema, format_checker=FormatChecker())


def test_it_is_openapi(written: dict[str, Any]) -> None:
    OpenAPIV31SpecValidator(written).validate()


def test_it_has_every_endpoint_and_no_other(written: dict[str, Any]) -> None:
    told = {(method, path) for path, item in written["paths"].items() for method in item}

    assert told == set(ENDPOINTS)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda one: one.id)
def test_each_operation_names_the_scope_that_its_view_asks_for(operation: Any) -> None:
    view = ENDPOINTS[operation.method, operation.path]

    assert getattr(view, "scopes", {}).get(operation.method.upper()) == operation.scope


def test_every_scope_is_explained() -> None:
    assert set(SCOPES) == set(Scope)


@pytest.mark.parametrize(
    ("name", "checks"),
    [
        ("NewTask", specs.MEMBERS),
        ("Changes", specs.CHANGES),
        ("Cancel", specs.CANCEL),
        ("Retry", specs.RETRY),
        ("NewToken", token_views.MEMBERS),
        ("Pause", queue_views.PAUSE),
        ("Purge", queue_views.PURGE),
    ],
    ids=["a new task", "changes of a task", "a cancel", "a retry", "a new token", "a pause", "a purge"],
)
def test_a_request_has_the_members_that_are_checked(
    written: dict[str, Any], name: str, checks: dict[str, Any]
) -> None:
    assert members_of(written, name) == list(checks)


def test_answers_have_the_members_that_are_written(written: dict[str, Any]) -> None:
    task = Task(created_at=timezone.now(), status=Status.COMPLETED)

    assert members_of(written, "Task") == [*resource(task, Situation()), "deduplicated"]
    assert members_of(written, "Attempt") == list(attempt_resource(Attempt(task=task)))
    assert members_of(written, "Token") == list(token_views.token_resource(Token()))


@pytest.mark.django_db
def test_queues_and_workers_are_as_they_are_told(written: dict[str, Any], make_task: MakeTask) -> None:
    worker = make_worker()
    make_task(queue="mail")
    make_task(Status.PROCESSING, queue="mail", worker_id=worker.pk)
    lifecycle.pause(["mail"], by="ann", reason="why")

    for path, page, item in (("/queues", "QueuePage", "Queue"), ("/workers", "WorkerPage", "Worker")):
        answer = Api().get(path).json()
        assert not [error.message for error in validator(written, page).iter_errors(answer)]
        assert members_of(written, item) == list(answer["items"][0])


def test_blank_is_in_the_document_what_it_is_for_the_service() -> None:
    characters = [chr(code) for code in range(sys.maxunicode + 1)]

    assert [one for one in characters if bool(re.search(NOT_BLANK, one)) != bool(one.strip())] == []


def test_the_filters_of_the_list_are_those_of_the_document(written: dict[str, Any]) -> None:
    assert set(FILTERS) == set(TASK_FILTERS)


def test_every_problem_is_documented_with_an_example(written: dict[str, Any]) -> None:
    assert set(TOLD) == set(KINDS)
    used = {slug for one in OPERATIONS for slugs in one.problems_by_status().values() for slug in slugs}
    assert used == set(KINDS)
    assert set(EVERYWHERE) <= used


def contents(written: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every content of a request or an answer in JSON, with the name of where it is."""
    for path, item in written["paths"].items():
        for method, operation in item.items():
            parts = {"body": operation.get("requestBody", {}), **operation["responses"]}
            for where, part in parts.items():
                for kind, content in found(written, part).get("content", {}).items():
                    if "json" in kind:
                        yield f"{method} {path} {where}", content


def found(written: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    steps = part.get("$ref", "#/").removeprefix("#/").split("/")
    return part if "$ref" not in part else reduce(lambda value, step: value[step], steps, written)


def test_every_example_is_valid(written: dict[str, Any]) -> None:
    seen = 0
    for where, content in contents(written):
        check = validator(written, content["schema"]["$ref"].rpartition("/")[2])
        examples = [one["value"] for one in content.get("examples", {}).values()]
        for example in [*examples, *([content["example"]] if "example" in content else [])]:
            assert not [error.message for error in check.iter_errors(example)], where
            seen += 1
    for name, schema in written["components"]["schemas"].items():
        for example in schema.get("examples", []):
            assert validator(written, name).is_valid(example), name
            seen += 1
    assert seen > 50


def test_each_operation_has_an_example_of_its_success(written: dict[str, Any]) -> None:
    for where, content in contents(written):
        assert content.get("examples") or content.get("example"), where


CURL = re.compile(r"```sh\n(curl .*?)\n```", re.DOTALL)
KNOWN_BY = {"detail": "Problem", "depth": "Queue", "payload": "Task"}
JSON = re.compile(r"```json\n(\{.*?\})\n```", re.DOTALL)


def test_what_the_pages_send_by_curl_is_valid(written: dict[str, Any]) -> None:
    pages = [(ROOT / name).read_text() for name in ("docs/api.md", "README.md")]
    calls = [shlex.split(call) for page in pages for call in CURL.findall(page)]
    sent = [json.loads(words[words.index("-d") + 1]) for words in calls if "-d" in words]

    assert len(sent) >= 2
    for body in sent:
        assert not [error.message for error in validator(written, "NewTask").iter_errors(body)], body


def test_the_task_the_queue_and_the_problem_of_the_page_are_valid(written: dict[str, Any]) -> None:
    shown = [json.loads(text) for text in JSON.findall((ROOT / "docs/api.md").read_text()) if "…" not in text]

    names = [next(name for key, name in KNOWN_BY.items() if key in value) for value in shown]

    assert set(names) == set(KNOWN_BY.values())
    for name, value in zip(names, shown, strict=True):
        assert not [error.message for error in validator(written, name).iter_errors(value)]


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/openapi.json", "/docs"])
def test_it_is_kept_by_its_etag(path: str) -> None:
    first = Api().get(path)

    again = Api().ask("GET", path, b"", **{"If-None-Match": first.headers["ETag"]})

    assert (first.status, again.status, again.body) == (200, 304, b"")
    assert first.headers["Cache-Control"] == "public, max-age=300"


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/openapi.json", "/docs"])
def test_it_is_for_everybody(path: str) -> None:
    with override_settings(TASKSERVICE={**settings.TASKSERVICE, "authentication": "required"}):
        assert Api().get("/tasks").status == 401
        assert Api().get(path).status == 200


@pytest.mark.django_db
def test_the_page_needs_no_script_and_nothing_from_elsewhere() -> None:
    page = Api().get("/docs")

    text = page.body.decode()
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "default-src 'self'" in page.headers["Content-Security-Policy"]
    assert not re.search(r"<script|<style|\sstyle=|\son\w+=|(?:src|href)=\"(?:https?:)?//", text)


@pytest.mark.django_db
def test_the_page_shows_every_operation() -> None:
    text = Api().get("/docs").body.decode()

    assert not [one.id for one in OPERATIONS if f'id="{one.id}"' not in text]
    assert not [slug for slug in KINDS if f"/problems/{slug}" not in text]
