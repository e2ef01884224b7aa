"""PostgreSQL restarted, cut off or silent under the API: 503 in time, and served again at once."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass

import pytest

from tasks.models import Task
from tasks.tests.api_server import TASK, Server, api_server
from tasks.tests.own_server import own_server, queue_on, reconnect, terminate_all
from tasks.tests.postgres import Postgres
from tasks.tests.proxy import Proxy, proxy
from tasks.tests.workers import wait_until

__all__ = ["own_server"]

pytestmark = pytest.mark.postgres
ANSWER_WITHIN = 10.0  # seconds, whatever the database does
BACK_WITHIN = 5.0
READ, WRITE = ("GET", "/tasks", None), ("POST", "/tasks", TASK)


@dataclass(frozen=True)
class Api:
    server: Server
    postgres: Postgres
    name: str
    way: Proxy

    def ask(self, method: str, path: str, body: bytes | None = None, *, key: str = "") -> Answer:
        since = time.monotonic()
        with closing(self.server.connect()) as connection:
            connection.request(method, path, body, {"Idempotency-Key": key} if key else {})
            answer = connection.getresponse()
            told = answer.read()
            return Answer(answer.status, dict(answer.headers), told, time.monotonic() - since)

    def ask_all(self) -> list[Answer]:
        """More at once than there are threads, of both kinds."""
        with ThreadPoolExecutor(8) as pool:
            return list(pool.map(lambda call: self.ask(*call), [READ, WRITE] * 4))


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes
    seconds: float


@pytest.fixture
def api(
    own_server: Postgres, transactional_db: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Api]:
    folder = tmp_path_factory.mktemp("api")
    with (
        queue_on(own_server) as name,
        proxy(own_server.socket) as way,
        api_server(folder, {"DATABASE_URL": way.url(name), "DB_PATH": str(folder / "tasks.db")}) as server,
    ):
        yield Api(server, own_server, name, way)


def down(api: Api) -> Callable[[], None]:
    api.postgres.stop()
    return api.postgres.start


def crashed(api: Api) -> Callable[[], None]:
    api.postgres.stop(signal.SIGQUIT)
    return api.postgres.start


def silent(api: Api) -> Callable[[], None]:
    api.way.fall_silent()
    return api.way.speak


@pytest.mark.parametrize("outage", [down, pytest.param(crashed, marks=pytest.mark.slow), silent])
def test_during_an_outage_the_answer_is_503_in_time_and_afterwards_all_is_served(
    api: Api, outage: Callable[[Api], Callable[[], None]]
) -> None:
    assert {answer.status for answer in api.ask_all()} == {200, 201}  # each thread is connected

    end = outage(api)
    answers = [*api.ask_all(), *api.ask_all()]
    end()
    reconnect()
    since = time.monotonic()
    wait_until(lambda: {answer.status for answer in api.ask_all()} == {200, 201}, patience=BACK_WITHIN)

    slowest = max(answer.seconds for answer in answers)
    print(f"{outage.__name__}: 503 after {slowest:.2f} s, back after {time.monotonic() - since:.2f} s")
    for answer in answers:
        assert answer.status == 503, answer.body
        assert int(answer.headers["Retry-After"]) >= 1
        assert answer.seconds < ANSWER_WITHIN


def test_connections_that_are_cut_between_requests_are_not_noticed(api: Api) -> None:
    """By a restart, an administrator or a firewall."""
    api.ask_all()
    assert terminate_all(api.name)
    after_termination = {answer.status for answer in api.ask_all()}
    api.way.cut()
    time.sleep(0.2)  # until all are
    after_cut = {answer.status for answer in api.ask_all()}

    assert after_termination == after_cut == {200, 201}


def test_connections_that_are_forgotten_on_the_way_are_replaced_within_seconds(api: Api) -> None:
    """By a firewall: nothing comes through any more, and nobody says so. New ones go through."""
    api.ask_all()
    api.way.fall_silent()
    api.way.speak()
    since = time.monotonic()

    wait_until(lambda: {answer.status for answer in api.ask_all()} == {200, 201}, patience=BACK_WITHIN)

    print(f"back after {time.monotonic() - since:.2f} s")
    assert time.monotonic() - since < BACK_WITHIN


def test_a_commit_that_was_not_heard_of_is_unavailable_and_sent_again_gives_the_first_task(api: Api) -> None:
    api.way.swallow_commit(b"INSERT INTO")
    lost = api.ask(*WRITE, key="once")
    assert api.way.commits_swallowed == 1
    [made] = Task.objects.all()

    again = api.ask(*WRITE, key="once")

    assert (lost.status, again.status) == (503, 201)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert json.loads(again.body)["id"] == str(made.pk)
    assert Task.objects.count() == 1
