"""The life of a task, as data: every status, and every way from one to another."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from django.db import models


class Status(models.TextChoices):
    PENDING = "pending"  # not running; a worker may take it once ready_at is set
    PROCESSING = "processing"  # leased to one worker
    COMPLETED = "completed"  # an attempt succeeded
    FAILED = "failed"  # no attempt left, or not worth another: the dead letters
    CANCELLED = "cancelled"  # somebody said no


class WaitingFor(models.TextChoices):
    """Why a pending task has no ``ready_at``."""

    TIME = "time"  # its run_at has not come
    HANDLER = "handler"  # no live worker knows its handler


@dataclass(frozen=True, slots=True)
class Transition:
    """One way a task may change its status; the name says why."""

    name: str
    sources: frozenset[Status]
    target: Status


FINISHED = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED})
FINISHED_VALUES = tuple(sorted(FINISHED))  # sorted: a set would make new migrations


def _rule(name: str, sources: Iterable[Status], target: Status) -> Transition:
    return Transition(name, frozenset(sources), target)


# fmt: off
#                          from                  to
CLAIM    = _rule("claim",    {Status.PENDING},     Status.PROCESSING)
COMPLETE = _rule("complete", {Status.PROCESSING},  Status.COMPLETED)
BACK_OFF = _rule("back-off", {Status.PROCESSING},  Status.PENDING)    # the service tries again
RELEASE  = _rule("release",  {Status.PROCESSING},  Status.PENDING)    # handed back unfinished
FAIL     = _rule("fail",     {Status.PROCESSING},  Status.FAILED)
STOP     = _rule("stop",     {Status.PROCESSING},  Status.CANCELLED)  # under the fence
CANCEL   = _rule("cancel",   {Status.PENDING},     Status.CANCELLED)
EXPIRE   = _rule("expire",   {Status.PENDING},     Status.FAILED)     # expires_at passed before a run
RETRY    = _rule("retry",    FINISHED,             Status.PENDING)    # by hand
# fmt: on

TRANSITIONS = (CLAIM, COMPLETE, BACK_OFF, RELEASE, FAIL, STOP, CANCEL, EXPIRE, RETRY)
