"""Receivers of the signals of ``django.tasks``; they note in the file that the payload names.

Only a worker that has this app installed imports them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from django.tasks.signals import task_finished, task_started

from tasks.tests.antics.tasks import raise_
from tasks.tests.faults.tasks import _note


def _note_signal(name: str, result: Any) -> None:
    path = result.kwargs.get("path")
    if result.task.public_name == "antic.heard":
        _note(path, name, result.attempts, os.getpid(), result.status, result.id, len(result.errors))
        RECEIVERS[result.kwargs.get("receiver", "")](name)


RECEIVERS: dict[str, Callable[[str], object]] = {
    "": lambda name: None,
    "raises": lambda name: 1 / 0,
    "exits": lambda name: raise_(SystemExit(3)),
    "exits when finished": lambda name: raise_(SystemExit(3)) if name == "finished" else None,
    "base exception": lambda name: raise_(BaseException("beyond Exception")),
}


def _on_started(sender: type, task_result: Any, **kwargs: Any) -> None:
    _note_signal("started", task_result)


def _on_finished(sender: type, task_result: Any, **kwargs: Any) -> None:
    _note_signal("finished", task_result)


task_started.connect(_on_started)
task_finished.connect(_on_finished)
