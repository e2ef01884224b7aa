"""What the processes of a worker cost."""

from __future__ import annotations

from collections import defaultdict
from contextlib import suppress

import psutil

from bench.service import EXECUTOR, title

Usage = dict[str, float]  # by part of the worker


def cpu_seconds(dispatcher: psutil.Process) -> Usage:
    """By part: the dispatcher's two threads, the executors, and what multiprocessing runs beside them.

    An executor that was replaced counts on in the time of the children of its parent, the forkserver.
    """
    used: Usage = defaultdict(float)
    for thread in dispatcher.threads():
        used["loop" if thread.id == dispatcher.pid else "ledger"] += thread.user_time + thread.system_time
    for child in dispatcher.children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            times = child.cpu_times()
            part = "executors" if title(child).startswith(EXECUTOR) else "others"
            used[part] += times.user + times.system
            used["executors"] += times.children_user + times.children_system
    return used


def cpu_seconds_of_family(process: psutil.Process) -> float:
    """Of a process and all below it."""
    times = [member.cpu_times() for member in (process, *process.children(recursive=True))]
    return float(sum(time.user + time.system for time in times))


def pss_mb(dispatcher: psutil.Process) -> Usage:
    """Proportional set size, by part; shared pages count once in all."""
    used: Usage = defaultdict(float)
    used["dispatcher"] = _pss(dispatcher)
    for child in dispatcher.children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            used["executors" if title(child).startswith(EXECUTOR) else "others"] += _pss(child)
    return used


def between(before: Usage, after: Usage) -> Usage:
    return {part: after[part] - before.get(part, 0) for part in after}


def _pss(process: psutil.Process) -> float:
    return float(process.memory_full_info().pss) / 2**20
