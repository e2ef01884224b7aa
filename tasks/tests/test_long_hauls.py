"""Very many tasks: a backlog that outlives its workers, and a day's worth of work in which nothing grows."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from urllib.error import HTTPError

import psutil
import pytest

from tasks import lifecycle
from tasks.contract import TaskSpec
from tasks.models import Task
from tasks.states import FINISHED, Status
from tasks.tests.databases import rows
from tasks.tests.service import Serve, Service, serve, where
from tasks.tests.workers import RunningWorker, RunWorkers, run_workers, wait_until
from tasks.worker.pace import HAND_AHEAD_LEASES

__all__ = ["run_workers", "serve", "where"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

BACKLOG = 100_000
WAVES, OF_EACH = 40, 500
GROWTH_MB = 8  # of one process, between the first third of the day and its end
AT_ONCE = 1000


# --- a backlog


def test_a_backlog_of_a_hundred_thousand_survives_its_workers_and_is_gone_on_with_at_once(
    run_workers: RunWorkers,
) -> None:
    for _ in range(BACKLOG // AT_ONCE):
        lifecycle.enqueue([TaskSpec(handler="fault.noop")] * AT_ONCE)
    first = run_workers("--n", "2")
    wait_until(lambda: completed() > BACKLOG / 20, "it works", patience=60)
    first.kill_everything()
    left = completed()
    assert left < BACKLOG / 2

    second = run_workers("--n", "2")
    began = gone_on_with(second, left)
    wait_until(lambda: completed() == BACKLOG, "all is done", patience=600)

    print(f"{left} were done; the next worker went on {began:.2f} s after its start")
    assert began < 10
    ran = set(Task.objects.values_list("status", "attempt").distinct())
    assert ran <= {(Status.COMPLETED, 1), (Status.COMPLETED, 2)}
    # those that had begun: in hand, and settled by a turn that was not committed yet, and by the next
    assert Task.objects.filter(attempt=2).count() <= 4 * 2 * HAND_AHEAD_LEASES
    assert not second.events("database.failed")
    assert second.stop() == 0


def completed() -> int:
    return Task.objects.filter(status=Status.COMPLETED).count()


def gone_on_with(worker: RunningWorker, before: int) -> float:
    """Seconds from its start."""
    wait_until(lambda: completed() > before, "it goes on", patience=60)
    return time.time() - psutil.Process(worker.pid).create_time()


# --- a day


@dataclass(frozen=True)
class Footprint:
    megabytes: float  # PSS: what is shared counts in part
    files: int
    threads: int

    @classmethod
    def of(cls, process: psutil.Process) -> Footprint:
        return cls(process.memory_full_info().pss / 2**20, process.num_fds(), process.num_threads())


@pytest.fixture
def service(serve: Serve) -> Iterator[Service]:
    # of what fails it says nothing: nobody reads that here, and a pipe that is full holds up whoever writes
    yield serve("--n", "2", TASKSERVICE_API_PROCESSES="1", LOG_LEVEL="ERROR")


def test_a_days_worth_of_work_leaves_no_trace_in_the_dispatcher_and_the_api(
    service: Service, where: dict[str, str]
) -> None:
    """Made by batches and one by one, looked at, cancelled, failed, tried again: 20,000 tasks in waves."""
    [api] = wait_until(lambda: service.side("api").children(), "the API serves")
    wait_until(lambda: has_workers(service), "a worker is there")
    watched = {"dispatcher": service.side("workers"), "api": api}
    after_a_third: dict[str, Footprint] = {}
    for wave in range(WAVES):
        one_wave(service)
        wait_until(lambda: not waiting(where), "the wave has been run", patience=60)
        if wave == WAVES // 3:
            after_a_third = {name: Footprint.of(process) for name, process in watched.items()}
    in_the_end = {name: Footprint.of(process) for name, process in watched.items()}

    assert rows(where, "SELECT count(*) FROM tasks") == [(WAVES * OF_EACH,)]
    for name, before in after_a_third.items():
        after = in_the_end[name]
        print(f"{name}: {before} and then {after}")
        assert after.megabytes - before.megabytes < GROWTH_MB, name
        assert after.files <= before.files + 2, name
        assert after.threads <= before.threads + 1, name


def one_wave(service: Service) -> None:
    singly = 20
    echo = {"handler": "demo.echo", "payload": {"text": "x" * 500}, "tags": ["day"]}
    broken = {"handler": "demo.fail", "max_attempts": 1}
    batch = [echo] * (OF_EACH - singly - 10) + [broken] * 10
    service.call("/tasks/batch", {"tasks": batch})
    made = [service.call("/tasks", {**echo, "delay_seconds": number % 2}) for number in range(singly)]
    service.call(f"/tasks/{made[0]['id']}")
    service.call("/tasks?limit=50&tag=day&count=exact")
    service.call("/readyz?require=workers")


def has_workers(service: Service) -> bool:
    with suppress(HTTPError):
        return bool(service.call("/readyz?require=workers"))
    return False


def waiting(where: dict[str, str]) -> bool:
    finished = ", ".join(f"'{status.value}'" for status in FINISHED)
    return bool(rows(where, f"SELECT 1 FROM tasks WHERE status NOT IN ({finished}) LIMIT 1"))
