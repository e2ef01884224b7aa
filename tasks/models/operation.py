"""What somebody asked for all tasks that match, and how far it has come."""

from __future__ import annotations

from django.db import models


class Operation(models.Model):
    """Belongs to who started it. Done by a task of its own, see ``tasks.operations``."""

    verb = models.CharField(max_length=16)
    selection = models.JSONField(help_text="What is chosen.")
    newest = models.UUIDField(null=True, help_text="No task that was made after this one is meant.")
    expected = models.PositiveIntegerField(help_text="How many were counted before.")
    is_whole = models.BooleanField(help_text="Whether that was all of them.")
    user_key = models.CharField(max_length=64)
    user_name = models.CharField(max_length=150)
    task_id = models.UUIDField(null=True, help_text="The task that does it.")
    created_at = models.DateTimeField()
    cursor = models.UUIDField(null=True, help_text="The last task that was looked at, oldest first.")
    asked = models.PositiveIntegerField(default=0, help_text="How many tasks matched so far.")
    came_to = models.JSONField(default=dict, help_text="What became of them: words, and how many.")
    ended_at = models.DateTimeField(null=True)
    stopped_by = models.CharField(max_length=150, blank=True, help_text="Who stopped it.")

    class Meta:
        db_table = "operations"
        ordering = ("-id",)
        default_permissions = ()  # whoever may see tasks sees them; each verb has a permission of its own

    def __str__(self) -> str:
        return f"Operation {self.pk}: {self.verb}"
