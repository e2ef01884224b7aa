"""Queues that somebody configured; any other queue exists by being named."""

from __future__ import annotations

from django.db import models

from tasks.limits import PAUSE_REASON_CHARS


class Queue(models.Model):
    name = models.CharField(max_length=64, primary_key=True)
    paused_at = models.DateTimeField(
        null=True, blank=True, help_text="While set, nothing is claimed from it."
    )
    paused_by = models.CharField(max_length=150, blank=True, db_default="", help_text="Who paused it.")
    pause_reason = models.CharField(
        max_length=PAUSE_REASON_CHARS, blank=True, db_default="", help_text="Why."
    )

    class Meta:
        db_table = "queues"
        ordering = ("name",)
        permissions = (
            ("pause_queue", "Can pause and resume queues"),
            ("purge_queue", "Can cancel all pending tasks of queues"),
        )

    def __str__(self) -> str:
        return self.name
