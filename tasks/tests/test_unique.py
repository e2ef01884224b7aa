"""Unique tasks: one at a time has a key, for as long as its ``while`` and its ttl say."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from itertools import cycle, product
from typing import Any
from uuid import UUID

import pytest
from django.db import connections, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tasks import lifecycle
from tasks.contract import Enqueued, ErrorReport, Failed, Lease, Outcome, Released, Succeeded, TaskSpec
from tasks.errors import DuplicateKey
from tasks.lifecycle.keys import Told
from tasks.models import Task
from tasks.models.task import database
from tasks.states import FINISHED, Status
from tasks.tests.api_client import Answer, Api, api
from tasks.tests.api_server import api_server
from tasks.tests.databases import OwnDatabases, rows
from tasks.tests.rows import claimant
from tasks.tests.workers import wait_until
from tasks.unique import OnConflict, Unique, UniqueWhile

__all__ = ["api"]

pytestmark = pytest.mark.django_db

FAILURE = ErrorReport("app.Error", "no")


def wish(**unique: Any) -> dict[str, Any]:
    return {"handler": "demo.echo", "unique": {"key": "k", **unique}}


def ask(api: Api, *, title: str = "", **unique: Any) -> Answer:
    return api.post("/tasks", {**wish(**unique), **({"title": title} if title else {})})


def make(api: Api, **unique: Any) -> str:
    answer = ask(api, **unique)
    assert answer.status == 201, answer.body
    return str(answer.json()["id"])


def claim() -> Lease:
    [lease] = lifecycle.claim(claimant(), limit=1, now=timezone.now())
    return lease


def settle(outcome: Outcome) -> None:
    assert lifecycle.settle([(claim(), outcome)], now=timezone.now()).written


def let_the_ttl_pass() -> None:
    Task.objects.update(unique_until=timezone.now() - timedelta(seconds=1))


# -- what a second one is told


def test_a_second_one_gets_the_first(api: Api) -> None:
    first = make(api)

    answer = ask(api)

    assert answer.status == 200
    assert answer.json() == {**api.task(first), "deduplicated": True}
    assert answer.headers["Location"] == f"/tasks/{first}"
    assert api.task(first)["unique_key"] == "k"
    assert "deduplicated" not in api.task(first)
    assert Task.objects.count() == 1


def test_other_keys_and_none_are_free(api: Api) -> None:
    made = {make(api), make(api, key="K"), api.create(title="a")["id"], api.create(title="a")["id"]}

    assert len(made) == Task.objects.count() == 4
    assert api.create(title="a")["unique_key"] is None


def test_reject_names_the_first(api: Api) -> None:
    first = make(api)

    problem = ask(api, on_conflict="reject").problem(409, "duplicate")

    assert problem["task_id"] == first
    assert first in problem["detail"]
    assert [error["pointer"] for error in problem["errors"]] == ["/unique/key"]
    assert Task.objects.count() == 1


def test_replace_gives_the_pending_one_all_that_is_asked_for_now(api: Api) -> None:
    first = make(api)
    wanted = {"title": "new", "payload": {"a": 1}, "queue": "mail", "priority": 5, "tags": ["t"]}
    wanted |= {"max_attempts": 2, "timeout_seconds": 7, "expires_at": "2100-01-01T00:00:00.000000Z"}

    answer = api.post("/tasks", {**wish(on_conflict="replace"), **wanted, "delay_seconds": 3600})

    shown = answer.json()
    assert (answer.status, shown["id"], shown["deduplicated"]) == (200, first, True)
    assert {name: shown[name] for name in wanted} == wanted
    assert shown["pending_reason"]["code"] == "scheduled"
    assert api.task(first) == {name: value for name, value in shown.items() if name != "deduplicated"}
    assert Task.objects.count() == 1


def test_what_is_replaced_between_two_attempts_has_a_new_budget(api: Api) -> None:
    make(api)
    settle(Failed(FAILURE))

    ask(api, on_conflict="replace")

    lease = claim()
    assert (lease.attempt, lease.attempts_used) == (2, 1)


def test_what_runs_is_not_replaced(api: Api) -> None:
    first = make(api)
    claim()
    before = Task.objects.values().get()

    problem = ask(api, on_conflict="replace", title="new").problem(409, "duplicate")

    assert problem["task_id"] == first
    assert "processing" in problem["detail"]
    assert Task.objects.values().get() == before


# -- how long a key counts


ENDS: dict[str, Callable[[str], Any]] = {
    "completed": lambda id_: settle(Succeeded("1")),
    "failed": lambda id_: settle(Failed(FAILURE, retryable=False)),
    "cancelled": lambda id_: lifecycle.cancel([UUID(id_)]),
    "expired": lambda id_: (
        Task.objects.update(expires_at=timezone.now()),
        lifecycle.expire(now=timezone.now()),
    ),
    "deleted": lambda id_: lifecycle.delete([UUID(id_)]),
    "reaped for good": lambda id_: (
        Task.objects.update(max_attempts=1),
        claim(),
        lifecycle.reap(now=timezone.now() + timedelta(hours=1)),
    ),
}


@pytest.mark.parametrize("while_", ["live", "pending"])
@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_however_a_task_ends_its_key_is_free(api: Api, end: Callable[[str], Any], while_: str) -> None:
    first = make(api, **{"while": while_})
    end(first)
    assert not Task.objects.exclude(status__in=FINISHED).exists()

    assert make(api, **{"while": while_}) != first


def test_live_counts_while_it_runs_and_between_attempts(api: Api) -> None:
    first = make(api)
    lease = claim()
    assert ask(api).json()["id"] == first

    lifecycle.settle([(lease, Failed(FAILURE))], now=timezone.now())

    assert ask(api).json()["id"] == first


@pytest.mark.parametrize("outcome", [Released(started=False), Released(started=True), Failed(FAILURE)])
def test_pending_counts_until_the_first_claim_and_never_again(api: Api, outcome: Outcome) -> None:
    """Though the task becomes pending again, while another has the key."""
    first = make(api, **{"while": "pending"})
    assert ask(api, **{"while": "pending"}).json()["id"] == first
    lease = claim()
    second = make(api, **{"while": "pending"})

    assert lifecycle.settle([(lease, outcome)], now=timezone.now()).written

    assert api.task(first)["status"] == "pending"
    assert ask(api).json()["id"] == second


def test_ttl_counts_after_the_end_too_and_no_longer(api: Api) -> None:
    first = make(api, **{"while": "ttl", "ttl_seconds": 60})
    settle(Succeeded("1"))
    assert ask(api).json()["id"] == first

    let_the_ttl_pass()

    assert make(api, **{"while": "ttl", "ttl_seconds": 60}) != first


@pytest.mark.parametrize("on_conflict", OnConflict)
@pytest.mark.parametrize("while_", UniqueWhile)
def test_a_ttl_ends_it_at_the_latest_then(api: Api, while_: str, on_conflict: str) -> None:
    first = make(api, **{"while": while_, "ttl_seconds": 60})
    let_the_ttl_pass()

    second = make(api, on_conflict=on_conflict)

    assert second != first
    assert ask(api).json()["id"] == second


def test_replace_counts_the_ttl_anew(api: Api) -> None:
    make(api, ttl_seconds=60)
    let_the_ttl_pass()
    Task.objects.update(unique_until=timezone.now() + timedelta(seconds=5))

    ask(api, on_conflict="replace", ttl_seconds=600)

    assert Task.objects.filter(unique_until__gt=timezone.now() + timedelta(seconds=500)).exists()


def test_replace_says_anew_how_long_the_key_counts(api: Api) -> None:
    """Of a task that was claimed before, which would have no claim to it by that."""
    first = make(api)
    settle(Failed(FAILURE))

    ask(api, on_conflict="replace", **{"while": "pending"})

    assert ask(api).json()["id"] == first
    claim()
    assert make(api) != first


# -- run again by hand


def test_a_retry_takes_the_key_again(api: Api) -> None:
    for while_ in ("live", "pending"):
        first = make(api, **{"while": while_, "key": while_})
        settle(Failed(FAILURE, retryable=False))

        assert api.post(f"/tasks/{first}/retry").status == 200

        assert ask(api, key=while_).json()["id"] == first
        lifecycle.cancel([UUID(first)])


def test_a_retry_whose_key_another_has_moves_nothing_and_names_it(api: Api) -> None:
    first = make(api)
    settle(Failed(FAILURE, retryable=False))
    before = api.task(first)
    second = make(api)

    problem = api.post(f"/tasks/{first}/retry").problem(409, "conflict-state")

    assert second in problem["detail"]
    assert problem["task_id"] == second
    assert api.task(first) == before


def test_who_has_a_key_is_looked_up_without_a_write(api: Api) -> None:
    """Also where the time of its holder is over."""
    first = UUID(make(api))
    lifecycle.cancel([first])
    second = UUID(make(api, ttl_seconds=60))
    assert lifecycle.holder_of_its_key(first) == second
    assert lifecycle.holder_of_its_key(second) is None

    let_the_ttl_pass()
    before = list(Task.objects.values())

    assert lifecycle.holder_of_its_key(first) is None
    assert list(Task.objects.values()) == before


def test_of_several_with_one_key_a_retry_moves_one(api: Api) -> None:
    made = []
    for _ in range(3):
        made.append(UUID(make(api)))
        lifecycle.cancel(made[-1:])
    other = UUID(api.create(title="a")["id"])
    lifecycle.cancel([other])

    assert lifecycle.retry([*made, other]) == 2
    assert Task.objects.filter(pk__in=made, status=Status.PENDING).count() == 1


def test_a_retry_takes_over_a_key_whose_time_is_over(api: Api) -> None:
    first = make(api)
    lifecycle.cancel([UUID(first)])
    make(api, ttl_seconds=60)
    Task.objects.exclude(pk=first).update(unique_until=timezone.now() - timedelta(seconds=1))

    assert lifecycle.retry([UUID(first)]) == 1
    assert ask(api).json()["id"] == first


# -- within a transaction of others


def test_a_conflict_undoes_what_was_asked_for_and_no_more(api: Api) -> None:
    first = make(api)
    rejected = TaskSpec(handler="demo.echo", unique=Unique(key="k", on_conflict=OnConflict.REJECT))

    with transaction.atomic(using=database()):
        [before] = lifecycle.enqueue([TaskSpec(handler="demo.echo")])
        with pytest.raises(DuplicateKey, match=first):
            lifecycle.enqueue([TaskSpec(handler="demo.echo"), rejected])
        [after] = lifecycle.enqueue([TaskSpec(handler="demo.echo")])

    assert {*Task.objects.values_list("pk", flat=True)} == {UUID(first), before.id, after.id}


# -- batches, repeats and waiting


def batch(api: Api, *tasks: dict[str, Any]) -> Answer:
    return api.post("/tasks/batch", {"tasks": tasks})


def test_a_batch_tells_of_each_in_the_order_asked_for(api: Api) -> None:
    first = make(api, key="old")

    answer = batch(api, wish(key="new"), wish(key="old"), {"title": "plain"}, wish(key="new"))

    items = answer.json()["items"]
    assert answer.status == 201
    assert [item.get("deduplicated", False) for item in items] == [False, True, False, True]
    assert items[1]["id"] == first
    assert items[3]["id"] == items[0]["id"]
    assert items[2]["title"] == "plain"
    assert Task.objects.count() == 3


def test_a_batch_that_makes_nothing_is_200(api: Api) -> None:
    make(api)

    assert batch(api, wish(), wish()).status == 200


def test_two_of_a_batch_that_replace_are_as_if_one_came_after_the_other(api: Api) -> None:
    replacing = [{**wish(on_conflict="replace"), "title": title} for title in "abc"]

    items = batch(api, *replacing).json()["items"]

    assert [item["title"] for item in items] == ["a", "b", "c"]
    assert Task.objects.get().title == "c"


MANY = 1_000


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("keys", [1, MANY])
@pytest.mark.parametrize("on_conflict", OnConflict)
def test_however_many_want_a_key_few_statements_decide(
    before: bool, keys: int, on_conflict: OnConflict
) -> None:
    """While they are decided nobody else can write."""

    def specs(on_conflict: OnConflict, count: int) -> list[TaskSpec]:
        return [
            TaskSpec(
                handler="demo.echo",
                title=str(number),
                unique=Unique(key=str(number % keys), on_conflict=on_conflict),
            )
            for number in range(count)
        ]

    if before:
        lifecycle.enqueue(specs(OnConflict.RETURN, keys))
    with CaptureQueriesContext(connections[database()]) as asked:
        told = lifecycle.enqueue_each(specs(on_conflict, MANY))

    assert len(asked) < 20
    assert Task.objects.count() == keys
    refused = sum(isinstance(one, DuplicateKey) for one in told)
    assert refused == ((MANY if before else MANY - keys) if on_conflict == OnConflict.REJECT else 0)
    if on_conflict == OnConflict.REPLACE:
        assert Task.objects.filter(title=str(MANY - 1)).count() == 1
        assert [one.title for one in told if isinstance(one, Enqueued)] == list(map(str, range(MANY)))


@pytest.mark.parametrize("status", [None, Status.PENDING, Status.PROCESSING])
def test_together_they_come_to_what_they_would_one_after_the_other(status: Status | None) -> None:
    known = (None, ["default"], None, None)  # the second is of a token for one queue
    wishes = [
        Unique(key="-".join(how), on_conflict=on_conflict, queues=queues)
        for how in product(OnConflict, repeat=4)
        for on_conflict, queues in zip(how, known, strict=True)
    ]

    def specs(owner: str) -> list[TaskSpec]:
        queues = cycle(["default", "default", "mail"])
        return [
            TaskSpec(handler="demo.echo", owner=owner, title=f"{number}", unique=unique, queue=next(queues))
            for number, unique in enumerate(wishes)
        ]

    def shown(told: Sequence[Told], owner: str) -> list[Any]:
        names = {task.pk: f"task of {task.unique_key}" for task in Task.objects.filter(owner=owner)}
        return [
            (one.task_id and names[one.task_id], one.why, one.at)
            if isinstance(one, DuplicateKey)
            else (names[one.id], one.title, one.queue, one.status, one.deduplicated)
            for one in told
        ]

    if status is not None:
        for owner in ("together", "apart"):
            lifecycle.enqueue([replace(spec, title="before") for spec in specs(owner)[::4]])
        if status == Status.PROCESSING:
            lifecycle.claim(claimant(handlers=("demo.echo",)), limit=1000, now=timezone.now())

    together = lifecycle.enqueue_each(specs("together"))
    apart = [told for spec in specs("apart") for told in lifecycle.enqueue_each([spec])]

    assert shown(together, "together") == shown(apart, "apart")
    columns = ("unique_key", "title", "queue", "status", "unique_while")
    rows = [sorted(Task.objects.filter(owner=owner).values_list(*columns)) for owner in ("together", "apart")]
    assert rows[0] == rows[1]


@pytest.mark.parametrize("before", [False, True])
def test_a_batch_with_one_that_is_rejected_makes_nothing(api: Api, before: bool) -> None:
    made = [make(api)] if before else []

    problem = batch(api, {"title": "plain"}, wish(), wish(on_conflict="reject")).problem(409, "duplicate")

    assert [error["pointer"] for error in problem["errors"]] == ["/tasks/2/unique/key"]
    assert problem.get("task_id") == (made[0] if made else None), "one that is not made has no name"
    assert [str(pk) for pk in Task.objects.values_list("pk", flat=True)] == made


def test_the_same_request_again_gives_the_same_answer(api: Api) -> None:
    def post(key: str) -> Answer:
        return api.ask("POST", "/tasks", json.dumps(wish()).encode(), **{"Idempotency-Key": key})

    first, second, again = post("a"), post("b"), post("b")

    assert (first.status, second.status, again.status) == (201, 200, 200)
    assert second.body == again.body
    assert again.headers["Idempotency-Replayed"] == "true"
    assert post("a").body == first.body


def test_a_second_one_can_wait_for_the_first(api: Api) -> None:
    first = make(api, **{"while": "ttl", "ttl_seconds": 60})
    settle(Succeeded('"done"'))

    answer = api.ask("POST", "/tasks", json.dumps(wish()).encode(), Prefer="wait=5")

    shown = answer.json()
    assert (answer.status, shown["id"], shown["result"]) == (200, first, "done")
    assert shown["deduplicated"] is True


# -- what is refused


@pytest.mark.parametrize(
    ("unique", "pointer", "code"),
    [
        ({}, "/unique/key", "required"),
        (None, "/unique", "type"),
        ("k", "/unique", "type"),
        (["k"], "/unique", "type"),
        ({"key": ""}, "/unique/key", "blank"),
        ({"key": " "}, "/unique/key", "blank"),
        ({"key": 1}, "/unique/key", "type"),
        ({"key": None}, "/unique/key", "type"),
        ({"key": "x" * 256}, "/unique/key", "length"),
        ({"key": "k", "while": "always"}, "/unique/while", "choice"),
        ({"key": "k", "while": ["live"]}, "/unique/while", "type"),
        ({"key": "k", "while": "ttl"}, "/unique/ttl_seconds", "required"),
        ({"key": "k", "while": "ttl", "ttl_seconds": None}, "/unique/ttl_seconds", "required"),
        ({"key": "k", "on_conflict": None}, "/unique/on_conflict", "type"),
        ({"key": "k", "on_conflict": "REPLACE"}, "/unique/on_conflict", "choice"),
        ({"key": "k", "ttl_seconds": 0}, "/unique/ttl_seconds", "range"),
        ({"key": "k", "ttl_seconds": -1}, "/unique/ttl_seconds", "range"),
        ({"key": "k", "ttl_seconds": 1e300}, "/unique/ttl_seconds", "range"),
        ({"key": "k", "ttl_seconds": True}, "/unique/ttl_seconds", "type"),
        ({"key": "k", "ttl_seconds": "60"}, "/unique/ttl_seconds", "type"),
        ({"key": "k", "until/x": 1}, "/unique/until~1x", "unknown"),
    ],
)
def test_what_is_wrong_is_told_by_its_place(api: Api, unique: Any, pointer: str, code: str) -> None:
    body = {"title": "a", "unique": unique}

    problem = api.post("/tasks", body).problem(400, "invalid-field")
    in_batch = batch(api, {"title": "a"}, body).problem(400, "invalid-field")

    assert [(error["pointer"], error["code"]) for error in problem["errors"]] == [(pointer, code)]
    assert [error["pointer"] for error in in_batch["errors"]] == [f"/tasks/1{pointer}"]
    assert Task.objects.count() == 0


@pytest.mark.parametrize("key", ["\x00", "\ud800"])
def test_a_key_that_no_database_keeps_is_refused(api: Api, key: str) -> None:
    ask(api, key=key).problem(400, "invalid-json")


@pytest.mark.parametrize("key", ["x" * 255, "ключ 🔑", "' OR 1=1 --", "%s", "{values}"])
def test_any_other_text_is_a_key(api: Api, key: str) -> None:
    first = make(api, key=key)

    assert ask(api, key=key).json()["id"] == first


# -- many at once


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("end", "there"), [("COMMIT", True), ("ROLLBACK", False)])
def test_one_that_is_just_being_made_is_waited_for(end: str, there: bool) -> None:
    """Of two at once the second finds no one when it looks, and somebody when it inserts."""
    [first] = lifecycle.enqueue([SPEC])
    with connections[database()].copy().cursor() as other, ThreadPoolExecutor(1) as thread:
        other.execute("BEGIN")
        other.execute("UPDATE tasks SET unique_key = 'wanted' WHERE id = %s", (first.id,))
        asked = thread.submit(in_a_thread, replace(SPEC, unique=Unique(key="wanted")))
        try:
            wait_until(somebody_waits, "it waits for the other")
            other.execute(end)
        finally:
            other.connection.close()
        [found] = asked.result(30)
    assert found.deduplicated is there
    assert (found.id == first.id) is there
    assert Task.objects.count() == (1 if there else 2)


SPEC = TaskSpec(handler="demo.echo", unique=Unique(key="k"))


def in_a_thread(spec: TaskSpec) -> list[Enqueued]:
    try:
        return lifecycle.enqueue([spec])
    finally:
        connections.close_all()


def somebody_waits() -> bool:
    with connections[database()].cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND wait_event_type = 'Lock' AND query LIKE '%INSERT INTO tasks%'"
        )
        [waiting] = cursor.fetchone()
    return bool(waiting)


RACERS = 50


@pytest.mark.parametrize("on_conflict", ["return", "reject", "replace"])
def test_many_at_the_same_instant_make_one_task(
    tmp_path_factory: pytest.TempPathFactory, own_databases: OwnDatabases, on_conflict: str
) -> None:
    """Through gunicorn, of two processes with several threads each."""
    folder = tmp_path_factory.mktemp("race")
    where = own_databases.make(folder)
    with api_server(folder, where, TASKSERVICE_API_PROCESSES="2") as server:

        def post(number: int) -> tuple[int, bytes]:
            body = wish(key=f"race-{number // RACERS}", on_conflict=on_conflict)
            return server.ask("POST", "/tasks", json.dumps(body).encode())

        with ThreadPoolExecutor(RACERS) as clients:
            answers = list(clients.map(post, range(2 * RACERS)))

    statuses = sorted(status for status, _ in answers)
    assert statuses == sorted([201] * 2 + [409 if on_conflict == "reject" else 200] * (2 * RACERS - 2))
    assert rows(where, "SELECT count(*) FROM tasks") == [(2,)]
