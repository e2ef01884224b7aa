"""The signals of ``django.tasks``, sent where the handler runs: receivers are users' code."""

from __future__ import annotations

import logging
import random
from typing import Any

from django.dispatch import Signal
from django.tasks.signals import log_task_finished, log_task_started, task_finished, task_started
from django.utils import timezone

from tasks.contract import Lease, Outcome, Succeeded
from tasks.decide import decide
from tasks.registry import ServiceTask
from tasks.results import finished_result, running_result
from tasks.states import FINISHED

_log = logging.getLogger("django.tasks")
_rng = random.Random(0)  # noqa: S311 - only whether a task has ended is asked of the decision, not when it runs again


def started(lease: Lease, task: ServiceTask, args: list[Any], payload: dict[str, Any]) -> None:
    if _heard(task_started, logging.INFO):
        _send(task_started, task, running_result(lease, task, args, payload))


def finished(
    lease: Lease, task: ServiceTask, args: list[Any], payload: dict[str, Any], outcome: Outcome
) -> None:
    """Only when no attempt follows. Called where the exception is at hand, for Django's own log of it."""
    level = logging.INFO if isinstance(outcome, Succeeded) else logging.ERROR
    if not _heard(task_finished, level):
        return
    decision = decide(lease, outcome, backoff=task.backoff, rng=_rng, now=timezone.now())
    if decision.transition.target in FINISHED:
        _send(task_finished, task, finished_result(lease, task, args, payload, decision))


def _heard(signal: Signal, level: int) -> bool:
    """Whether anybody gets to know: Django's own receivers are there by default, and only log."""
    return _log.isEnabledFor(level) or not {key[0] for key, *_ in signal.receivers} <= _DJANGOS


_DJANGOS = {id(log_task_started), id(log_task_finished)}  # so does a Signal know its receivers


def _send(signal: Signal, task: ServiceTask, result: Any) -> None:
    """A receiver that raises must not turn a finished task into a failed one; Django logs it."""
    try:
        signal.send_robust(type(task.get_backend()), task_result=result)
    except BaseException:  # what send_robust lets through: a receiver's sys.exit() is not ours
        logging.getLogger("tasks.worker").exception("receiver.failed")
