"""Where the processes of one gunicorn keep what they count: prometheus_client's files, one set a process."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"  # read when prometheus_client is imported, in the processes
_PREFIX = "taskservice-metrics-"

_made: list[str] = []


def begin(parent: str | None) -> None:
    """In the arbiter, before it forks. A folder that an operator has named is used, and left alone."""
    if os.environ.get(VARIABLE):
        return
    _remove_old(Path(parent or tempfile.gettempdir()))
    os.environ[VARIABLE] = tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=parent)
    _made.append(os.environ[VARIABLE])


def end() -> None:
    for folder in _made:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_old(parent: Path) -> None:
    """What a killed one has left here."""
    for folder in parent.glob(f"{_PREFIX}*"):
        pid = folder.name.removeprefix(_PREFIX).partition("-")[0]
        if pid.isdecimal() and not Path(f"/proc/{pid}").exists():
            shutil.rmtree(folder, ignore_errors=True)
