"""JSON that stays as it was given."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper

from tasks.storable import to_json


class ExactJsonField(models.JSONField):
    """Kept as text: on PostgreSQL in a column of type json.

    Its jsonb forgets the order of members and makes of 1e300 an integer of 301 digits, which a
    handler would get instead of its float. It can be compared and indexed, and json cannot; for
    that use tags, or cast it.
    """

    def db_type(self, connection: BaseDatabaseWrapper) -> str | None:
        return "json" if connection.vendor == "postgresql" else super().db_type(connection)

    def get_db_prep_value(self, value: Any, connection: BaseDatabaseWrapper, prepared: bool = False) -> Any:
        """The text that a task is made with: Django's own is up to three times as long."""
        if connection.vendor != "postgresql":
            return to_json(value)
        from psycopg.types.json import Json  # where SQLite is used, nobody pays for it

        return Json(value, dumps=to_json)

    def select_format(self, compiler: Any, sql: str, params: Any) -> tuple[str, Any]:
        """As text, like all JSON that Django reads: psycopg would parse it by itself."""
        return (f"({sql})::text", params) if compiler.connection.vendor == "postgresql" else (sql, params)
