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
    version = models.CharField(
        max_length=64, blank=True, default="", db_default="", help_text="Of the code that it runs."
    )
    memory_mb = models.PositiveIntegerField(null=True, help_text="Of its processes together, when last seen.")
    recycled = models.PositiveIntegerField(
        default=0, db_default=0, help_text="Executors replaced since its start."
    )
    drain_requested_at = models.DateTimeField(
        null=True, help_text="Since then it is to claim nothing more, and to end when what it runs is done."
    )
    drain_requested_by = models.CharField(max_length=150, blank=True, default="", db_default="")
    started_at = models.DateTimeField()
    last_seen_at = models.DateTimeField()

    class Meta:
        db_table = "workers"
        ordering = ("id",)
        permissions = (("drain_worker", "Can drain workers"),)

    def __str__(self) -> str:
        return self.id
