"""Tokens: who may do what, and for whom others' tasks do not exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import OperationalError
from django.db.models import QuerySet
from django.test import override_settings
from django.utils import timezone

from tasks import tokens
from tasks.grants import Grant, Scope
from tasks.locality import tokens_are_required
from tasks.models import Task, Token
from tasks.tests.api_client import Api
from tasks.tests.holders import Holder
from tasks.tests.rows import MakeTask

pytestmark = pytest.mark.django_db

BODY = b'{"handler": "demo.echo"}'
ID = "01a20bcf-958e-766c-8076-373a84ef31ff"
ENDPOINTS = {
    "create": ("POST", "/tasks", BODY, Scope.CREATE),
    "create many": ("POST", "/tasks/batch", b'{"tasks": [%s]}' % BODY, Scope.CREATE),
    "list": ("GET", "/tasks", b"", Scope.READ),
    "read": ("GET", f"/tasks/{ID}", b"", Scope.READ),
    "read as the first clients do": ("GET", f"/task?id={ID}", b"", Scope.READ),
    "read the head": ("HEAD", f"/tasks/{ID}", b"", Scope.READ),
    "attempts": ("GET", f"/tasks/{ID}/attempts", b"", Scope.READ),
    "cancel": ("POST", f"/tasks/{ID}/cancel", b"", Scope.MANAGE),
    "retry": ("POST", f"/tasks/{ID}/retry", b"", Scope.MANAGE),
    "change": ("PATCH", f"/tasks/{ID}", b'{"priority": 1}', Scope.MANAGE),
    "run now": ("POST", f"/tasks/{ID}/run-now", b"", Scope.MANAGE),
    "delete": ("DELETE", f"/tasks/{ID}", b"", Scope.MANAGE),
    "list tokens": ("GET", "/tokens", b"", Scope.ADMIN),
    "make a token": ("POST", "/tokens", b'{"name": "new"}', Scope.ADMIN),
    "read a token": ("GET", f"/tokens/{ID}", b"", Scope.ADMIN),
    "withdraw a token": ("DELETE", f"/tokens/{ID}", b"", Scope.ADMIN),
}


@pytest.fixture(autouse=True)
def required(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(tokens, "_tried", {})
    with override_settings(TASKSERVICE={**settings.TASKSERVICE, "authentication": "required"}):
        yield


@pytest.mark.parametrize(("method", "path", "body", "scope"), ENDPOINTS.values(), ids=ENDPOINTS)
def test_every_endpoint_asks_who_comes(method: str, path: str, body: bytes, scope: Scope) -> None:
    answer = Api().ask(method, path, body)

    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="tasks"'
    if method != "HEAD":
        answer.problem(401, "unauthenticated")
    assert Task.objects.count() == Token.objects.count() == 0


@pytest.mark.parametrize(("method", "path", "body", "scope"), ENDPOINTS.values(), ids=ENDPOINTS)
def test_every_endpoint_needs_its_scope(method: str, path: str, body: bytes, scope: Scope) -> None:
    others = Holder("others", [other for other in Scope if other not in (scope, Scope.ADMIN)])
    fitting, almighty = Holder("fitting", [scope]), Holder("almighty", [Scope.ADMIN])

    refused = others.ask(method, path, body)

    assert refused.status == 403
    assert method == "HEAD" or scope in refused.problem(403, "forbidden")["detail"]
    assert fitting.ask(method, path, body).status in (200, 201, 204, 404)
    assert almighty.ask(method, path, body.replace(b"new", b"newer")).status in (200, 201, 204, 404)


@pytest.mark.parametrize(
    "given",
    ["", "Bearer", "Bearer ", "Basic YTpi", "Token x", "Bearer tsk_", "Bearer tsk_0123456789_" + "x" * 43],
)
def test_what_is_no_token_opens_nothing(given: str) -> None:
    Api().ask("GET", "/tasks", Authorization=given).problem(401, "unauthenticated")


def test_a_scope_of_a_newer_release_allows_nothing_and_breaks_nothing() -> None:
    """While both releases serve, tokens that the newer one makes come to the older one, too."""
    holder = Holder("app", [Scope.READ])
    Token.objects.update(scopes=[*Token.objects.get().scopes, "tasks:teleport"])

    assert holder.ask("GET", "/tasks").status == 200
    holder.ask("POST", "/tasks", b"{}").problem(403, "forbidden")


def test_a_known_prefix_with_another_secret_opens_nothing() -> None:
    secret = Holder().secret
    other = "A" if secret[-20] != "A" else "B"

    answer = Api().ask("GET", "/tasks", Authorization=f"Bearer {secret[:-20]}{other}{secret[-19:]}")

    answer.problem(401, "unauthenticated")


def test_an_unknown_prefix_and_a_wrong_secret_take_the_same_steps(django_assert_num_queries: Any) -> None:
    prefix = Holder().secret[:15]
    for wrong in (prefix, "tsk_0000000000_", ""):
        with django_assert_num_queries(1), pytest.raises(Exception, match="valid token"):
            tokens.grant_of(f"{wrong}{'x' * 43}", now=timezone.now())


def test_a_token_expires() -> None:
    now = timezone.now()
    holder = Holder(expires_at=now + timedelta(hours=1))
    assert tokens.grant_of(holder.secret, now=now).owner == "app"

    with pytest.raises(Exception, match="valid token"):
        tokens.grant_of(holder.secret, now=now + timedelta(hours=1))


def test_a_token_that_is_withdrawn_opens_nothing() -> None:
    almighty, holder = Holder("almighty", [Scope.ADMIN]), Holder()

    answer = almighty.ask("DELETE", f"/tokens/{holder.token.pk}")

    assert (answer.status, answer.body) == (204, b"")
    holder.ask("GET", "/tasks").problem(401, "unauthenticated")
    almighty.ask("DELETE", f"/tokens/{holder.token.pk}").problem(404, "not-found")


def test_the_tasks_of_others_do_not_exist() -> None:
    mine, other, almighty = Holder("mine"), Holder("other"), Holder("almighty", [Scope.ADMIN])
    task_id = mine.create()["id"]

    other.ask("GET", f"/tasks/{task_id}").problem(404, "not-found")
    other.ask("GET", f"/task?id={task_id}").problem(404, "not-found")
    other.ask("GET", f"/tasks/{task_id}/attempts").problem(404, "not-found")
    other.ask("POST", f"/tasks/{task_id}/cancel").problem(404, "not-found")
    other.ask("POST", f"/tasks/{task_id}/retry").problem(404, "not-found")
    assert (other.ids(), mine.ids(), almighty.ids()) == ([], [task_id], [task_id])


def test_tokens_of_one_owner_share_its_tasks() -> None:
    old, new = Holder("old", owner="shop"), Holder("new", owner="shop")

    assert new.ask("GET", f"/tasks/{old.create()['id']}").status == 200


def test_keys_of_others_are_others() -> None:
    key = {"Idempotency-Key": "k"}

    first, second = (Holder(name).ask("POST", "/tasks", BODY, **key).json() for name in ("mine", "other"))

    assert first["id"] != second["id"]


UNIQUE = b'{"handler": "demo.echo", "queue": "%s", "unique": {"key": "k", "on_conflict": "%s"}}'


def test_unique_keys_of_others_are_others() -> None:
    made = [holder.create(UNIQUE % (b"mail", b"reject")) for holder in (Holder("a"), Holder("b"))]

    assert len({task["id"] for task in made}) == 2


@pytest.mark.parametrize("on_conflict", [b"return", b"reject", b"replace"])
def test_a_unique_key_in_a_queue_that_a_token_is_not_for_is_taken_by_nobody_it_knows(
    on_conflict: bytes,
) -> None:
    made = Holder("all", owner="app").create(UNIQUE % (b"bills", b"return"))
    before = Task.objects.values().get()

    answer = Holder("some", owner="app", queues=["mail"]).ask(
        "POST", "/tasks", UNIQUE % (b"mail", on_conflict)
    )

    answer.problem(409, "duplicate")
    assert made["id"].encode() not in answer.body
    assert Task.objects.values().get() == before


def test_one_that_may_not_read_hears_which_task_has_its_key_and_not_what_is_in_it() -> None:
    made = Holder("all", owner="app").create(UNIQUE % (b"mail", b"return"))
    Task.objects.update(title="hidden", payload={"a": "hidden"}, tags=["hidden"], error={"type": "hidden"})
    Task.objects.update(cancel_reason="hidden")

    answer = Holder("writer", owner="app", scopes=[Scope.CREATE]).ask(
        "POST", "/tasks", UNIQUE % (b"mail", b"return"), Prefer="wait=1"
    )

    shown = answer.json()
    assert (answer.status, shown["id"], shown["unique_key"]) == (200, made["id"], "k")
    assert shown.keys() == {*made, "deduplicated"}
    assert b"hidden" not in answer.body


def test_to_replace_needs_the_scope_to_change() -> None:
    holder = Holder("writer", scopes=[Scope.CREATE, Scope.READ])

    holder.ask("POST", "/tasks", UNIQUE % (b"mail", b"replace")).problem(403, "forbidden")


def test_a_token_for_some_queues_makes_and_sees_tasks_there_alone(make_task: MakeTask) -> None:
    holder, whole = Holder("some", owner="shop", queues=["mail"]), Holder("whole", owner="shop")
    elsewhere = whole.create()["id"]

    refused = holder.ask("POST", "/tasks", BODY).problem(403, "forbidden")
    both = b'{"tasks": [{"handler": "demo.echo", "queue": "mail"}, %s]}' % BODY
    holder.ask("POST", "/tasks/batch", both).problem(403, "forbidden")
    made = holder.create(b'{"handler": "demo.echo", "queue": "mail"}')["id"]

    assert "mail" in refused["detail"]
    assert holder.ids() == [made]
    holder.ask("GET", f"/tasks/{elsewhere}").problem(404, "not-found")


def test_whose_a_task_is_cannot_be_told_by_its_body() -> None:
    answer = Holder().ask("POST", "/tasks", b'{"handler": "demo.echo", "owner": "other"}')

    answer.problem(400, "invalid-field")


@pytest.mark.parametrize("count", [3])
def test_lists_of_one_owner_come_in_pages(make_task: MakeTask, count: int) -> None:
    holder = Holder()
    ids = [holder.create()["id"] for _ in range(count)]
    for _ in range(5):
        make_task(owner="other")

    first = holder.ask("GET", "/tasks?limit=2").json()
    second = holder.ask("GET", first["next"]).json()

    assert [item["id"] for item in first["items"] + second["items"]] == ids[::-1]
    assert second["next"] is None


# -- how they come to be


def test_a_token_is_made_over_http_and_its_secret_is_shown_once() -> None:
    almighty = Holder("almighty", [Scope.ADMIN])
    body = (
        b'{"name": "app", "scopes": ["tasks:read"], "queues": ["mail"], "expires_at": "2999-01-01T00:00:00Z"}'
    )

    made = almighty.ask("POST", "/tokens", body)

    shown = made.json()
    assert made.status == 201
    assert made.headers["Location"] == f"/tokens/{shown['id']}"
    secret = shown.pop("token")
    assert re.fullmatch(r"tsk_[0-9a-f]{10}_[\w-]{43}", secret)
    assert tokens.grant_of(secret, now=timezone.now()).queues == ("mail",)
    read = almighty.ask("GET", f"/tokens/{shown['id']}").json()
    assert {**read, "used_at": None} == shown
    assert shown in [{**item, "used_at": None} for item in almighty.ask("GET", "/tokens").json()["items"]]


def test_only_a_hash_is_kept() -> None:
    holder = Holder()

    kept = " ".join(str(value) for value in Token.objects.values_list().get())

    assert holder.secret[len("tsk_0123456789_") :] not in kept


def test_a_name_is_taken_once() -> None:
    almighty = Holder("almighty", [Scope.ADMIN])

    almighty.ask("POST", "/tokens", b'{"name": "almighty"}').problem(409, "duplicate")

    assert almighty.ask("POST", "/tokens", b'{"name": "other"}').status == 201


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        (b"{}", "/name"),
        (b'{"name": ""}', "/name"),
        (b'{"name": "a", "scopes": []}', "/scopes"),
        (b'{"name": "a", "scopes": ["root"]}', "/scopes"),
        (b'{"name": "a", "scopes": [["admin"]]}', "/scopes"),
        (b'{"name": "a", "queues": []}', "/queues"),
        (b'{"name": "a", "queues": ["no queue"]}', "/queues"),
        (b'{"name": "a", "queues": [1]}', "/queues"),
        (b'{"name": "a", "expires_at": "2001-01-01T00:00:00Z"}', "/expires_at"),
        (b'{"name": "a", "digest": "x"}', "/digest"),
        (b'{"name": "a", "scopes": ["admin"], "queues": ["mail"]}', "/queues"),
    ],
)
def test_a_wrong_token_is_told_by_its_place(body: bytes, pointer: str) -> None:
    problem = Holder("almighty", [Scope.ADMIN]).ask("POST", "/tokens", body).problem(400, "invalid-field")

    assert [error["pointer"] for error in problem["errors"]] == [pointer]


def test_the_command_prints_a_token_that_works(capsys: pytest.CaptureFixture[str]) -> None:
    call_command("createtoken", "ci", "--scopes", "tasks:read", "--queues", "mail", "--days", "3")

    secret = capsys.readouterr().out.strip()
    grant = tokens.grant_of(secret, now=timezone.now())
    assert grant == Grant(owner="ci", scopes=frozenset({Scope.READ}), queues=("mail",))
    with pytest.raises(Exception, match="valid token"):
        tokens.grant_of(secret, now=timezone.now() + timedelta(days=3, minutes=1))
    with pytest.raises(CommandError, match="'ci' already"):
        call_command("createtoken", "ci")
    with pytest.raises(CommandError, match="every queue"):
        call_command("createtoken", "all", "--scopes", "admin", "--queues", "mail")


def test_the_first_token_is_made_once() -> None:
    first = tokens.first(now=timezone.now())

    assert first is not None
    assert tokens.grant_of(first, now=timezone.now()).sees_all
    assert tokens.first(now=timezone.now()) is None


def test_when_a_token_was_used_is_known_to_the_minute(django_assert_num_queries: Any) -> None:
    holder, now = Holder(), timezone.now()
    tokens.grant_of(holder.secret, now=now)
    with django_assert_num_queries(1):
        tokens.grant_of(holder.secret, now=now + timedelta(seconds=59))

    assert Token.objects.get().used_at == now


def test_where_nothing_can_be_written_a_token_goes_on_reading(
    monkeypatch: pytest.MonkeyPatch, django_assert_num_queries: Any
) -> None:
    holder, now = Holder(), timezone.now()

    def fails(*args: Any, **kwargs: Any) -> None:
        raise OperationalError("database is busy")

    monkeypatch.setattr(QuerySet, "update", fails)
    assert tokens.grant_of(holder.secret, now=now).owner == "app"
    with django_assert_num_queries(1):  # and does not try again with each request
        tokens.grant_of(holder.secret, now=now + timedelta(seconds=1))


# -- whether anybody is asked


HERE, EVERYWHERE = ("127.0.0.1", 8080), ("0.0.0.0", 8080)


@pytest.mark.parametrize(
    ("addresses", "chosen", "wanted"),
    [
        ([HERE], "local", False),
        ([("127.9.9.9", 1)], "local", False),
        ([("::1", 1, 0, 0)], "local", False),
        (["localhost"], "local", False),
        ([EVERYWHERE], "local", True),
        ([("::", 1, 0, 0)], "local", True),
        ([("10.0.0.5", 1)], "local", True),
        (["tasks.example"], "local", True),
        (["/run/api.sock"], "local", True),
        ([HERE, EVERYWHERE], "local", True),
        ([], "local", True),
        ([EVERYWHERE], "none", False),
        ([EVERYWHERE], "private", False),
        ([HERE], "required", True),
    ],
)
def test_tokens_are_required_unless_only_this_machine_can_come(
    addresses: list[Any], chosen: str, wanted: bool
) -> None:
    with override_settings(
        TASKSERVICE={**settings.TASKSERVICE, "authentication": chosen}, ALLOWED_HOSTS=["localhost"]
    ):
        assert tokens_are_required(addresses) == wanted


@pytest.mark.parametrize("chosen", ["local", "private"])
@pytest.mark.parametrize("exposed", [{"ALLOWED_HOSTS": ["tasks.example", "localhost"]}, {"HTTPS": True}])
def test_behind_a_proxy_a_loopback_address_is_not_local(exposed: dict[str, Any], chosen: str) -> None:
    local = {**settings.TASKSERVICE, "authentication": chosen}
    own = {"ALLOWED_HOSTS": ["localhost", "127.0.0.1"], "HTTPS": False}
    with override_settings(TASKSERVICE=local, **own):
        assert not tokens_are_required([HERE])
    with override_settings(TASKSERVICE=local, **own | exposed):
        assert tokens_are_required([HERE])


def test_without_authentication_everything_is_seen(make_task: MakeTask) -> None:
    task = make_task(owner="somebody")
    with override_settings(TASKSERVICE={**settings.TASKSERVICE, "authentication": "none"}):
        assert Api().get(f"/tasks/{task.pk}").status == 200
