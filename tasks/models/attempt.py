"""The history of what went wrong: one row for each attempt that did not succeed."""

from __future__ import annotations

from typing import ClassVar

from django.db import models

from tasks import contract
from tasks.fingerprint import FINGERPRINT_CHARS
from tasks.models.task import Task


class Attempt(models.Model):
    """An attempt that ended failed, crashed, timed out, cancelled or lapsed, or released at a cost.

    The success has no row: it is read from the task.
    """

    class Outcome(models.TextChoices):
        FAILED = "failed"
        CRASHED = "crashed"
        TIMED_OUT = "timed-out"
        CANCELLED = "cancelled"
        LAPSED = "lapsed"
        RELEASED = "released"

    OUTCOME_OF: ClassVar[dict[type, Outcome]] = {
        contract.Failed: Outcome.FAILED,
        contract.Crashed: Outcome.CRASHED,
        contract.TimedOut: Outcome.TIMED_OUT,
        contract.Cancelled: Outcome.CANCELLED,
        contract.Lapsed: Outcome.LAPSED,
        contract.Released: Outcome.RELEASED,
    }

    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="attempts")
    number = models.PositiveIntegerField()
    fence = models.BigIntegerField()
    outcome = models.CharField(max_length=16, choices=Outcome)
    worker_id = models.CharField(max_length=128, blank=True)
    started_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField()
    error_type = models.TextField(blank=True)
    message = models.TextField(blank=True)
    traceback = models.TextField(blank=True)
    fingerprint = models.CharField(  # noqa: DJ001 - null: it did not fail; such a column rewrites no table
        max_length=FINGERPRINT_CHARS, null=True, help_text="The same for what failed in the same way."
    )

    class Meta:
        db_table = "attempts"
        ordering = ("number", "id")
        constraints = (models.UniqueConstraint(fields=["task", "fence"], name="attempt_once_per_lease"),)

    def __str__(self) -> str:
        return f"attempt {self.number}: {self.outcome}"
