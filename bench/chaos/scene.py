"""The processes under fire: an API and two workers on one file, started again whenever they have ended."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

import psutil

from bench.chaos import FOLDER, RUNS
from bench.service import EXECUTOR, ROOT, Service, answers, title, wait_until

PR_SET_CHILD_SUBREAPER = 36
WORKERS, EXECUTORS, CLIENTS = 2, 3, 4
LEASE_SECONDS, GRACE_SECONDS = 4, 4
OUTLIVE_SECONDS = 2.0  # how long executors may outlive their dispatcher
STOP_SECONDS = GRACE_SECONDS + 10.0  # how long a worker may take to stop


def adopt_orphans() -> None:
    """Whatever loses its parent becomes a child of this process: nothing gets away unseen."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


@dataclass(slots=True)
class Part:
    """One of the service's commands, and the process that runs it now."""

    name: str
    start: Callable[[], subprocess.Popen[bytes]]
    process: subprocess.Popen[bytes]
    start_at: float | None = None  # when it is to be started again; None: it runs
    stopping_since: float | None = None

    @property
    def alive(self) -> bool:
        return self.start_at is None

    @property
    def here(self) -> psutil.Process:
        return psutil.Process(self.process.pid)

    def family(self) -> list[psutil.Process]:
        with suppress(psutil.NoSuchProcess):
            return self.here.children(recursive=True)
        return []

    def executors(self) -> list[psutil.Process]:
        return [child for child in self.family() if title(child).startswith(EXECUTOR)]


@dataclass(slots=True)
class Pause:
    """A process that was stopped for a while."""

    who: str
    process: psutil.Process
    began: float  # monotonic
    until: float
    over: bool = False


@dataclass(slots=True)
class Journal:
    """What was done to the service, and what it did that it must not."""

    began: float = field(default_factory=time.monotonic)
    deeds: list[str] = field(default_factory=list)
    trouble: list[str] = field(default_factory=list)

    def tell(self, deed: str) -> None:
        self.deeds.append(f"{time.monotonic():.3f} {deed}")

    def accuse(self, deed: str) -> None:
        self.trouble.append(deed)
        self.tell(f"TROUBLE: {deed}")


class Scene:
    def __init__(self, service: Service, listener: socket.socket, seed: int) -> None:
        self.service = service
        self.journal = Journal()
        self.pauses: list[Pause] = []
        self.parts: list[Part] = []
        self._listener = listener
        self._seed = seed
        self._clients: list[subprocess.Popen[bytes]] = []
        self._doomed: list[tuple[float, str, list[psutil.Process]]] = []  # until when, whose

    @property
    def workers(self) -> list[Part]:
        return [part for part in self.parts if part.name != "api"]

    @property
    def api(self) -> Part:
        return next(part for part in self.parts if part.name == "api")

    def open(self) -> None:
        (self.service.folder / RUNS).mkdir()
        self._add("api", partial(self.service.start_api, self._listener))
        for name in [f"worker-{number}" for number in range(1, WORKERS + 1)]:
            self._add(name, partial(self._start_worker, name))
        wait_until(lambda: answers(self._listener.getsockname()), "the API answers")
        wait_until(lambda: all(len(part.executors()) == EXECUTORS for part in self.workers), "executors")
        self._clients = [self._start_client(number) for number in range(CLIENTS)]

    def _add(self, name: str, start: Callable[[], subprocess.Popen[bytes]]) -> None:
        self.parts.append(Part(name, start, start()))

    def _start_worker(self, name: str) -> subprocess.Popen[bytes]:
        return self.service.start_workers(EXECUTORS, log=f"{name}.log")

    def _start_client(self, number: int) -> subprocess.Popen[bytes]:
        port = self._listener.getsockname()[1]
        arguments = [f"client-{number}", str(port), str(self._seed + number)]
        command = [sys.executable, "-m", "bench.chaos.clients", *arguments]
        return self.service.start(command, log="clients.log")

    # -- what happens to them

    def kill(self, part: Part, start_after: float) -> None:
        """kill -9; its executors have to end by themselves."""
        self._doom(part)
        part.process.kill()
        self._ended(part, start_after)

    def _doom(self, part: Part) -> None:
        self._doomed.append((time.monotonic() + OUTLIVE_SECONDS, part.name, part.executors()))

    def stop(self, part: Part) -> None:
        part.stopping_since = time.monotonic()
        part.process.send_signal(signal.SIGTERM)

    def pause(self, who: str, process: psutil.Process, seconds: float) -> None:
        with suppress(psutil.NoSuchProcess):
            process.suspend()
            now = time.monotonic()
            self.pauses.append(Pause(who, process, now, now + seconds))

    def is_paused(self, process: psutil.Process) -> bool:
        return any(pause.process == process and not pause.over for pause in self.pauses)

    def _ended(self, part: Part, start_after: float) -> None:
        part.process.wait()
        part.start_at = time.monotonic() + start_after

    # -- what goes on by itself

    def tick(self) -> None:
        """Wake, bury, accuse and start again whoever is due."""
        now = time.monotonic()
        for pause in self.pauses:
            if pause.until <= now and not pause.over:
                pause.over = True
                with suppress(psutil.NoSuchProcess):
                    pause.process.resume()
        self._bury_adopted()
        self._check_doomed(now)
        for part in self.parts:
            self._look_after(part, now)

    def _look_after(self, part: Part, now: float) -> None:
        if part.alive and part.process.poll() is not None:
            self._judge_end(part)
            part.start_at = now
        if self._is_overdue(part, now):
            self.journal.accuse(f"{part.name} did not stop within {STOP_SECONDS:g} s of SIGTERM")
            self.kill(part, 0)
        if part.start_at is not None and now >= part.start_at:
            part.process = part.start()
            part.start_at = part.stopping_since = None
            self.journal.tell(f"{part.name} started, pid {part.process.pid}")

    def _is_overdue(self, part: Part, now: float) -> bool:
        since = part.stopping_since
        return (
            part.alive and since is not None and now > since + STOP_SECONDS and not self._paused_since(since)
        )

    def _judge_end(self, part: Part) -> None:
        code, since = part.process.returncode, part.stopping_since
        self.journal.tell(f"{part.name} ended with {code}")
        if since is None:
            self.journal.accuse(f"{part.name} ended by itself, exit code {code}")
        elif code and not self._paused_since(since):
            self.journal.accuse(f"{part.name} was stopped with SIGTERM, and its exit code was {code}")

    def _paused_since(self, moment: float) -> bool:
        """Whether somebody was stopped meanwhile, perhaps with the write gate in hand."""
        return any(pause.until > moment for pause in self.pauses)

    def _bury_adopted(self) -> None:
        ours = {process.pid for process in self._own()}
        for child in psutil.Process().children():
            if child.pid not in ours and _dead(child):
                with suppress(ChildProcessError):
                    os.waitpid(child.pid, os.WNOHANG)

    def _own(self) -> Iterator[subprocess.Popen[bytes]]:
        yield from (part.process for part in self.parts)
        yield from self._clients

    def _check_doomed(self, now: float) -> None:
        due = [entry for entry in self._doomed if entry[0] <= now]
        self._doomed = [entry for entry in self._doomed if entry[0] > now]
        for _, name, executors in due:
            for process in executors:
                if not _dead(process):
                    self.journal.accuse(f"executor {process.pid} outlived {name} by {OUTLIVE_SECONDS:g} s")

    # -- the end

    def hush(self) -> None:
        """No more requests, and nobody is held up any more."""
        for pause in self.pauses:
            pause.until = min(pause.until, time.monotonic())
        self.tick()
        for client in self._clients:
            client.terminate()

    def settled(self) -> bool:
        self.tick()
        talking = any(client.poll() is None for client in self._clients)
        return not talking and self.service.all_finished

    def close(self) -> None:
        """Stop all parts as an operator would; whatever lives then is an orphan."""
        wait_until(self._can_stop, "all parts run", patience=STOP_SECONDS)
        for part in self.parts:
            self.stop(part)
        for part in self.parts:
            with suppress(subprocess.TimeoutExpired):
                part.process.wait(timeout=STOP_SECONDS)
                self._judge_end(part)
                continue
            self.journal.accuse(f"{part.name} did not stop within {STOP_SECONDS:g} s of SIGTERM")
        deadline = time.monotonic() + OUTLIVE_SECONDS
        while (left := self.left_over()) and time.monotonic() < deadline:
            time.sleep(0.05)
        for process in left:
            self.journal.accuse(f"left over at the end: pid {process.pid} ({title(process)[:80]})")

    def _can_stop(self) -> bool:
        """SIGTERM before a process has a handler for it is its plain end."""
        self.tick()
        working = all(len(part.executors()) == EXECUTORS for part in self.workers)
        return working and answers(self._listener.getsockname())

    def left_over(self) -> list[psutil.Process]:
        self._bury_adopted()
        return [child for child in psutil.Process().children(recursive=True) if not _dead(child)]

    def destroy(self) -> None:
        for process in self.left_over():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        for popen in self._own():
            popen.wait()


def _dead(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def variables(folder: str) -> dict[str, str]:
    """What all processes get into their environment."""
    return {
        FOLDER: folder,
        "TASKSERVICE_APPS": "bench.chaos",
        "TASKSERVICE_LEASE_SECONDS": str(LEASE_SECONDS),
        "TASKSERVICE_GRACE_SECONDS": str(GRACE_SECONDS),
        "PYTHONPATH": str(ROOT),
    }
