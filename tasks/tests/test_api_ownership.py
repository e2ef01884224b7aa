"""What is others' does not exist, by whichever endpoint, filter, cursor, tag or key (API1, API3:2023)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from django.conf import settings
from django.db import connections
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from tasks import tokens
from tasks.grants import Scope
from tasks.models import Task
from tasks.models.task import database
from tasks.states import Status
from tasks.tests.api_client import Answer
from tasks.tests.holders import Holder
from tasks.tests.rows import MakeTask

pytestmark = pytest.mark.django_db

OF_ONE_TASK = {
    "read": ("GET", "/tasks/{id}", b""),
    "head": ("HEAD", "/tasks/{id}", b""),
    "by-query": ("GET", "/task?id={id}", b""),
    "wait": ("GET", "/tasks/{id}?until=change", b""),
    "attempts": ("GET", "/tasks/{id}/attempts", b""),
    "attempts-page": ("GET", "/tasks/{id}/attempts?limit=1", b""),
    "events": ("GET", "/tasks/{id}/events", b""),
    "change": ("PATCH", "/tasks/{id}", b'{"title": "mine now"}'),
    "delete": ("DELETE", "/tasks/{id}", b""),
    "cancel": ("POST", "/tasks/{id}/cancel", b""),
    "retry": ("POST", "/tasks/{id}/retry", b""),
    "run-now": ("POST", "/tasks/{id}/run-now", b""),
}


@pytest.fixture(autouse=True)
def required(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(tokens, "_tried", {})
    with override_settings(TASKSERVICE={**settings.TASKSERVICE, "authentication": "required"}):
        yield


def told(answer: Answer) -> tuple[Any, ...]:
    """All that an answer says."""
    changing = ("Date", "X-Request-Id")
    headers = {name: value for name, value in answer.headers.items() if name not in changing}
    return answer.status, headers, answer.body


@pytest.mark.parametrize(("method", "path", "body"), OF_ONE_TASK.values(), ids=OF_ONE_TASK)
@pytest.mark.parametrize("status", Status)
def test_a_task_of_others_is_answered_like_one_that_never_was(
    make_task: MakeTask, status: Status, method: str, path: str, body: bytes
) -> None:
    stranger, theirs = Holder("stranger"), make_task(owner="other", status=status, title="secret")

    found = stranger.ask(method, path.format(id=theirs.pk), body)
    unknown = stranger.ask(method, path.format(id=uuid4()), body)

    assert found.status == 404
    assert told(found) == told(unknown)
    after = Task.objects.get(pk=theirs.pk)
    assert (after.status, after.title, after.cancel_requested_at) == (status, "secret", None)


@pytest.mark.parametrize(("method", "path", "body"), OF_ONE_TASK.values(), ids=OF_ONE_TASK)
def test_a_task_of_others_takes_as_many_steps_as_one_that_never_was(
    make_task: MakeTask, method: str, path: str, body: bytes
) -> None:
    """So that no clock tells which ids there are."""
    stranger, theirs = Holder("stranger"), make_task(owner="other")
    stranger.ask("GET", "/tasks")  # notes that the token was used

    def statements(task_id: Any) -> list[str]:
        with CaptureQueriesContext(connections[database()]) as captured:
            stranger.ask(method, path.format(id=task_id), body)
        return [re.sub(r"[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}", "?", each["sql"]) for each in captured]

    assert statements(theirs.pk) == statements(uuid4())


@pytest.mark.parametrize(("method", "path", "body"), OF_ONE_TASK.values(), ids=OF_ONE_TASK)
def test_a_task_in_a_queue_that_a_token_is_not_for_does_not_exist_for_it(
    make_task: MakeTask, method: str, path: str, body: bytes
) -> None:
    holder = Holder("shop-mail", owner="shop", queues=["mail"])
    elsewhere = make_task(owner="shop", queue="reports", title="secret")

    assert holder.ask(method, path.format(id=elsewhere.pk), body).status == 404
    assert Task.objects.get(pk=elsewhere.pk).title == "secret"


def test_no_change_moves_a_task_to_where_its_token_does_not_reach() -> None:
    holder = Holder("shop-mail", owner="shop", queues=["mail"])
    made = holder.create(b'{"handler": "demo.echo", "queue": "mail"}')

    answer = holder.ask("PATCH", f"/tasks/{made['id']}", b'{"queue": "reports"}')

    answer.problem(403, "forbidden")


KEYED = {"Idempotency-Key": "k"}
SECRET = b'{"handler": "demo.echo", "queue": "%s", "title": "secret", "unique": {"key": "u"}}'


def test_an_answer_that_was_kept_tells_nothing_to_a_token_that_may_not_read() -> None:
    reader, maker = Holder("reader", owner="shop"), Holder("maker", [Scope.CREATE], owner="shop")
    reader.create(SECRET % b"mail")
    wish = b'{"handler": "demo.echo", "unique": {"key": "u"}}'
    assert b"secret" in reader.ask("POST", "/tasks", wish, **KEYED).body

    answer = maker.ask("POST", "/tasks", wish, **KEYED)

    assert answer.problem(422, "idempotency-mismatch")
    assert b"secret" not in answer.body
    assert maker.ask("POST", "/tasks", wish, **{"Idempotency-Key": "own"}).json()["title"] == ""


def test_an_answer_that_was_kept_tells_nothing_of_queues_that_a_token_is_not_for() -> None:
    everywhere = Holder("shop", owner="shop")
    mail = Holder("shop-mail", owner="shop", queues=["mail"])
    first = everywhere.create(SECRET % b"mail")["id"]
    assert everywhere.ask("POST", f"/tasks/{first}/cancel").status == 200
    elsewhere = everywhere.create(SECRET % b"reports")["id"]

    for path, wish in (("/tasks", SECRET % b"mail"), (f"/tasks/{first}/retry", b"")):
        assert elsewhere in everywhere.ask("POST", path, wish, **KEYED).body.decode()

        answer = mail.ask("POST", path, wish, **KEYED)

        answer.problem(422, "idempotency-mismatch")
        assert elsewhere not in answer.body.decode()


FILTERS = [
    "",
    "status=pending",
    "queue=default",
    "handler=demo.echo",
    "tag=secret",
    "q=secret",
    "created_after=2000-01-01T00:00:00Z",
    "created_before=2999-01-01T00:00:00Z",
    "count=exact",
    "count=estimate",
    "limit=1",
    "status=pending&queue=default&tag=secret&q=secret&count=exact",
]


@pytest.mark.parametrize("query", FILTERS)
def test_no_filter_of_a_list_shows_or_counts_tasks_of_others(make_task: MakeTask, query: str) -> None:
    for _ in range(3):
        make_task(owner="other", title="secret", handler="demo.echo", tags=["secret"])

    answer = Holder("stranger").ask("GET", f"/tasks?{query}").json()

    assert answer["items"] == []
    assert answer.get("count", {"value": 0})["value"] == 0
    assert (answer["next"], answer["previous"]) == (None, None)


@pytest.mark.parametrize(
    "query", ["finished_after=2000-01-01T00:00:00Z", "status=failed", "status=completed"]
)
def test_no_filter_of_a_list_shows_finished_tasks_of_others(make_task: MakeTask, query: str) -> None:
    for status in (Status.COMPLETED, Status.FAILED):
        make_task(owner="other", status=status)

    assert Holder("stranger").ask("GET", f"/tasks?{query}").json()["items"] == []


def test_a_cursor_of_others_leads_to_ones_own_tasks_alone(make_task: MakeTask) -> None:
    for _ in range(3):
        make_task(owner="other", queue="secret")
    their_page = Holder("other").ask("GET", "/tasks?limit=1&queue=secret").json()
    assert their_page["next"]

    assert Holder("stranger").ask("GET", their_page["next"]).json()["items"] == []


def test_a_tag_of_others_opens_nothing(make_task: MakeTask) -> None:
    task = make_task(owner="other")
    tag = Holder("other").ask("GET", f"/tasks/{task.pk}").headers["ETag"]

    answer = Holder("stranger").ask("GET", f"/tasks/{task.pk}", b"", **{"If-None-Match": tag})

    answer.problem(404, "not-found")
    assert "ETag" not in answer.headers


def test_a_key_of_others_replays_nothing() -> None:
    body, key = b'{"handler": "demo.echo", "title": "secret"}', {"Idempotency-Key": "guessable"}
    theirs = Holder("other").ask("POST", "/tasks", body, **key).json()

    mine = Holder("stranger").ask("POST", "/tasks", body, **key)
    another_body = Holder("stranger-2").ask("POST", "/tasks", b'{"handler": "demo.echo"}', **key)

    assert mine.json()["id"] != theirs["id"]
    assert "Idempotency-Replayed" not in mine.headers
    assert another_body.status == 201


def test_no_member_of_a_batch_reaches_a_task_of_others(make_task: MakeTask) -> None:
    theirs = make_task(owner="other", title="secret")
    task = {"handler": "demo.echo", "id": str(theirs.pk)}

    answer = Holder("stranger").ask("POST", "/tasks/batch", json.dumps({"tasks": [task]}).encode())

    assert answer.problem(400, "invalid-field")["errors"][0]["pointer"] == "/tasks/0/id"


def test_a_token_of_others_is_not_seen_by_its_owner(make_task: MakeTask) -> None:
    other, stranger = Holder("other"), Holder("stranger")

    for method, path in (("GET", "/tokens"), ("GET", f"/tokens/{other.token.pk}")):
        assert stranger.ask(method, path).status == 403
    assert stranger.ask("DELETE", f"/tokens/{other.token.pk}").status == 403
    assert other.ask("GET", "/tasks").status == 200


# -- members that only the service sets (API3:2023)

SET_BY_THE_SERVICE = {
    "id": "01a20bcf-958e-766c-8076-373a84ef31ff",
    "status": "completed",
    "owner": "other",
    "attempt": 7,
    "attempts_before": 7,
    "fence": 7,
    "created_at": "2026-01-12T01:37:19Z",
    "started_at": "2026-01-12T01:37:19Z",
    "finished_at": "2026-01-12T01:37:19Z",
    "ready_at": "2026-01-12T01:37:19Z",
    "waiting_for": "time",
    "pending_reason": None,
    "lease_expires_at": "2999-01-01T00:00:00Z",
    "worker": {"id": "mine"},
    "worker_id": "mine",
    "result": "forged",
    "error": {"type": "x", "message": "forged"},
    "crashes": 0,
    "releases": 0,
    "args": [1],
    "cancel_requested_at": None,
    "cancel_reason": None,
    "unique_key": "mine",
    "__class__": "x",
    "_state": {},
    "pk": 1,
    "payload__x": 1,
}


def test_every_member_that_is_shown_is_either_asked_for_or_listed_here() -> None:
    made = Holder("app").create()

    known = {"title", "handler", "queue", "priority", "payload", "tags", "run_at", "expires_at"}
    asked = {*known, "timeout_seconds", "max_attempts"}
    assert made.keys() - asked <= SET_BY_THE_SERVICE.keys(), "refuse it by name, and list it"


@pytest.mark.parametrize("name", SET_BY_THE_SERVICE)
@pytest.mark.parametrize("scope", ["usual", "admin"])
def test_what_only_the_service_sets_is_refused_by_name(name: str, scope: str) -> None:
    holder = Holder("app") if scope == "usual" else Holder.almighty()
    task = {"handler": "demo.echo", name: SET_BY_THE_SERVICE[name]}
    kept = holder.create()
    before = Task.objects.values().get()

    answers = {
        f"/{name}": [
            holder.ask("POST", "/tasks", json.dumps(task).encode()),
            holder.ask("PATCH", f"/tasks/{kept['id']}", json.dumps({name: task[name]}).encode()),
        ],
        f"/tasks/0/{name}": [holder.ask("POST", "/tasks/batch", json.dumps({"tasks": [task]}).encode())],
    }

    for pointer, refused in answers.items():
        for answer in refused:
            [error] = answer.problem(400, "invalid-field")["errors"]
            assert (error["pointer"], error["code"]) == (pointer, "unknown")
    assert Task.objects.values().get() == before


@pytest.mark.parametrize("name", ["id", "prefix", "digest", "token", "created_at", "used_at"])
def test_what_only_the_service_sets_of_a_token_is_refused_by_name(name: str) -> None:
    answer = Holder.almighty().ask("POST", "/tokens", json.dumps({"name": "new", name: "x"}).encode())

    [error] = answer.problem(400, "invalid-field")["errors"]
    assert (error["pointer"], error["code"]) == (f"/{name}", "unknown")


@pytest.mark.parametrize("path", ["/cancel", "/retry", "/run-now"])
def test_a_verb_that_takes_nothing_takes_no_members(path: str) -> None:
    holder = Holder("app")

    answer = holder.ask("POST", f"/tasks/{holder.create()['id']}{path}", b'{"status": "completed"}')

    assert answer.status == 400
    assert Task.objects.get().status == Status.PENDING


def test_a_task_does_not_show_what_a_lease_could_be_forged_of(make_task: MakeTask) -> None:
    task = make_task(owner="app", status=Status.PROCESSING)

    shown = Holder("app").ask("GET", f"/tasks/{task.pk}").json()

    assert not {"fence", "owner", "args", "crashes", "releases"} & shown.keys()
