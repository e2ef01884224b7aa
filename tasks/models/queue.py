"""Queues that somebody configured; any other queue exists by being named."""

from __future__ import annotations

from django.db import models


class Queue(models.Model):
    name = models.CharField(max_length=64, primary_key=True)
    paused_at = models.DateTimeField(
        null=True, blank=True, help_text="While set, nothing is claimed from it."
    )

    class Meta:
        db_table = "queues"
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name
