"""The service's commands under fire, and the process that runs each of them now."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import psutil

from bench.chaos.facts import NEVER, Life, Survival
from bench.service import EXECUTOR, Failed, title

WATCHED_SECONDS = 15.0  # an executor that lives for so long without its dispatcher lives for ever


@dataclass(slots=True)
class Part:
    """One command, started again whenever it has ended."""

    name: str
    start: Callable[[], subprocess.Popen[bytes]]
    process: subprocess.Popen[bytes]
    began: float = field(default_factory=time.monotonic)
    start_at: float | None = None  # when it is to be started again; None: it runs
    asked_at: float | None = None  # to stop
    killed: bool = False

    @property
    def alive(self) -> bool:
        return self.start_at is None

    @property
    def works(self) -> bool:
        return self.name.startswith("worker")

    @property
    def here(self) -> psutil.Process:
        return psutil.Process(self.process.pid)

    def family(self) -> list[psutil.Process]:
        with suppress(psutil.NoSuchProcess):
            return sorted(self.here.children(recursive=True), key=lambda process: process.pid)
        return []

    def executors(self) -> list[psutil.Process]:
        return [child for child in self.family() if title(child).startswith(EXECUTOR)]

    def start_again(self) -> None:
        self.process = self.start()
        self.began = time.monotonic()
        self.start_at = self.asked_at = None
        self.killed = False

    def life(self, ended_at: float = NEVER) -> Life:
        return Life(
            name=self.name,
            pid=self.process.pid,
            began=self.began,
            ended_at=ended_at,
            code=None if ended_at == NEVER else self.process.returncode,
            asked_at=self.asked_at,
            killed=self.killed,
        )


def expect_alive(parts: Iterable[Part], folder: Path) -> None:
    """Raises Failed with the end of its log if one has fallen before anybody harmed it."""
    for part in parts:
        if part.process.poll() is not None:
            told = (folder / f"{part.name}.log").read_text()[-2000:]
            raise Failed(f"{part.name} ended by itself, exit code {part.process.returncode}\n{told}")


@dataclass(slots=True)
class Doomed:
    """An executor whose dispatcher was killed."""

    process: psutil.Process
    worker: int
    since: float

    def survival(self, now: float) -> Survival | None:
        """None: it lives, and may for another while."""
        if not dead(self.process) and now - self.since < WATCHED_SECONDS:
            return None
        return Survival(pid=self.process.pid, worker=self.worker, seconds=now - self.since)


@dataclass(slots=True)
class Later:
    """Something that is to be done at a time."""

    at: float
    act: Callable[[], object]


def resume(process: psutil.Process) -> None:
    with suppress(psutil.NoSuchProcess):
        process.resume()


def waking(process: psutil.Process, at: float) -> Later:
    return Later(at, partial(resume, process))


def dead(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def bury_adopted(own: set[int]) -> None:
    """Orphans come to this process: see ``adopt_orphans``."""
    for child in psutil.Process().children():
        if child.pid not in own and dead(child):
            with suppress(ChildProcessError):
                os.waitpid(child.pid, os.WNOHANG)
