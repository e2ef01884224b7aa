"""What keeps going wrong: failed attempts, grouped by their fingerprint."""

from __future__ import annotations

from django.db import models

from tasks.fingerprint import FINGERPRINT_CHARS, FRAME_CHARS


class Failure(models.Model):
    """A sum that each process adds to now and then, and the latest sample; see ``failures``."""

    fingerprint = models.CharField(max_length=FINGERPRINT_CHARS, primary_key=True)
    handler = models.CharField(max_length=255)
    error_type = models.TextField()
    frame = models.CharField(max_length=FRAME_CHARS, blank=True, help_text="The deepest of its own code.")
    message = models.TextField(blank=True)
    traceback = models.TextField(blank=True)
    task_id = models.UUIDField(help_text="The last one that it was seen in.")
    count = models.BigIntegerField(help_text="Attempts that failed so.")
    first_seen_at = models.DateTimeField()
    last_seen_at = models.DateTimeField()

    class Meta:
        db_table = "failures"
        default_permissions = ()  # whoever may see tasks
        ordering = ("-last_seen_at", "-fingerprint")
        indexes = (
            # the list, and forget
            models.Index(fields=["last_seen_at", "fingerprint"], name="failure_seen_idx"),
        )

    def __str__(self) -> str:
        return f"{self.error_type} in {self.frame or self.handler}"
