"""The harm: each deed is done to whom the schedule picks among those who can be harmed at that moment."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence

import psutil

from bench.chaos.parts import Part
from bench.chaos.profiles import Deed
from bench.chaos.scene import LEASE_SECONDS, Scene

END_SECONDS = 3.0  # in which the executors of a dead forkserver end, and are seen to
DOWN_SECONDS = (0.0, 1.0)  # until what was killed is started again
SHORT_SECONDS = (0.1, 1.0)
LONG_SECONDS = (LEASE_SECONDS + 2.5, LEASE_SECONDS + 3.5)  # a whole lease goes by, and a reap after it
OUTAGE_SECONDS = {
    "hold-write-lock": (6.0, 7.0),  # longer than anybody waits
    "fill-disk": (3.0, 6.0),
    "restart-database": (0.5, 3.0),
    "swallow-packets": (3.0, 6.0),
    "cut-connections": (0.1, 0.2),
    "end-sessions": (0.1, 0.2),
}
BESIDE_SLEEP = {"kill-api", "kill-api-process", "stop-api"}
NOT_BESIDE_OUTAGES = {"pause-worker", "pause-dispatcher-for-a-lease"}
YOUNG = (0.3, 3.0)  # seconds that a run has taken, so that it may take some more
LONG = (1.1, 2.5)  # of one that certainly does

Act = Callable[[Scene, Deed], str]  # to whom it was done; "" when there was nobody


class Harm:
    """Does the deeds of a schedule, in its order; none for ``rest`` seconds after an outage."""

    def __init__(self, scene: Scene, schedule: Sequence[Deed], *, rest: float) -> None:
        self._scene = scene
        self._left = list(schedule)
        self._rest = rest
        self._began = time.monotonic()
        self.done: Counter[str] = Counter()

    @property
    def left(self) -> bool:
        return bool(self._left)

    def strike_when_due(self) -> None:
        if not self._left or time.monotonic() - self._began < self._left[0].at:
            return
        deed = self._left[0]
        if self._must_wait(deed):
            return
        if victim := do(self._scene, deed):
            del self._left[0]
            self.done[deed.name] += 1
            self._scene.tell(f"{deed.name}: {victim}")

    def _must_wait(self, deed: Deed) -> bool:
        """Too much at once would show nothing: who sleeps for a lease is to find that others went on."""
        scene = self._scene
        if scene.sleeping and deed.name not in BESIDE_SLEEP:
            return True
        if scene.broken_down:
            return bool(self._rest) or deed.name in NOT_BESIDE_OUTAGES
        return time.monotonic() < scene.mended_at + self._rest


def do(scene: Scene, deed: Deed) -> str:
    if outage := scene.place.outages.get(deed.name):
        return _break_down(scene, deed, outage)
    try:
        return DEEDS[deed.name](scene, deed)
    except psutil.NoSuchProcess:
        return ""


def between(span: tuple[float, float], share: float) -> float:
    return span[0] + (span[1] - span[0]) * share


def _picked[T](things: Sequence[T], deed: Deed) -> T | None:
    return things[min(int(deed.pick * len(things)), len(things) - 1)] if things else None


# -- whom


def _able(scene: Scene) -> list[Part]:
    """Workers that run, are not held up or about to stop, and have started their executors."""
    return [
        part
        for part in scene.workers
        if part.alive and part.asked_at is None and part.executors() and not scene.is_paused(part)
    ]


def _busy(scene: Scene, part: Part, ages: tuple[float, float] = YOUNG) -> list[psutil.Process]:
    """Those of its executors that are in the midst of a run that takes a while."""
    now, running = time.monotonic(), scene.notebook.running()
    least, most = ages
    return [it for it in part.executors() if least < now - running.get(it.pid, 0.0) < most]


def _busy_worker(scene: Scene, deed: Deed, ages: tuple[float, float] = YOUNG) -> Part | None:
    """While the others work: if all slept, nobody would take over what the first one held."""
    able = _able(scene)
    if len(able) < len(scene.workers):
        return None
    return _picked([part for part in able if _busy(scene, part, ages)], deed)


def _api(scene: Scene) -> Part | None:
    api = scene.api
    ready = api.alive and api.asked_at is None and bool(api.family()) and not scene.is_paused(api)
    return api if ready else None


# -- what


def kill_executor(scene: Scene, deed: Deed) -> str:
    executor = _picked([it for part in _able(scene) for it in _busy(scene, part)], deed)
    if executor is None:
        return ""
    scene.kill_one(executor, "executor")
    return f"pid {executor.pid}"


def kill_dispatcher(scene: Scene, deed: Deed) -> str:
    part = _busy_worker(scene, deed)
    if part is None:
        return ""
    pid = part.process.pid
    scene.kill([part], start_after=between(DOWN_SECONDS, deed.span))
    return f"{part.name}, pid {pid}"


def kill_forkserver(scene: Scene, deed: Deed) -> str:
    part = _picked(_able(scene), deed)
    found = [it for it in part.here.children() if _is_forkserver(it)] if part else []
    for forkserver in found:
        if part is not None:  # its executors end with it
            scene.blame("kill", "forkserver", part.process.pid, until=time.monotonic() + END_SECONDS)
        scene.kill_one(forkserver, "forkserver")
    return ", ".join(f"pid {forkserver.pid}" for forkserver in found)


def _is_forkserver(process: psutil.Process) -> bool:
    return "multiprocessing.forkserver" in " ".join(process.cmdline())


def kill_api(scene: Scene, deed: Deed) -> str:
    api = _api(scene)
    if api is None:
        return ""
    children = api.family()
    scene.kill([api], start_after=between(DOWN_SECONDS, deed.span))
    for child in children:
        scene.kill_one(child, "api process")
    return f"and its {len(children)} processes"


def kill_api_process(scene: Scene, deed: Deed) -> str:
    api = _api(scene)
    child = _picked(api.family(), deed) if api else None
    if child is None:
        return ""
    scene.kill_one(child, "api process")
    return f"pid {child.pid}"


def kill_everything(scene: Scene, deed: Deed) -> str:
    """So that none sees another's end first."""
    parts = [part for part in scene.parts if part.alive]
    children = [process for part in parts for process in part.family()]
    scene.kill(parts, start_after=between(DOWN_SECONDS, deed.span))
    for child in children:
        scene.kill_one(child, "child")
    return ", ".join(part.name for part in parts)


def stop_worker(scene: Scene, deed: Deed) -> str:
    part = _picked([part for part in _able(scene) if _busy(scene, part)], deed)
    if part is None:
        return ""
    scene.stop(part)
    return part.name


def stop_api(scene: Scene, deed: Deed) -> str:
    api = _api(scene)
    if api is None:
        return ""
    scene.stop(api)
    return api.name


def pause_executor(scene: Scene, deed: Deed) -> str:
    executor = _picked([it for part in _able(scene) for it in part.executors()], deed)
    return "" if executor is None else _pause(scene, deed, executor, executor.pid)


def pause_dispatcher(scene: Scene, deed: Deed) -> str:
    part = _picked(_able(scene), deed)
    return "" if part is None else _pause(scene, deed, part.here, scene.felt_by(part))


def pause_api_process(scene: Scene, deed: Deed) -> str:
    api = _api(scene)
    child = _picked(api.family(), deed) if api else None
    return "" if api is None or child is None else _pause(scene, deed, child, scene.felt_by(api))


def _pause(scene: Scene, deed: Deed, process: psutil.Process, felt_by: int) -> str:
    seconds = between(SHORT_SECONDS, deed.span)
    scene.pause(deed.name, felt_by, [process], seconds)
    return f"pid {process.pid} for {seconds:.2f} s"


def pause_dispatcher_for_a_lease(scene: Scene, deed: Deed) -> str:
    part = _busy_worker(scene, deed, LONG)
    return "" if part is None else _pause_for_a_lease(scene, deed, part, [])


def pause_worker(scene: Scene, deed: Deed) -> str:
    """With its executors, as if its machine had slept."""
    part = _busy_worker(scene, deed, LONG)
    return "" if part is None else _pause_for_a_lease(scene, deed, part, part.family())


def _pause_for_a_lease(scene: Scene, deed: Deed, part: Part, others: Sequence[psutil.Process]) -> str:
    seconds = between(LONG_SECONDS, deed.span)
    scene.put_to_sleep(part, others, seconds)
    return f"{part.name}, with {len(others)} more, for {seconds:.2f} s"


def _break_down(scene: Scene, deed: Deed, outage: Callable[[], Callable[[], None]]) -> str:
    if scene.broken_down:
        return ""
    seconds = between(OUTAGE_SECONDS[deed.name], deed.span)
    scene.break_down(deed.name, outage, seconds)
    return f"for {seconds:.2f} s"


DEEDS: dict[str, Act] = {
    act.__name__.replace("_", "-"): act
    for act in (
        kill_executor,
        kill_dispatcher,
        kill_forkserver,
        kill_api,
        kill_api_process,
        kill_everything,
        stop_worker,
        stop_api,
        pause_executor,
        pause_dispatcher,
        pause_api_process,
        pause_dispatcher_for_a_lease,
        pause_worker,
    )
}
