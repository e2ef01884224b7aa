"""Files and processes run out, or very much comes at once: it waits, says so, and goes on."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import psutil
import pytest
from django.db.models import Min
from django.utils import timezone

from tasks import lifecycle
from tasks.contract import TaskSpec
from tasks.models import Attempt, Task
from tasks.states import Status
from tasks.tests.api_server import TASK, Server, api_server
from tasks.tests.databases import OwnDatabases
from tasks.tests.workers import (
    RunWorkers,
    enqueue,
    lines,
    run_workers,
    runner_of,
    wait_all_finished,
    wait_finished,
    wait_until,
)
from tasks.worker.pace import HAND_AHEAD_LEASES

__all__ = ["run_workers"]

WHAT = {"nofile": resource.RLIMIT_NOFILE, "nproc": resource.RLIMIT_NPROC}
USER = 54321  # nobody else's, whose processes are those of the test alone
RIGHTS = "+dac_override,+dac_read_search"  # to read and write what belongs to root
BACK_WITHIN = 15.0  # seconds; a start that fails is tried again after 1 s, 2 s, 4 s and so on


@contextmanager
def limited(what: str, *processes: psutil.Process, by: Sequence[str] = ()) -> Iterator[None]:
    """They get no more of it. ``by``: what makes a command one of their user."""

    def limit(process: psutil.Process, most: int) -> None:
        words = ["prlimit", "--pid", str(process.pid), f"--{what}={most}:"]
        subprocess.run([*by, *words], check=process.is_running(), capture_output=True)

    for process in processes:
        limit(process, 1)
    try:
        yield
    finally:
        for process in processes:
            limit(process, resource.getrlimit(WHAT[what])[0])


@pytest.fixture
def another_user() -> Sequence[str]:
    """What makes a command another user's: root's own processes are not counted."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("only root, with setpriv, starts processes of another user")
    rights = ["--inh-caps", RIGHTS, "--ambient-caps", RIGHTS]
    return ["setpriv", "--reuid", str(USER), "--clear-groups", *rights]


@pytest.mark.parametrize("what", WHAT)
def test_a_worker_that_can_start_no_executor_waits_says_so_and_loses_no_task(
    run_workers: RunWorkers, another_user: Sequence[str], tmp_path: Path, what: str
) -> None:
    ran = tmp_path / "ran"
    until = {"path": str(ran), "file": str(tmp_path / "go")}
    worker = run_workers("--n", "2", under=another_user, TASKSERVICE_LEASE_SECONDS="60")
    worker.wait_executors(2)
    long = enqueue("fault.until", payload=until)
    runner_of(ran)

    with limited(what, psutil.Process(worker.pid), worker.forkserver(), by=another_user):
        broken = enqueue("fault.die", payload={"how": "kill"})
        worker.wait_event("executor.not-started")
        others = [enqueue("fault.noop") for _ in range(20)]
        assert worker.process.poll() is None
    wait_until(lambda: len(worker.executors()) == 2, "it has its executors again", patience=BACK_WITHIN)
    (tmp_path / "go").touch()

    ended = [wait_finished(task_id) for task_id in (long, broken, *others)]
    assert {task.status for task in ended} == {Status.COMPLETED}
    assert [task.attempt for task in ended if task.pk != broken] == [1] * 21  # nobody paid for it
    assert [attempt.task_id for attempt in Attempt.objects.filter(outcome="crashed")] == [broken]
    assert not worker.events("worker.gave-up")
    assert "Traceback" not in "".join(line for line in worker.output().splitlines() if line.startswith("{"))
    assert worker.stop() == 0


# --- what handlers leave behind


def test_an_executor_that_has_opened_half_of_the_files_it_may_is_replaced(run_workers: RunWorkers) -> None:
    """Else every task would fail once it has them all."""
    worker = run_workers("--n", "1", under=["prlimit", "--nofile=400"])
    first = worker.wait_executors(1)
    spare = wait_finished(enqueue("fault.leave_everything", payload={"path": "", "files": 50}))
    assert not worker.events("executor.recycled")

    wait_finished(enqueue("fault.leave_everything", payload={"path": "", "files": 150}))
    worker.wait_event("executor.recycled")

    after = wait_finished(enqueue("fault.leave_everything", payload={"path": "", "files": 0}))
    assert spare.result == first[0].pid != after.result
    assert after.status == Status.COMPLETED


@pytest.fixture
def ran(tmp_path: Path) -> Iterator[Path]:
    """Where handlers write the ids of what they leave behind; that is ended with the test."""
    path = tmp_path / "ran"
    yield path
    for pid in _left(path):
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            if process.name() in ("sh", "sleep"):  # by now it may be somebody else's
                process.kill()


def _left(path: Path) -> list[int]:
    return [int(pid) for words in lines(path) for pid in words]


def test_whatever_handlers_leave_behind_goes_with_their_executors(run_workers: RunWorkers, ran: Path) -> None:
    """Memory, files, threads, and processes with processes of their own: of 60 tasks at most the last few."""
    worker = run_workers("--n", "2", TASKSERVICE_RECYCLE_TASKS="5")
    worker.wait_executors(2)
    before = held_by(worker.pid)

    for _ in range(60):
        enqueue("fault.leave_everything", payload={"path": str(ran)})
    wait_all_finished()

    left = _left(ran)
    assert len(left) == 2 * 60
    wait_until(lambda: sum(map(psutil.pid_exists, left)) <= 2 * 2 * 6, "only what two executors may hold")
    for executor in worker.wait_executors(2):
        files, threads = held_by(executor.pid)
        assert files < 60
        assert threads < 12
    files, threads = held_by(worker.pid)
    assert files <= before[0] + 8
    assert threads == before[1]
    assert worker.stop() == 0
    wait_until(lambda: not any(map(psutil.pid_exists, left)), "nothing is left")


def held_by(pid: int) -> tuple[int, int]:
    """Files and threads."""
    process = psutil.Process(pid)
    return process.num_fds(), process.num_threads()


# --- the API


@pytest.fixture
def server(tmp_path: Path, own_databases: OwnDatabases) -> Iterator[Server]:
    with api_server(tmp_path, own_databases.make(tmp_path)) as running:
        yield running


def test_an_api_without_a_file_left_serves_as_many_as_before_once_it_has_some(server: Server) -> None:
    [arbiter] = [child for child in psutil.Process().children() if "gunicorn" in " ".join(child.cmdline())]
    wait_until(lambda: together(server, 12), "it has started")
    [process] = arbiter.children()

    with limited("nofile", process), closing(server.socket()) as waiting:
        waiting.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        wait_until(lambda: "api.no-more-files" in server.log.read_text(), "it has none")

    wait_until(lambda: together(server, 12), "twelve at once are served")
    assert server.ask("POST", "/tasks", TASK)[0] == 201
    assert process.is_running()
    assert "Traceback" not in server.log.read_text()


def together(server: Server, count: int) -> bool:
    """So many connections stay open, and each is answered without waiting for another to close."""
    began = time.monotonic()
    with ExitStack() as stack:
        connections = [stack.enter_context(closing(server.connect())) for _ in range(count)]
        statuses = []
        for connection in connections:
            connection.request("GET", "/healthz")
            with suppress(OSError):
                answer = connection.getresponse()
                answer.read()
                statuses.append(answer.status)
    return statuses == [200] * count and time.monotonic() - began < 4


# --- all at once


@pytest.mark.parametrize("count", [2_000, pytest.param(20_000, marks=pytest.mark.slow)])
@pytest.mark.timeout(300)
def test_of_many_tasks_that_are_due_at_one_moment_each_worker_takes_what_it_can_run(
    run_workers: RunWorkers, count: int
) -> None:
    workers = [run_workers("--n", "2") for _ in range(2)]
    for worker in workers:
        worker.wait_executors(2)
    due = timezone.now() + timedelta(seconds=2)
    for _ in range(count // 1000):
        lifecycle.enqueue([TaskSpec(handler="fault.noop", run_at=due)] * 1000)

    wait_all_finished(patience=200)

    assert set(Task.objects.values_list("status", "attempt", "fence")) == {(Status.COMPLETED, 1, 1)}
    assert not Attempt.objects.exists()
    of_one_claim = Counter(Task.objects.values_list("worker_id", "attempted_at"))
    assert max(of_one_claim.values()) <= 2 * HAND_AHEAD_LEASES
    assert len({worker_id for worker_id, _ in of_one_claim}) == 2
    begun = Task.objects.aggregate(first=Min("started_at"))["first"]
    assert timedelta(0) <= begun - due < timedelta(seconds=1)
    assert [worker.stop() for worker in workers] == [0, 0]
