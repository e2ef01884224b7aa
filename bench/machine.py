"""Where the measures were taken."""

from __future__ import annotations

import os
import platform
import sqlite3
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from statistics import median

import psutil

FLUSHES = 200


def facts() -> dict[str, object]:
    folder = tempfile.gettempdir()
    return {
        "cores": os.cpu_count(),
        "cpu": _cpu(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "folder": folder,
        "file_system": file_system(folder),
        "load": round(os.getloadavg()[0], 2),
    }


def sentence(facts: dict[str, object]) -> str:
    return (
        f"{facts['cores']} cores ({facts['cpu']}), {facts['memory_gb']} GB, {facts['system']}, "
        f"Python {facts['python']}, SQLite {facts['sqlite']}, {facts['file_system']} at {facts['folder']}, "
        f"load {facts['load']} at the start"
    )


def flush_ms() -> float:
    """The median of what a small write to the disk takes until it is safe: what every commit waits for."""
    took: list[float] = []
    with tempfile.TemporaryFile() as file:
        for _ in range(FLUSHES):
            file.write(b"x" * 4096)
            file.flush()
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            took.append(time.perf_counter() - began)
    return round(median(took) * 1000, 3)


def _cpu() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def file_system(folder: str) -> str:
    """The type of what is mounted there: the longest mount point that leads to it."""
    path = os.path.realpath(folder)
    found = [
        (len(mount.mountpoint), mount.fstype)
        for mount in psutil.disk_partitions(all=True)
        if path == mount.mountpoint or path.startswith(mount.mountpoint.rstrip("/") + "/")
    ]
    return max(found)[1] if found else "unknown"
