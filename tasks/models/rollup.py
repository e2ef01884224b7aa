"""What happened in each minute, and in each ten, for charts: never counted from the tasks themselves."""

from __future__ import annotations

from django.db import models

from tasks.tally import RUNS, WAITS

BUCKETS = {"wait": len(WAITS) + 1, "run": len(RUNS) + 1}  # histograms: a column for each bucket


class Rollup(models.Model):
    """One queue in one stretch of time. Written by ``tasks.rollups``, some seconds after it happened."""

    pk = models.CompositePrimaryKey("seconds", "begins_at", "queue")
    seconds = models.PositiveSmallIntegerField(help_text="How long the stretch is.")
    begins_at = models.DateTimeField()
    queue = models.CharField(max_length=64)
    created = models.PositiveIntegerField()
    claimed = models.PositiveIntegerField()
    completed = models.PositiveIntegerField()
    failed = models.PositiveIntegerField(help_text="For good.")
    retried = models.PositiveIntegerField(help_text="Attempts that another will follow.")
    cancelled = models.PositiveIntegerField()

    class Meta:
        db_table = "rollups"
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.queue} {self.begins_at:%Y-%m-%d %H:%M}"


for _kind, _size in BUCKETS.items():
    for _number in range(_size):
        Rollup.add_to_class(f"{_kind}_{_number}", models.PositiveIntegerField())
