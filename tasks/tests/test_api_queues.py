"""``/queues``: how each stands for whom, and what holds one back, lets it go on or empties it."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.db import connections
from django.test import override_settings
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tasks import depths, lifecycle, tokens
from tasks.grants import USUAL, Scope
from tasks.models import Idempotency, Queue, Task
from tasks.models.task import database
from tasks.states import Status, WaitingFor
from tasks.tests.api_client import Api, api
from tasks.tests.holders import Holder
from tasks.tests.rows import MakeTask, make_worker
from tasks.tests.test_admin_overview import happened
from tasks.tests.test_indexes import assert_only, plans_of
from tasks.tests.workers import RunWorkers, enqueue, run_workers, wait_finished

__all__ = ["api", "run_workers"]

pytestmark = pytest.mark.django_db

STEERS = (Scope.READ, Scope.QUEUES)
SOON = timedelta(hours=1)


@contextmanager
def required(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(tokens, "_tried", {})
    with override_settings(TASKSERVICE={**settings.TASKSERVICE, "authentication": "required"}):
        yield


@pytest.fixture
def tokens_required(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with required(monkeypatch):
        yield


guarded = pytest.mark.usefixtures("tokens_required")


def post(who: Any, path: str, value: Any = None, **headers: str) -> Any:
    return who.ask("POST", path, b"" if value is None else json.dumps(value).encode(), **headers)


def names(who: Any, path: str = "/queues") -> list[str]:
    return [queue["name"] for queue in who.ask("GET", path).json()["items"]]


def statuses() -> dict[str, int]:
    found = list(Task.objects.values_list("status", flat=True))
    return {status: found.count(status) for status in found}


# -- how a queue stands


def test_a_queue_tells_where_its_tasks_are_and_how_long_they_take(api: Api, make_task: MakeTask) -> None:
    now = timezone.now()
    make_task(queue="mail", ready_at=now - timedelta(minutes=3))
    make_task(queue="mail", ready_at=None, waiting_for=WaitingFor.TIME, run_at=now + SOON)
    for status in (Status.PROCESSING, Status.FAILED, Status.FAILED, Status.COMPLETED):
        make_task(status, queue="mail")
    make_worker("mail")
    make_worker("other")
    happened("mail", created=9, completed=7, failed=2, waited_10_to_25_ms=4, ran_1_to_2_5_s=4)

    told = api.get("/queues/mail").json()

    assert told["depth"] == {
        "pending": 2, "ready": 1, "waiting": 1, "processing": 1, "failed": 2, "capped": False,
    }  # fmt: skip
    assert 180 <= told["oldest_ready_seconds"] < 240
    assert (told["last_hour"]["created"], told["last_hour"]["completed"]) == (9, 7)
    assert told["wait_seconds"]["p50"] == pytest.approx(0.0175)
    assert told["run_seconds"]["p95"] == pytest.approx(2.425)
    assert (told["workers"], told["paused"]) == (1, None)
    [listed] = [queue for queue in api.get("/queues").json()["items"] if queue["name"] == "mail"]
    assert {**listed, "oldest_ready_seconds": told["oldest_ready_seconds"]} == told


def test_what_nobody_measured_is_null(api: Api, make_task: MakeTask) -> None:
    make_task(Status.FAILED, queue="mail")

    told = api.get("/queues/mail").json()

    assert (told["oldest_ready_seconds"], told["wait_seconds"], told["run_seconds"]) == (None, None, None)
    assert set(told["last_hour"].values()) == {0}


def test_counting_ends_somewhere_and_says_so(
    api: Api, make_task: MakeTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(depths, "COUNTED", 2)
    monkeypatch.setattr(depths, "COUNTED_OF_MANY", 1)
    for _ in range(4):
        make_task(queue="mail")

    depth = api.get("/queues/mail").json()["depth"]

    assert (depth["ready"], depth["pending"], depth["capped"]) == (2, 2, True)


def test_queues_come_by_name_and_page_by_page(api: Api, make_task: MakeTask) -> None:
    for name in ("a", "B", "c", "d", "e"):
        make_task(queue=name)
    every = names(api)

    pages, url = [], "/queues?limit=2"
    while url:
        page = api.get(url).json()
        pages.append([queue["name"] for queue in page["items"]])
        url = page["next"]

    assert [name for page in pages for name in page] == every == sorted(every)
    assert {"a", "B", "c", "d", "e"} <= set(every)
    assert {len(page) for page in pages[:-1]} == {2}
    third = api.get(api.get(api.get("/queues?limit=2").json()["next"]).json()["next"]).json()
    second = api.get(third["previous"]).json()
    assert [queue["name"] for queue in second["items"]] == pages[1]
    assert names(api, second["previous"]) == pages[0]
    assert api.get("/queues?count=exact").json()["count"] == {"value": len(every), "relation": "eq"}


USES = ["ready", "waiting", "failed", "processing", "worker", "pause", "resumed", "lately"]


@pytest.mark.parametrize("use", USES)
def test_a_queue_is_known_by_whatever_uses_it(api: Api, make_task: MakeTask, use: str) -> None:
    assert api.get("/queues/mail").problem(404, "not-found")["detail"] == "queue not found"
    uses: dict[str, Callable[[], object]] = {
        "ready": lambda: make_task(queue="mail"),
        "waiting": lambda: make_task(queue="mail", ready_at=None, waiting_for=WaitingFor.HANDLER),
        "failed": lambda: make_task(Status.FAILED, queue="mail"),
        "processing": lambda: make_task(Status.PROCESSING, queue="mail"),
        "worker": lambda: make_worker("mail"),
        "pause": lambda: lifecycle.pause(["mail"]),
        "resumed": lambda: lifecycle.pause(["mail"]) and lifecycle.resume(["mail"]),
        "lately": lambda: happened("mail", completed=1),
    }

    uses[use]()

    assert api.get("/queues/mail").status == 200
    assert "mail" in names(api)


def test_a_queue_beyond_the_first_hundred_in_which_tasks_wait_is_known(api: Api, make_task: MakeTask) -> None:
    for number in range(101):
        make_task(queue=f"q{number:03}", ready_at=None, waiting_for=WaitingFor.HANDLER)

    assert api.get("/queues/q100").status == 200


HOSTILE = [
    "x" * 65,
    "a%20b",
    "mail%00",
    "mail%0a",
    "%3Cscript%3E",
    "m%C3%A4il",
    "%ff",
    "mail;drop",
    "mail%25",
]


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("deed", ["", "/pause", "/resume", "/purge"])
def test_what_no_queue_can_be_called_is_not_found(api: Api, name: str, deed: str) -> None:
    body = b'{"confirm": "mail"}' if deed == "/purge" else b""

    api.ask("POST" if deed else "GET", f"/queues/{name}{deed}", body).problem(404, "not-found")

    assert not Queue.objects.exists()


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "cursor=x", "status=pending", "limit=1&limit=2"])
def test_a_wrong_query_is_refused(api: Api, query: str) -> None:
    api.get(f"/queues?{query}").problem(400, "invalid-field")


def test_however_many_queues_there_are_the_statements_are_as_few(api: Api, make_task: MakeTask) -> None:
    def asked() -> int:
        with CaptureQueriesContext(connections[database()]) as heard:
            assert api.get("/queues").status == 200
        return len(heard)

    make_task(queue="q0")
    few = asked()
    for number in range(1, 20):
        make_task(queue=f"q{number}")
        make_worker(f"q{number}")

    assert asked() == few <= 16


def test_a_queue_is_read_by_index(api: Api, make_task: MakeTask) -> None:
    make_task(queue="mail")

    plans = plans_of(lambda: api.get("/queues/mail"))

    assert_only(plans, "task_ready_idx", "task_waiting_queue_idx", "task_failed_queue_idx", "task_lease_idx")


# -- who sees what


@guarded
def test_a_token_counts_its_owners_tasks_alone_and_learns_nothing_of_others(make_task: MakeTask) -> None:
    old = timezone.now() - SOON
    make_task(queue="shared", owner="app")
    for queue in ("shared", "shared", "secret"):
        make_task(queue=queue, owner="other", ready_at=old)
    happened("shared", completed=100, waited_10_to_25_ms=4, ran_1_to_2_5_s=4)
    make_worker("shared")
    holder = Holder("app", [Scope.READ])

    [told] = holder.ask("GET", "/queues").json()["items"]

    assert (told["name"], told["depth"]["ready"], told["depth"]["capped"]) == ("shared", 1, False)
    assert told["oldest_ready_seconds"] < SOON.total_seconds()
    assert [told[name] for name in ("last_hour", "wait_seconds", "run_seconds", "workers")] == [None] * 4
    assert told == {
        **holder.ask("GET", "/queues/shared").json(),
        "oldest_ready_seconds": told["oldest_ready_seconds"],
    }
    unknown, theirs = holder.ask("GET", "/queues/none"), holder.ask("GET", "/queues/secret")
    assert theirs.problem(404, "not-found") == unknown.problem(404, "not-found")


@guarded
def test_the_numbers_of_an_owner_end_with_its_newest_tasks_and_say_so(
    make_task: MakeTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(depths, "OWNED", 3)
    for queue in ("old", "mail", "mail", "mail"):
        make_task(queue=queue, owner="app")
    holder = Holder("app", [Scope.READ])

    [told] = holder.ask("GET", "/queues").json()["items"]

    assert (told["name"], told["depth"]["ready"], told["depth"]["capped"]) == ("mail", 3, True)


@guarded
def test_the_tasks_of_an_owner_are_found_by_index(make_task: MakeTask) -> None:
    make_task(queue="mail", owner="app")

    assert_only(plans_of(lambda: depths.depths_of("app")), "task_owner_idx")


@guarded
@pytest.mark.parametrize("scopes", [[Scope.READ], STEERS], ids=["reads", "steers"])
def test_a_token_that_names_queues_sees_these_and_no_others(make_task: MakeTask, scopes: Any) -> None:
    for queue in ("mail", "reports"):
        make_task(queue=queue, owner="app")
    holder = Holder("app", scopes, queues=["mail", "empty"])

    assert names(holder) == ["empty", "mail"]
    assert holder.ask("GET", "/queues/mail").json()["depth"]["ready"] == 1
    holder.ask("GET", "/queues/reports").problem(404, "not-found")


@guarded
@pytest.mark.parametrize("scope", [Scope.QUEUES, Scope.ADMIN])
def test_who_may_steer_a_queue_sees_all_that_is_in_it(make_task: MakeTask, scope: Scope) -> None:
    make_task(queue="shared", owner="other")

    told = Holder("app", [Scope.READ, scope]).ask("GET", "/queues/shared").json()

    assert (told["depth"]["ready"], told["workers"]) == (1, 0)


# -- pause and resume


@guarded
def test_a_pause_keeps_the_tokens_owner_the_time_and_the_reason(
    django_capture_on_commit_callbacks: Any, caplog: pytest.LogCaptureFixture
) -> None:
    before, holder = timezone.now() - timedelta(seconds=1), Holder("robot", STEERS, owner="shop")

    with caplog.at_level(logging.INFO), django_capture_on_commit_callbacks(execute=True):
        answer = post(holder, "/queues/mail/pause", {"reason": "the provider is down"})

    queue = Queue.objects.get()
    assert (queue.name, queue.paused_by, queue.pause_reason) == ("mail", "shop", "the provider is down")
    assert queue.paused_at is not None
    assert queue.paused_at > before
    told = answer.json()
    assert (answer.status, told["name"], told["paused"]["by"]) == (200, "mail", "shop")
    assert holder.ask("GET", "/queues/mail").json()["paused"] == told["paused"]
    [line] = [line for line in caplog.records if line.getMessage() == "queue.paused"]
    assert line.__dict__["fields"] == {"queues": "mail", "moved": 1, "by": "shop"}


def test_the_first_pause_counts(api: Api) -> None:
    lifecycle.pause(["mail"], by="ann", reason="first")

    told = post(api, "/queues/mail/pause", {"reason": "second"}).json()

    assert (told["paused"]["by"], told["paused"]["reason"]) == ("ann", "first")


def test_resume_is_safe_to_repeat_and_knows_no_queue_that_nothing_uses(api: Api) -> None:
    lifecycle.pause(["mail"])

    answers = [post(api, "/queues/mail/resume") for _ in range(2)]

    assert [answer.json() for answer in answers] == [{"name": "mail", "paused": None}] * 2
    assert Queue.objects.get().paused_at is None
    post(api, "/queues/mial/resume").problem(404, "not-found")
    assert not Queue.objects.filter(pk="mial").exists()


@pytest.mark.parametrize(
    ("deed", "value", "pointer"),
    [
        ("pause", {"reason": "x" * 201}, "/reason"),
        ("pause", {"reason": 7}, "/reason"),
        ("pause", {"by": "ann"}, "/by"),
        ("resume", {"reason": "over"}, ""),
        ("purge", {"confirm": "mail", "force": True}, "/force"),
    ],
)
def test_a_wrong_or_unknown_member_does_nothing(
    api: Api, make_task: MakeTask, deed: str, value: Any, pointer: str
) -> None:
    make_task(queue="mail")

    [error] = post(api, f"/queues/mail/{deed}", value).problem(400, "invalid-field")["errors"]

    assert error["pointer"] == pointer
    assert statuses() == {"pending": 1}
    assert not Queue.objects.exists()


@pytest.mark.parametrize("deed", ["pause", "resume", "purge"])
def test_a_page_of_another_site_steers_nothing(api: Api, make_task: MakeTask, deed: str) -> None:
    make_task(queue="mail")

    answer = post(api, f"/queues/mail/{deed}", {}, Origin="https://elsewhere.example")

    answer.problem(403, "forbidden")
    assert not Queue.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_pause_stops_the_claims_of_a_running_worker_until_the_resume(
    api: Api, run_workers: RunWorkers
) -> None:
    run_workers("--n", "1")
    wait_finished(enqueue("fault.noop", queue="mail"))

    assert post(api, "/queues/mail/pause").status == 200
    held = enqueue("fault.noop", queue="mail")
    wait_finished(enqueue("fault.noop", queue="other"))  # the worker looked again
    task = Task.objects.get(pk=held)
    assert (task.status, task.attempt) == (Status.PENDING, 0)
    assert api.task(str(held))["pending_reason"]["code"] == "queue_paused"

    assert post(api, "/queues/mail/resume").status == 200
    assert wait_finished(held).status == Status.COMPLETED


# -- purge


@pytest.mark.django_db(transaction=True)  # in one, PostgreSQL's clock stands still
def test_purge_cancels_what_is_pending_whosever_it_is(
    monkeypatch: pytest.MonkeyPatch, make_task: MakeTask, caplog: pytest.LogCaptureFixture
) -> None:
    for status in Status:
        make_task(status, queue="mail", owner="other")
    make_task(queue="reports")

    with required(monkeypatch), caplog.at_level(logging.INFO):
        answer = post(Holder("shop", STEERS), "/queues/mail/purge", {"confirm": "mail"})

    assert (answer.status, answer.json()) == (200, {"name": "mail", "cancelled": 1, "more": False})
    assert statuses() == {"pending": 1, "processing": 1, "completed": 1, "failed": 1, "cancelled": 2}
    assert Task.objects.filter(cancel_reason="Queue mail was purged by shop.").count() == 1
    [line] = [line for line in caplog.records if line.getMessage() == "queue.purged"]
    assert line.__dict__["fields"] == {"queue": "mail", "by": "shop", "cancelled": 1}


@pytest.mark.parametrize("value", [None, {}, {"confirm": ""}, {"confirm": "Mail"}, {"confirm": ["mail"]}])
def test_purge_does_nothing_without_the_name_once_more(api: Api, make_task: MakeTask, value: Any) -> None:
    make_task(queue="mail")

    [error] = post(api, "/queues/mail/purge", value).problem(422, "unconfirmed")["errors"]

    assert error["pointer"] == "/confirm"
    assert statuses() == {"pending": 1}


def test_purge_knows_no_queue_that_nothing_uses(api: Api) -> None:
    post(api, "/queues/mial/purge", {"confirm": "mial"}).problem(404, "not-found")


@pytest.mark.django_db(transaction=True)  # in one, PostgreSQL's clock stands still
def test_purge_of_very_many_says_that_more_are_left(
    api: Api, make_task: MakeTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.queues.PURGE_SECONDS", 0.0)
    purge = lifecycle.purge
    monkeypatch.setattr(lifecycle, "purge", lambda queue, **given: purge(queue, limit=2, **given))
    for _ in range(4):
        make_task(queue="mail")

    told = [post(api, "/queues/mail/purge", {"confirm": "mail"}).json() for _ in range(2)]

    assert [(one["cancelled"], one["more"]) for one in told] == [(2, True), (2, False)]
    assert statuses() == {"cancelled": 4}


@pytest.mark.django_db(transaction=True)  # in one, PostgreSQL's clock stands still
@pytest.mark.parametrize("waits", [False, True], ids=["ready", "waiting"])
@pytest.mark.parametrize(("before", "more"), [(1, False), (2, True)])
def test_more_counts_what_was_made_before_the_purge_and_nothing_that_came_meanwhile(
    api: Api, make_task: MakeTask, monkeypatch: pytest.MonkeyPatch, before: int, more: bool, waits: bool
) -> None:
    monkeypatch.setattr("tasks.queues.PURGE_SECONDS", 0.0)
    kind: dict[str, Any] = {"queue": "mail"} | (
        {"ready_at": None, "waiting_for": WaitingFor.HANDLER} if waits else {}
    )
    purge = lifecycle.purge

    def purge_while_another_comes(queue: str, **given: Any) -> int:
        make_task(**kind)
        return purge(queue, limit=1, **given)

    monkeypatch.setattr(lifecycle, "purge", purge_while_another_comes)
    for _ in range(before):
        make_task(**kind)

    told = post(api, "/queues/mail/purge", {"confirm": "mail"}).json()

    assert (told["cancelled"], told["more"]) == (1, more)


def test_a_purge_that_cancels_nothing_is_not_logged(
    api: Api, make_task: MakeTask, caplog: pytest.LogCaptureFixture
) -> None:
    make_task(Status.FAILED, queue="mail")

    with caplog.at_level(logging.INFO):
        assert post(api, "/queues/mail/purge", {"confirm": "mail"}).json()["cancelled"] == 0

    assert "queue.purged" not in [line.getMessage() for line in caplog.records]


# -- sent again


@pytest.mark.django_db(transaction=True)
def test_a_purge_that_is_sent_again_cancels_nothing_that_came_since(api: Api, make_task: MakeTask) -> None:
    make_task(queue="mail")
    key, body = {"Idempotency-Key": "k1"}, {"confirm": "mail"}
    first = post(api, "/queues/mail/purge", body, **key)
    make_task(queue="mail")

    again = post(api, "/queues/mail/purge", body, **key)

    assert (again.status, again.body) == (200, first.body)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert statuses() == {"cancelled": 1, "pending": 1}


@pytest.mark.django_db(transaction=True)
def test_a_purge_with_a_key_that_has_grown_too_old_holds_no_transaction_open(
    api: Api, make_task: MakeTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, body = {"Idempotency-Key": "k1"}, {"confirm": "mail"}
    within: set[bool] = set()  # a transaction
    make_task(queue="mail")
    post(api, "/queues/mail/purge", body, **key)
    too_old = timezone.now() - lifecycle.KEPT_FOR - timedelta(seconds=1)
    Idempotency.objects.update(created_at=too_old)
    make_task(queue="mail")
    purge = lifecycle.purge

    def watched(queue: str, **given: Any) -> int:
        within.add(connections[database()].in_atomic_block)
        return purge(queue, **given)

    monkeypatch.setattr(lifecycle, "purge", watched)

    again = post(api, "/queues/mail/purge", body, **key)

    assert (again.json()["cancelled"], within) == (1, {False})
    assert Idempotency.objects.get().created_at > too_old
    assert statuses() == {"cancelled": 2}


def test_a_pause_that_is_sent_again_holds_nothing_back_that_was_resumed(api: Api) -> None:
    key = {"Idempotency-Key": "k1"}
    first = post(api, "/queues/mail/pause", **key)
    lifecycle.resume(["mail"])

    again = post(api, "/queues/mail/pause", **key)

    assert (again.status, again.body) == (200, first.body)
    assert Queue.objects.get().paused_at is None
    post(api, "/queues/mail/pause", {"reason": "else"}, **key).problem(422, "idempotency-mismatch")


def test_what_is_refused_is_not_kept(api: Api, make_task: MakeTask) -> None:
    key = {"Idempotency-Key": "k1"}
    post(api, "/queues/mail/purge", {"confirm": "x"}, **key).problem(422, "unconfirmed")
    post(api, "/queues/mail/purge", {"confirm": "mail"}, **key).problem(404, "not-found")

    assert not Idempotency.objects.exists()


# -- who may steer


@guarded
@pytest.mark.parametrize("deed", ["pause", "resume", "purge"])
@pytest.mark.parametrize("scopes", [USUAL, [Scope.METRICS]], ids=["usual", "metrics"])
def test_no_other_scope_steers_a_queue(make_task: MakeTask, deed: str, scopes: Any) -> None:
    make_task(queue="mail", owner="app")

    answer = post(Holder("app", scopes), f"/queues/mail/{deed}", {"confirm": "mail"})

    assert "queues" in answer.problem(403, "forbidden")["detail"]
    assert statuses() == {"pending": 1}


@guarded
@pytest.mark.parametrize("queue", ["reports", "never-was"])
@pytest.mark.parametrize("deed", ["pause", "resume", "purge"])
def test_a_token_that_names_queues_steers_no_others(make_task: MakeTask, deed: str, queue: str) -> None:
    make_task(queue="reports", owner="app")
    holder = Holder("app", STEERS, queues=["mail"])
    body = {"confirm": queue} if deed == "purge" else None

    answer = post(holder, f"/queues/{queue}/{deed}", body)

    assert answer.problem(403, "forbidden")["detail"] == "This token is for these queues alone: mail."
    assert statuses() == {"pending": 1}
    assert post(holder, "/queues/mail/pause").status == 200
