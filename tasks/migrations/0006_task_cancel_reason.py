from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("tasks", "0005_throttle"),
    ]

    operations = [
        migrations.AddField(
            model_name="task",
            name="cancel_reason",
            field=models.CharField(max_length=1000, null=True),
        ),
    ]
