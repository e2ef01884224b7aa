"""Workers on several hosts of one PostgreSQL: one is cut off from all others, and comes back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp

import pytest

from tasks.models import Task, Worker
from tasks.states import Status
from tasks.tests.namespaces import Host, hosts, why_not
from tasks.tests.own_server import assert_each_completed_once, enqueue_many, queue_on, server_with_tables
from tasks.tests.postgres import Postgres
from tasks.tests.workers import (
    RunningWorker,
    RunWorkers,
    enqueue,
    lines,
    run_workers,
    wait_all_finished,
    wait_finished,
    wait_until,
)

__all__ = ["run_workers"]

pytestmark = pytest.mark.postgres
LEASE_SECONDS = 2.0
RunOn = Callable[..., RunningWorker]
BACK_WITHIN = 5.0  # seconds after its cable is back


@pytest.fixture(scope="module")
def three_hosts() -> Iterator[list[Host]]:
    if reason := why_not():
        pytest.skip(reason)
    with hosts(3) as made:
        yield made


@pytest.fixture(scope="module")
def server(three_hosts: list[Host]) -> Iterator[Postgres]:
    with server_with_tables(*(host.server for host in three_hosts)) as running:
        yield running


@pytest.fixture
def queue(server: Postgres, transactional_db: None) -> Iterator[str]:
    with queue_on(server) as name:
        yield name


@pytest.fixture
def run_on(run_workers: RunWorkers, queue: str) -> Iterator[RunOn]:
    """As another machine would: what it keeps in its temporary folder is its own."""
    folders: list[str] = []

    def start(host: Host, *queues: str) -> RunningWorker:
        folders.append(mkdtemp(prefix="host-", dir="/tmp"))  # a socket's path is short
        return run_workers(
            "--n",
            "2",
            "--queues",
            ",".join(("default", *queues)),
            under=host.enter,
            DATABASE_URL=f"postgres://postgres@{host.server}/{queue}",
            TASKSERVICE_LEASE_SECONDS=str(LEASE_SECONDS),
            TMPDIR=folders[-1],
        )

    yield start
    for folder in folders:
        rmtree(folder, ignore_errors=True)


def held_by(worker: RunningWorker) -> set[str]:
    of_it = Worker.objects.filter(pid=worker.pid).values("pk")
    held = Task.objects.filter(worker_id__in=of_it, status=Status.PROCESSING)
    return {str(pk) for pk in held.values_list("pk", flat=True)}


@pytest.mark.parametrize("longer", [0, pytest.param(15, marks=pytest.mark.slow)])
def test_a_host_that_is_cut_off_loses_its_tasks_to_the_others_and_works_again_when_it_is_back(
    three_hosts: list[Host], run_on: RunOn, tmp_path: Path, longer: int
) -> None:
    """One of its handlers ends meanwhile, and one would go on for ever."""
    ran = tmp_path / "ran"
    lonely = run_on(three_hosts[0], "its-own")
    late, endless = (until(tmp_path, name) for name in ("late", "endless"))
    wait_until(lambda: held_by(lonely) == {late, endless} and len(lines(ran)) == 2, "it runs both")
    for host in three_hosts[1:]:
        run_on(host).wait_executors(2)

    three_hosts[0].cut_off()
    cut = time.monotonic()
    (tmp_path / "late-1").touch()
    enqueue_many(100, "fault.record", path=str(ran), seconds=0.1)
    wait_until(lambda: taken_over(ran, {late, endless}), "others run both", patience=LEASE_SECONDS + 5)
    print(f"taken over after {time.monotonic() - cut:.2f} s")
    [interrupted] = lonely.wait_event("task.interrupted")
    print(f"interrupted after {time.monotonic() - cut:.2f} s")
    time.sleep(longer)
    for_it_alone = enqueue("fault.noop", queue="its-own")
    three_hosts[0].connect()
    back = time.monotonic()
    wait_finished(for_it_alone, patience=BACK_WITHIN)
    print(f"back after {time.monotonic() - back:.2f} s")
    dropped = lonely.wait_event("outcome.dropped", count=2)
    wait_all_finished()

    assert (interrupted["task_id"], interrupted["why"]) == (endless, "lost")
    assert {(line["task_id"], line["fence"]) for line in dropped} == {(late, 1), (endless, 1)}
    assert {task.result for task in Task.objects.filter(pk__in=[late, endless])} == {2}
    assert_each_completed_once()
    assert lonely.stop() == 0


def until(tmp_path: Path, name: str) -> str:
    """A task whose second attempt ends at once, and the first when the file ``<name>-1`` is there."""
    (tmp_path / f"{name}-2").touch()
    payload = {"path": str(tmp_path / "ran"), "file": str(tmp_path / name)}
    return str(enqueue("fault.until", payload=payload, priority=1))


def taken_over(ran: Path, tasks: set[str]) -> bool:
    return tasks <= {task_id for word, task_id, attempt, *_ in lines(ran) if (word, attempt) == ("end", "2")}
