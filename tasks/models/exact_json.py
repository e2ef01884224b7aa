"""JSON that stays as it was given."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper


class ExactJsonField(models.JSONField):
    """Kept as text: on PostgreSQL in a column of type json.

    Its jsonb forgets the order of members and makes of 1e300 an integer of 301 digits, which a
    handler would get instead of its float. It can be compared and indexed, and json cannot; for
    that use tags, or cast it.
    """

    def db_type(self, connection: BaseDatabaseWrapper) -> str | None:
        return "json" if connection.vendor == "postgresql" else super().db_type(connection)

    def get_db_prep_value(self, value: Any, connection: BaseDatabaseWrapper, prepared: bool = False) -> Any:
        adapted = super().get_db_prep_value(value, connection, prepared)
        if connection.vendor != "postgresql":
            return adapted
        from psycopg.types.json import Json, Jsonb  # where SQLite is used, nobody pays for it

        return Json(adapted.obj, dumps=adapted.dumps) if isinstance(adapted, Jsonb) else adapted

    def select_format(self, compiler: Any, sql: str, params: Any) -> tuple[str, Any]:
        """As text, like all JSON that Django reads: psycopg would parse it by itself."""
        return (f"({sql})::text", params) if compiler.connection.vendor == "postgresql" else (sql, params)
