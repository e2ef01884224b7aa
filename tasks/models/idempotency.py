"""What requests with an Idempotency-Key came to, for those that are sent again."""

from __future__ import annotations

from django.db import models
from django.db.models import Q


class Idempotency(models.Model):
    """Written in the transaction of what it answers: both are there, or neither."""

    pk = models.CompositePrimaryKey("owner", "path", "key")
    owner = models.CharField(max_length=64, blank=True)
    path = models.CharField(max_length=255)
    key = models.CharField(max_length=255)
    fingerprint = models.CharField(max_length=64, help_text="SHA-256 of the body.")
    status = models.PositiveSmallIntegerField(null=True)
    body = models.TextField(null=True)  # noqa: DJ001 - null while it is being decided
    location = models.CharField(max_length=255, default="")
    created_at = models.DateTimeField()

    class Meta:
        db_table = "idempotency"
        indexes = (
            # forget
            models.Index(fields=["created_at"], name="idempotency_age_idx"),
        )
        constraints = (
            models.CheckConstraint(
                name="idempotency_status_and_body",
                condition=Q(status__isnull=True, body__isnull=True)
                | Q(status__isnull=False, body__isnull=False),
            ),
        )

    def __str__(self) -> str:
        return f"{self.path} {self.key}"
