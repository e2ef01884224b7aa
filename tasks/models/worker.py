"""Who is alive, and what it knows."""

from __future__ import annotations

from django.db import models


class Worker(models.Model):
    """One live ``runworkers``: a dispatcher and its executors. Kept true by its own duty."""

    id = models.CharField(max_length=128, primary_key=True)
    host = models.CharField(max_length=255)
    pid = models.PositiveIntegerField()
    executors = models.PositiveIntegerField()
    busy = models.PositiveIntegerField(null=True, help_text="Executors that ran a task when last seen.")
    queues = models.JSONField(null=True, help_text="The queues it serves; empty: all.")
    handlers = models.JSONField(default=list, help_text="The handlers it knows.")
    started_at = models.DateTimeField()
    last_seen_at = models.DateTimeField()

    class Meta:
        db_table = "workers"
        ordering = ("id",)

    def __str__(self) -> str:
        return self.id
