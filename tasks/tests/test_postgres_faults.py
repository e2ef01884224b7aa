"""PostgreSQL killed, restarted, cut off or silent under a worker: it comes back, and loses nothing."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tasks.models import Attempt, Task
from tasks.states import Status
from tasks.tests.own_server import (
    assert_each_completed_once,
    completed,
    enqueue_many,
    own_server,
    queue_on,
    reconnect,
    terminate_all,
)
from tasks.tests.postgres import Postgres
from tasks.tests.proxy import Proxy, proxy
from tasks.tests.workers import (
    RunWorkers,
    assert_gone,
    enqueue,
    lines,
    run_workers,
    runner_of,
    wait_all_finished,
    wait_finished,
    wait_until,
)

__all__ = ["own_server", "run_workers"]

pytestmark = pytest.mark.postgres
BACK_WITHIN = 5.0  # seconds after the database can be reached again
SILENCE_SECONDS = 8.0
DRAIN = 200  # tasks of 20 ms for two executors


@dataclass(frozen=True)
class Queue:
    name: str
    server: Postgres
    way: Proxy

    @property
    def env(self) -> dict[str, str]:
        return {"DATABASE_URL": self.way.url(self.name)}

    def restart(self, how: signal.Signals) -> None:
        self.server.stop(how)
        self.server.start()
        reconnect()


@pytest.fixture
def queue(own_server: Postgres, transactional_db: None) -> Iterator[Queue]:
    with queue_on(own_server) as name, proxy(own_server.socket) as way:
        yield Queue(name, own_server, way)


def silence(queue: Queue) -> None:
    queue.way.fall_silent()
    time.sleep(SILENCE_SECONDS)
    queue.way.speak()


def lose_the_way(queue: Queue) -> None:
    """As when a firewall forgets: what is open is never heard of again, and what is new goes through."""
    queue.way.fall_silent()
    queue.way.speak()


FAULTS: dict[str, Callable[[Queue], object]] = {
    "sessions killed": lambda queue: terminate_all(queue.name),
    "connections reset": lambda queue: queue.way.cut(),
    "fast restart": lambda queue: queue.restart(signal.SIGINT),
    "immediate restart": lambda queue: queue.restart(signal.SIGQUIT),
    "silence": silence,
    "connections forgotten": lose_the_way,
}


SLOWER = {"connections reset", "fast restart"}  # than the others they show little more


@pytest.mark.parametrize(
    "fault", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOWER)) for name in FAULTS]
)
def test_a_worker_is_back_within_seconds_and_each_task_completes_once(
    run_workers: RunWorkers, queue: Queue, tmp_path: Path, fault: str
) -> None:
    enqueue_many(DRAIN, "fault.record", path=str(tmp_path / "ran"), seconds=0.02)
    worker = run_workers("--n", "2", TASKSERVICE_LEASE_SECONDS="10", **queue.env)
    wait_until(lambda: completed() >= 20, "the drain is on")

    FAULTS[fault](queue)
    before, since = completed(), time.monotonic()
    wait_until(lambda: completed() > before, "it works again")
    back = time.monotonic() - since
    wait_all_finished()

    print(f"{fault}: back after {back:.2f} s")
    assert before < DRAIN
    assert back < BACK_WITHIN
    assert_each_completed_once()
    assert set(Task.objects.values_list("attempt", flat=True)) == {1}
    assert worker.events("database.recovered")
    worker.wait_event("bell.lost")
    assert worker.stop() == 0


def test_a_turn_whose_commit_was_not_heard_of_costs_no_attempt(
    run_workers: RunWorkers, queue: Queue, tmp_path: Path
) -> None:
    """Its outcomes are written, and nobody knows of the leases that it claimed."""
    ran = tmp_path / "ran"
    enqueue_many(20, "fault.record", path=str(ran), seconds=0.02)
    queue.way.swallow_commit(b"attempt = attempt + 1")
    worker = run_workers("--n", "2", TASKSERVICE_LEASE_SECONDS="60", **queue.env)
    wait_until(lambda: queue.way.commits_swallowed, "it is lost")

    since = time.monotonic()
    wait_all_finished()
    print(f"all done after {time.monotonic() - since:.2f} s")

    assert_each_completed_once()
    assert len(lines(ran)) == 2 * 20
    assert set(Task.objects.values_list("attempt", flat=True)) == {1}
    assert not Attempt.objects.exists()
    assert worker.stop() == 0


@pytest.mark.slow
def test_a_worker_that_is_cut_off_inside_a_transaction_holds_its_tasks_for_no_longer_than_others(
    run_workers: RunWorkers, queue: Queue, tmp_path: Path
) -> None:
    """Its rows are locked, and the server waits for a word from it."""
    ran, go = tmp_path / "ran", tmp_path / "go-2"
    go.touch()
    payload = {"path": str(ran), "file": str(tmp_path / "go")}
    task_id = enqueue("fault.until", payload=payload)
    queue.way.fall_silent_after(b"SET lease_expires_at")  # the first renewal; later ones have but a name
    run_workers("--n", "1", TASKSERVICE_LEASE_SECONDS="2", **queue.env)
    runner_of(ran)
    other = run_workers("--n", "1", DATABASE_URL=queue.server.url(queue.name), TASKSERVICE_LEASE_SECONDS="2")
    other.wait_executors(1)

    wait_until(lambda: queue.way.silent, "it renews its lease, and does not hear that it may commit")
    since = time.monotonic()
    wait_finished(task_id)

    print(f"run by another after {time.monotonic() - since:.2f} s")
    assert time.monotonic() - since < 2 + 5
    assert_each_completed_once()


@pytest.mark.slow
def test_sigterm_while_the_database_is_silent_ends_the_worker_in_time(
    run_workers: RunWorkers, queue: Queue, tmp_path: Path
) -> None:
    ran, go = tmp_path / "ran", tmp_path / "go"
    task_id = enqueue("fault.until", payload={"path": str(ran), "file": str(go)})
    settings = {"TASKSERVICE_GRACE_SECONDS": "1", "TASKSERVICE_LEASE_SECONDS": "4"}
    worker = run_workers("--n", "1", **settings, **queue.env)
    runner_of(ran)

    queue.way.fall_silent()
    since = time.monotonic()
    assert worker.stop() == 1
    print(f"ended after {time.monotonic() - since:.2f} s")
    assert time.monotonic() - since < 1 + 10
    assert_gone(worker)
    queue.way.speak()
    go.touch()
    run_workers("--n", "1", **settings, **queue.env)

    assert wait_finished(task_id).status == Status.COMPLETED
    assert_each_completed_once()
