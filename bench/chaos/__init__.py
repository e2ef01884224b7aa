"""Kills, stops and restarts the service's processes at random, then counts what was lost."""

from __future__ import annotations

import os
from pathlib import Path

FOLDER = "CHAOS_FOLDER"  # the variable that names where everybody writes down what happens
NOTES = "notes"  # of handlers: "start|end|overlap TIME TASK FENCE PID [FENCE]"
RUNS = "runs"  # one locked file for each task that runs
SENT, ACKNOWLEDGED, ANSWERS = "sent", "acknowledged", "answers"  # of clients


def folder() -> Path:
    return Path(os.environ[FOLDER])


def append(path: Path, *words: object) -> None:
    """One line, whole even if several processes write."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        os.write(file, (" ".join(map(str, words)) + "\n").encode())
    finally:
        os.close(file)


def lines(path: Path) -> list[list[str]]:
    """What was appended, split into words."""
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []
