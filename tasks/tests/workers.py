"""Real workers for tests: processes, signals, the log they write, and waiting with a deadline."""

from __future__ import annotations

import ctypes
import glob
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
import pytest

from tasks import lifecycle
from tasks.contract import TaskSpec
from tasks.models import Task
from tasks.models.task import database
from tasks.states import FINISHED
from tasks.tests.faults import tasks as _faults  # noqa: F401 - so that this process knows them
from tasks.worker.lock import place_of_locks

PATIENCE = 30.0  # seconds; a condition that is not met by then is not met
STEP = 0.02


def wait_until[T](condition: Callable[[], T], what: str = "", *, patience: float = PATIENCE) -> T:
    """The first truthy answer of ``condition``; fails when none comes in time."""
    deadline = time.monotonic() + patience
    while not (answer := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"not within {patience:g} s: {what or condition}")
        time.sleep(STEP)
    return answer


def enqueue(handler: str, **fields: Any) -> UUID:
    """One task by ``TaskSpec``; payload members may be given as ``payload={...}``."""
    [made] = lifecycle.enqueue([TaskSpec(handler=handler, **fields)])
    return made.id


def finished(task_id: UUID) -> Task | None:
    return Task.objects.filter(pk=task_id, status__in=FINISHED).first()


def wait_finished(task_id: UUID, *, patience: float = PATIENCE) -> Task:
    task = wait_until(lambda: finished(task_id), f"task {task_id} finished", patience=patience)
    assert task is not None
    return task


def wait_all_finished(*, patience: float = 60) -> None:
    unfinished = Task.objects.exclude(status__in=FINISHED)
    wait_until(lambda: not unfinished.exists(), "all tasks finished", patience=patience)


def error_type(task: Task) -> str:
    assert task.error is not None
    return str(task.error["type"])


def runner_of(path: Path, *, attempt: int = 1) -> psutil.Process:
    """The process in which an attempt has begun, by what ``fault.record`` and its like have written."""

    def pids() -> list[int]:
        begun = [line for line in lines(path) if line[0] == "start" and int(line[2]) == attempt]
        return [int(pid) for *_, pid in begun]

    return psutil.Process(wait_until(pids, f"attempt {attempt} began")[-1])


PR_SET_PDEATHSIG = 1


def _die_with_parent() -> None:
    """No worker outlives a run of the tests that was killed."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class RunningWorker:
    """One ``manage.py runworkers`` and everything it started."""

    def __init__(self, env: dict[str, str], log: Path, *arguments: str, under: Sequence[str] = ()) -> None:
        """``under``: a program that becomes the worker, such as one that enters a namespace."""
        self._log = log
        manage = Path(__file__).parents[2] / "manage.py"
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [*under, sys.executable, str(manage), "runworkers", "--log-format", "json", *arguments],
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        self._seen: set[psutil.Process] = set()

    @property
    def pid(self) -> int:
        return self.process.pid

    def log(self) -> list[dict[str, Any]]:
        """The events so far."""
        lines = self._log.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def output(self) -> str:
        return self._log.read_text()

    def events(self, name: str) -> list[dict[str, Any]]:
        return [line for line in self.log() if line["event"] == name]

    def wait_event(self, name: str, *, count: int = 1) -> list[dict[str, Any]]:
        wait_until(lambda: len(self.events(name)) >= count, f"{count} times {name} in the log")
        return self.events(name)

    def children(self) -> list[psutil.Process]:
        """The forkserver, the executors and whatever they started, alive now."""
        with suppress(psutil.NoSuchProcess):
            alive = [
                child for child in psutil.Process(self.pid).children(recursive=True) if child.is_running()
            ]
            self._seen.update(alive)
            return [child for child in alive if child.status() != psutil.STATUS_ZOMBIE]
        return []

    def executors(self) -> list[psutil.Process]:
        return [child for child in self.children() if "taskservice: executor" in _title(child)]

    def wait_executors(self, count: int) -> list[psutil.Process]:
        return wait_until(
            lambda: found if len(found := self.executors()) == count else [], f"{count} executors"
        )

    def forkserver(self) -> psutil.Process:
        """What its executors are forked from."""
        found = wait_until(
            lambda: [child for child in self.children() if "multiprocessing.forkserver" in _title(child)],
            "the forkserver",
        )
        return found[0]

    def cpu_seconds(self) -> float:
        """What the dispatcher has used so far, without its executors."""
        times = psutil.Process(self.pid).cpu_times()
        return float(times.user + times.system)

    def kill(self) -> None:
        """kill -9 of the dispatcher alone."""
        self.children()
        self.process.kill()
        self.process.wait()

    def kill_everything(self) -> None:
        """kill -9 of all its processes, none of which sees another end first."""
        for process in [psutil.Process(self.pid), *self.children()]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait()

    def survivors(self) -> list[psutil.Process]:
        """Of all the processes that were ever seen below this worker, those that still live."""
        return [process for process in self._seen if _alive(process)]

    def signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    def wait(self, *, patience: float = PATIENCE) -> int:
        """Its exit code."""
        return self.process.wait(timeout=patience)

    def stop(self, *, patience: float = PATIENCE) -> int:
        self.children()
        self.signal()
        return self.wait(patience=patience)

    def destroy(self) -> None:
        """For the end of a test: nothing of it is left, whatever state it is in."""
        self.children()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for process in self._seen:
            with suppress(psutil.NoSuchProcess):
                process.kill()


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


RunWorkers = Callable[..., RunningWorker]


@pytest.fixture
def run_workers(child_env: dict[str, str], tmp_path: Path) -> Iterator[RunWorkers]:
    """Start ``manage.py runworkers`` on the test's database; with ``NAME=value`` for its environment."""
    running: list[RunningWorker] = []

    def start(*arguments: str, under: Sequence[str] = (), **env: str) -> RunningWorker:
        full = {
            **child_env,
            "TASKSERVICE_APPS": "tasks.tests.faults",
            "TASKSERVICE_GRACE_SECONDS": "5",
            **env,
        }
        worker = RunningWorker(full, tmp_path / f"worker-{len(running)}.log", *arguments, under=under)
        running.append(worker)
        return worker

    yield start
    for worker in running:
        worker.destroy()
        print(worker.output())  # shown when the test has failed


def assert_gone(worker: RunningWorker) -> None:
    """Within two seconds of its dispatcher's end nothing of it is left."""
    wait_until(lambda: not worker.survivors(), f"nothing is left of {worker.survivors()}", patience=2)


def lock_files(worker: RunningWorker) -> list[str]:
    """Those that this worker holds, or has left."""
    return glob.glob(f"{glob.escape(place_of_locks(database()))}-worker-*:{worker.pid}:*")


def lines(path: Path) -> list[list[str]]:
    """What ``fault.record`` and its like have written, split into words."""
    return [line.split() for line in path.read_text().splitlines()] if os.path.exists(path) else []
