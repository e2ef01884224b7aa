"""Who does the harm: one deed after the other, chosen by a seeded random generator."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress

import psutil

from bench.chaos.scene import LEASE_SECONDS, Part, Scene

PAUSE_SECONDS = (0.1, 1.0)  # between two deeds
DOWN_SECONDS = (0.0, 1.0)  # until what was killed is started again
SHORT_STOP = (0.05, 1.0)
AS_A_RULE = 0.9
LONG_STOP = (LEASE_SECONDS + 1.0, LEASE_SECONDS + 3.0)  # a whole lease goes by


class Killer:
    """Does only what is among ``deeds``, the names of some of DEEDS."""

    def __init__(self, scene: Scene, rng: random.Random, deeds: Sequence[str]) -> None:
        self._scene = scene
        self._rng = rng
        self._deeds = {deed: weight for deed, weight in DEEDS.items() if name_of(deed) in deeds}
        self._next = time.monotonic()
        self.done: Counter[str] = Counter()

    def strike_when_due(self) -> None:
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + self._rng.uniform(*PAUSE_SECONDS)
        deeds, weights = zip(*self._deeds.items(), strict=True)
        deed = self._rng.choices(deeds, weights)[0]
        with suppress(psutil.NoSuchProcess):
            if victim := deed(self):
                self.done[name_of(deed)] += 1
                self._scene.journal.tell(f"{name_of(deed)}: {victim}")

    # -- whom

    def _worker(self) -> Part | None:
        """One that runs, and is not held up; as a rule not while it starts, which is most of its life."""
        able = [part for part in self._scene.workers if part.alive and not self._scene.is_paused(part.here)]
        if self._rng.random() < AS_A_RULE:
            able = [part for part in able if part.executors()]
        return self._rng.choice(able) if able else None

    def _worker_while_the_other_works(self) -> Part | None:
        """If both slept, nobody would take over what the first one held."""
        somebody_sleeps = any(self._scene.is_paused(part.here) for part in self._scene.workers if part.alive)
        return None if somebody_sleeps else self._worker()

    def _executor(self) -> psutil.Process | None:
        part = self._worker()
        executors = part.executors() if part else []
        return self._rng.choice(executors) if executors else None

    def _down(self) -> float:
        return self._rng.uniform(*DOWN_SECONDS)

    # -- what: each returns what it was done to, or "" when there was nobody

    def kill_executor(self) -> str:
        executor = self._executor()
        if executor is None:
            return ""
        executor.kill()
        return f"pid {executor.pid}"

    def kill_dispatcher(self) -> str:
        part = self._worker()
        if part is None:
            return ""
        self._scene.kill(part, self._down())
        return f"{part.name}, pid {part.process.pid}"

    def kill_forkserver(self) -> str:
        part = self._worker()
        forkservers = [child for child in part.here.children() if _is_forkserver(child)] if part else []
        for forkserver in forkservers:
            forkserver.kill()
        return ", ".join(f"pid {forkserver.pid}" for forkserver in forkservers)

    def kill_api(self) -> str:
        api = self._scene.api
        if not api.alive:
            return ""
        self._scene.kill(api, self._down())
        return f"pid {api.process.pid}"

    def kill_api_process(self) -> str:
        children = self._scene.api.family() if self._scene.api.alive else []
        if not children:
            return ""
        child = self._rng.choice(children)
        child.kill()
        return f"pid {child.pid}"

    def kill_everything(self) -> str:
        """So that none sees another's end first."""
        parts = [part for part in self._scene.parts if part.alive]
        for process in [process for part in parts for process in (part.here, *part.family())]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        down = self._down()
        for part in parts:
            self._scene.kill(part, down)
        return ", ".join(part.name for part in parts)

    def stop_worker(self) -> str:
        part = self._worker()
        if part is None or part.stopping_since is not None or len(part.executors()) == 0:
            return ""
        self._scene.stop(part)
        return part.name

    def stop_api(self) -> str:
        api = self._scene.api
        if not api.alive or api.stopping_since is not None or not api.family():
            return ""
        self._scene.stop(api)
        return api.name

    def pause_executor(self) -> str:
        executor = self._executor()
        return "" if executor is None else self._pause("executor", executor, SHORT_STOP)

    def pause_dispatcher(self) -> str:
        part = self._worker()
        return "" if part is None else self._pause(part.name, part.here, SHORT_STOP)

    def pause_dispatcher_for_a_lease(self) -> str:
        part = self._worker_while_the_other_works()
        return "" if part is None else self._pause(part.name, part.here, LONG_STOP)

    def pause_api_process(self) -> str:
        children = self._scene.api.family() if self._scene.api.alive else []
        return self._pause("api", self._rng.choice(children), SHORT_STOP) if children else ""

    def pause_whole_worker_for_a_lease(self) -> str:
        """As if its machine had slept."""
        part = self._worker_while_the_other_works()
        if part is None:
            return ""
        processes = [part.here, *part.family()]
        seconds = self._rng.uniform(*LONG_STOP)
        for process in processes:
            self._scene.pause(part.name, process, seconds)
        return f"{part.name} and {len(processes) - 1} more for {seconds:.2f} s"

    def _pause(self, who: str, process: psutil.Process, span: tuple[float, float]) -> str:
        seconds = self._rng.uniform(*span)
        self._scene.pause(who, process, seconds)
        return f"{who}, pid {process.pid} for {seconds:.2f} s"


def _is_forkserver(process: psutil.Process) -> bool:
    return "multiprocessing.forkserver" in " ".join(process.cmdline())


def name_of(deed: Callable[[Killer], str]) -> str:
    return deed.__name__.replace("_", "-")


DEEDS: dict[Callable[[Killer], str], int] = {  # with their weights
    Killer.kill_executor: 8,
    Killer.kill_dispatcher: 4,
    Killer.kill_forkserver: 2,
    Killer.kill_api: 2,
    Killer.kill_api_process: 2,
    Killer.kill_everything: 2,
    Killer.stop_worker: 3,
    Killer.stop_api: 1,
    Killer.pause_executor: 4,
    Killer.pause_dispatcher: 3,
    Killer.pause_dispatcher_for_a_lease: 2,
    Killer.pause_whole_worker_for_a_lease: 3,
    Killer.pause_api_process: 2,
}
NAMES = tuple(map(name_of, DEEDS))
