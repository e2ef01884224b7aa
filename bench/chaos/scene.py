"""The processes under fire: an API and two workers on one database, and clients that ask for tasks."""

from __future__ import annotations

import ctypes
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial

import psutil

from bench.chaos import FOLDER, RUNS
from bench.chaos.facts import API, EVERYBODY, NEVER, Fault, Life, Survival
from bench.chaos.notebook import Notebook
from bench.chaos.parts import Doomed, Later, Part, bury_adopted, dead, expect_alive, waking
from bench.chaos.places import Outage, Place
from bench.service import ROOT, Service, answers, title, wait_until

PR_SET_CHILD_SUBREAPER = 36
WORKERS, EXECUTORS = 2, 3
CLIENTS = 2
LEASE_SECONDS, GRACE_SECONDS = 4, 4
STALL_SECONDS = 0.75  # without a step of this process: a busy machine, which is no bug of the service
WAKE_SECONDS = 0.2  # after its executors: what they came to meanwhile comes late
STOP_SECONDS = GRACE_SECONDS + 15.0  # longer than it may take


def adopt_orphans() -> None:
    """Whatever loses its parent becomes a child of this process: nothing gets away unseen."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def environment(folder: str, more: Mapping[str, str]) -> dict[str, str]:
    """What all processes get; the apps in ``more`` come after this one."""
    apps = ",".join(filter(None, ("bench.chaos", more.get("TASKSERVICE_APPS"))))
    return {
        **more,
        FOLDER: folder,
        "TASKSERVICE_APPS": apps,
        "TASKSERVICE_LEASE_SECONDS": str(LEASE_SECONDS),
        "TASKSERVICE_GRACE_SECONDS": str(GRACE_SECONDS),
        "TASKSERVICE_THROTTLE_BURST": "none",
        "TASKSERVICE_THROTTLE_SUSTAINED": "none",
        "PYTHONPATH": str(ROOT),
    }


class Scene:
    def __init__(self, service: Service, place: Place, listener: socket.socket, seed: int) -> None:
        self.service = service
        self.place = place
        self.parts: list[Part] = []
        self.faults: list[Fault] = []
        self.lives: list[Life] = []
        self.survivals: list[Survival] = []
        self.left_over: list[str] = []
        self.journal: list[str] = []
        self.notebook = Notebook(service.folder)
        self._listener = listener
        self._seed = seed
        self._clients: list[subprocess.Popen[bytes]] = []
        self._doomed: list[Doomed] = []
        self._later: list[Later] = []
        self._ticked = NEVER
        self._sleeps_until = 0.0
        self.mended_at = 0.0  # when the last outage was over

    @property
    def workers(self) -> list[Part]:
        return [part for part in self.parts if part.works]

    @property
    def api(self) -> Part:
        return next(part for part in self.parts if not part.works)

    def tell(self, what: str) -> None:
        self.journal.append(f"{time.monotonic():.3f} {what}")

    # -- the beginning

    def open(self, tasks: int, threads: int) -> None:
        (self.service.folder / RUNS).mkdir()
        self._add("api", partial(self.service.start_api, self._listener))
        for name in [f"worker-{number}" for number in range(1, WORKERS + 1)]:
            self._add(name, partial(self.service.start_workers, EXECUTORS, log=f"{name}.log"))
        wait_until(self._has_come_up, "API and executors")
        self._clients = [self._start_client(number, tasks // CLIENTS, threads) for number in range(CLIENTS)]

    def _add(self, name: str, start: Callable[[], subprocess.Popen[bytes]]) -> None:
        self.parts.append(Part(name, start, start()))

    def _start_client(self, number: int, tasks: int, threads: int) -> subprocess.Popen[bytes]:
        port = self._listener.getsockname()[1]
        words = [f"c{number}", str(port), str(self._seed), str(threads), str(tasks)]
        command = [sys.executable, "-m", "bench.chaos.clients", *words]
        return self.service.start(command, log="clients.log")

    def _has_come_up(self) -> bool:
        expect_alive(self.parts, self.service.folder)
        return self.complete()

    def complete(self) -> bool:
        working = all(len(part.executors()) == EXECUTORS for part in self.workers)
        return working and answers(self._listener.getsockname())

    # -- what happens to them

    def blame(self, kind: str, who: str, felt_by: int, *, until: float = NEVER) -> None:
        self.faults.append(Fault(kind=kind, who=who, felt_by=felt_by, began=time.monotonic(), until=until))

    def kill_one(self, process: psutil.Process, who: str) -> None:
        """kill -9 of a process that is not a part by itself."""
        self.blame("kill", who, process.pid)
        with suppress(psutil.NoSuchProcess):
            process.kill()

    def kill(self, parts: Iterable[Part], *, start_after: float) -> None:
        """kill -9 of these at one moment; their executors have to end by themselves."""
        victims = [(part, part.executors() if part.works else []) for part in parts]
        for part, _ in victims:
            self.blame("kill", part.name, part.process.pid if part.works else API, until=NEVER)
            part.killed = True
            part.process.kill()
        now = time.monotonic()
        for part, executors in victims:
            self._doomed += [Doomed(process, part.process.pid, now) for process in executors]
            part.process.wait()
            self._ended(part, now, start_after)

    def stop(self, part: Part) -> None:
        part.asked_at = time.monotonic()
        self.blame("stop", part.name, part.process.pid if part.works else API)
        part.process.send_signal(signal.SIGTERM)

    def pause(self, who: str, felt_by: int, processes: Iterable[psutil.Process], seconds: float) -> None:
        until = time.monotonic() + seconds
        self.blame("pause", who, felt_by, until=until)
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.suspend()
                self._later.append(waking(process, until))

    def put_to_sleep(self, part: Part, others: Iterable[psutil.Process], seconds: float) -> None:
        """A dispatcher and perhaps more, but not with the write gate in its hand: others are to work on."""
        dispatcher = part.here
        dispatcher.suspend()
        while not self.place.is_free():
            dispatcher.resume()
            time.sleep(0.01)
            dispatcher.suspend()
        until = time.monotonic() + seconds
        self._sleeps_until = until + 2 * WAKE_SECONDS
        self.blame("pause", part.name, part.process.pid, until=until + WAKE_SECONDS)
        for process in others:
            process.suspend()
            self._later.append(waking(process, until))
        self._later.append(waking(dispatcher, until + WAKE_SECONDS))

    def felt_by(self, part: Part) -> int:
        """By whom it is felt that one who writes is held up: on SQLite it may have the write gate in hand."""
        if self.place.kind == "sqlite":
            return EVERYBODY
        return part.process.pid if part.works else API

    def break_down(self, name: str, outage: Outage, seconds: float) -> None:
        number = len(self.faults)
        self.blame("database", name, EVERYBODY)
        end = outage()
        self._later.append(Later(time.monotonic() + seconds, partial(self._mend, number, end)))

    def _mend(self, number: int, end: Callable[[], None]) -> None:
        end()
        self._close(number)
        self.mended_at = time.monotonic()
        self.tell(f"{self.faults[number].who} is over")

    def _close(self, number: int) -> None:
        fault = self.faults[number]
        self.faults[number] = Fault(
            kind=fault.kind, who=fault.who, felt_by=fault.felt_by, began=fault.began, until=time.monotonic()
        )

    @property
    def broken_down(self) -> bool:
        return any(fault.kind == "database" and fault.until == NEVER for fault in self.faults)

    @property
    def sleeping(self) -> bool:
        """A worker, for longer than a lease."""
        return time.monotonic() < self._sleeps_until

    @property
    def suffers(self) -> bool:
        """Somebody is held up, or the database is."""
        return bool(self._later)

    def is_paused(self, part: Part) -> bool:
        with suppress(psutil.NoSuchProcess):
            return bool(part.here.status() == psutil.STATUS_STOPPED)
        return False

    # -- what goes on by itself

    def tick(self) -> None:
        """Wake, mend, bury and start again whoever is due."""
        now = time.monotonic()
        if now - self._ticked > STALL_SECONDS:
            stall = Fault(kind="stall", who="machine", felt_by=EVERYBODY, began=self._ticked, until=now)
            self.faults.append(stall)
        due = [later for later in self._later if later.at <= now]
        self._later = [later for later in self._later if later.at > now]
        for later in due:
            later.act()
        self._watch_doomed(now)
        bury_adopted(self._own())
        for part in self.parts:
            self._look_after(part, now)
        self._ticked = time.monotonic()  # what the harm itself took is no stall

    def _watch_doomed(self, now: float) -> None:
        seen = [(doomed, doomed.survival(now)) for doomed in self._doomed]
        self._doomed = [doomed for doomed, survival in seen if survival is None]
        self.survivals += [survival for _, survival in seen if survival is not None]

    def _look_after(self, part: Part, now: float) -> None:
        if part.alive and part.process.poll() is not None:
            self._ended(part, now, 0.0)
        if part.alive and part.asked_at is not None and now > part.asked_at + STOP_SECONDS:
            self.tell(f"{part.name} does not stop")
            self.kill([part], start_after=0.0)
        if part.start_at is not None and now >= part.start_at:
            part.start_again()
            self.tell(f"{part.name} started, pid {part.process.pid}")

    def _ended(self, part: Part, now: float, start_after: float) -> None:
        self.lives.append(part.life(now))
        self.tell(f"{part.name} ended with {part.process.returncode}")
        part.start_at = now + start_after
        if not part.works:  # what its end did to its clients is over
            for number, fault in enumerate(self.faults):
                if fault.felt_by == API and fault.until == NEVER:
                    self._close(number)

    def _own(self) -> set[int]:
        mine = {part.process.pid for part in self.parts} | {client.pid for client in self._clients}
        return mine | self.place.pids

    # -- the end

    def hush(self) -> None:
        """No more requests, and nothing is broken or held up any more."""
        for later in self._later:
            later.at = min(later.at, time.monotonic())
        self.tick()
        for client in self._clients:
            client.terminate()

    def settled(self) -> bool:
        self.tick()
        talking = any(client.poll() is None for client in self._clients)
        return not talking and self.service.all_finished

    def _can_stop(self) -> bool:
        """SIGTERM before a process has a handler for it is its plain end."""
        self.tick()
        return not self._doomed and self.complete()

    def close(self) -> None:
        """Stop all parts as an operator would; whatever lives then is an orphan."""
        wait_until(self._can_stop, "all parts run", patience=30)
        for part in self.parts:
            self.stop(part)
        for part in self.parts:
            with suppress(subprocess.TimeoutExpired):
                part.process.wait(timeout=STOP_SECONDS)
                self.lives.append(part.life(time.monotonic()))
        with suppress(Exception):
            wait_until(lambda: not self._strangers(), "nobody is left over", patience=3)
        self.left_over = [f"pid {process.pid} ({title(process)[:80]})" for process in self._strangers()]

    def _strangers(self) -> list[psutil.Process]:
        bury_adopted(self._own())
        places = [psutil.Process(pid) for pid in self.place.pids]
        spared = {
            pid for place in places for pid in (place.pid, *(it.pid for it in place.children(recursive=True)))
        }
        children = psutil.Process().children(recursive=True)
        return [child for child in children if child.pid not in spared and not dead(child)]

    def destroy(self) -> None:
        for process in self._strangers():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        for popen in [*(part.process for part in self.parts), *self._clients]:
            popen.wait()
