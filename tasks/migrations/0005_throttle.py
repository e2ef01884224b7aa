"""Where API hosts count requests together. SQLite has one host, which counts in a file of its own."""

from typing import Any

from django.db import migrations

TABLE = "CREATE UNLOGGED TABLE throttle (key text PRIMARY KEY, used bigint NOT NULL, ends_at timestamptz NOT NULL)"


def make(apps: Any, schema_editor: Any) -> None:
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(f"{TABLE} WITH (fillfactor = 50)")  # its rows change all the time


def drop(apps: Any, schema_editor: Any) -> None:
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute("DROP TABLE throttle")


class Migration(migrations.Migration):
    dependencies = [
        ("tasks", "0004_login_tries"),
    ]

    operations = [migrations.RunPython(make, drop)]
