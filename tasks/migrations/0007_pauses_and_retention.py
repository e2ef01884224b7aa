from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("tasks", "0006_task_cancel_reason"),
    ]

    operations = [
        migrations.AddField(
            model_name="queue",
            name="pause_reason",
            field=models.CharField(blank=True, db_default="", help_text="Why.", max_length=200),
        ),
        migrations.AddField(
            model_name="queue",
            name="paused_by",
            field=models.CharField(blank=True, db_default="", help_text="Who paused it.", max_length=150),
        ),
        migrations.AddIndex(
            model_name="task",
            index=models.Index(
                condition=models.Q(
                    ("finished_at__isnull", False), ("status__in", ("cancelled", "completed", "failed"))
                ),
                fields=["status", "finished_at"],
                name="task_finished_idx",
            ),
        ),
    ]
