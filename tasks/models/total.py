"""What the processes of the service have counted, summed up over all of them."""

from __future__ import annotations

from django.db import models


class Total(models.Model):
    """One number of the metrics. Only ever raised, so that a counter never goes back."""

    name = models.CharField(max_length=16)
    queue = models.CharField(max_length=64)
    handler = models.CharField(max_length=255)
    detail = models.CharField(max_length=16, help_text="The outcome, or the part of a histogram.")
    transition = models.CharField(max_length=16)
    value = models.FloatField()

    class Meta:
        db_table = "totals"
        constraints = (
            models.UniqueConstraint(
                fields=["name", "queue", "handler", "detail", "transition"], name="total_unique"
            ),
        )

    def __str__(self) -> str:
        return " ".join(filter(None, (self.name, self.queue, self.handler, self.detail, self.transition)))
