"""Who may use the API, and for what."""

from __future__ import annotations

from django.db import models

from tasks.ids import new_task_id


class Token(models.Model):
    """Of its secret only a hash is kept, which says enough: 256 random bits cannot be guessed."""

    id = models.UUIDField(primary_key=True, default=new_task_id, editable=False)
    name = models.CharField(max_length=64, unique=True, help_text="Who uses it, and where.")
    owner = models.CharField(
        max_length=64, help_text="Whose tasks it makes and sees; several tokens can share an owner."
    )
    prefix = models.CharField(max_length=16, unique=True, help_text="What it begins with.")
    digest = models.CharField(max_length=64, help_text="SHA-256 of its secret.")
    scopes = models.JSONField(default=list)
    queues = models.JSONField(null=True, help_text="Only these queues; empty: all.")
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField(null=True, help_text="Empty: never.")
    used_at = models.DateTimeField(null=True, help_text="Known to the minute.")

    class Meta:
        db_table = "tokens"
        ordering = ("-created_at",)

    def __str__(self) -> str:
        return self.name
