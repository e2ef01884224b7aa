"""Does harm to the service on purpose, writes down what was seen, and checks what must hold all the same."""

from __future__ import annotations

import os
from pathlib import Path

FOLDER = "CHAOS_FOLDER"  # the variable that names where everybody writes down what happens
NOTES = "notes"  # of handlers: "start|end|overlap|interrupted TIME TASK FENCE ATTEMPT PID [OTHER FENCE]"
RUNS = "runs"  # one locked file for each task that runs
ASKS = "asks"  # of clients, each a line of JSON, before it is sent and after it was answered


def folder() -> Path:
    return Path(os.environ[FOLDER])


def append(path: Path, line: str) -> None:
    """One line, whole even if several processes write."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        os.write(file, (line + "\n").encode())
    finally:
        os.close(file)


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []
