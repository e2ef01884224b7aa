"""Django's PostgreSQL backend, whose connections can be told not to wait for an answer for ever."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from django.db import OperationalError
from django.db.backends.postgresql import base

from tasks import postgres
from tasks.postgresql.silence import SILENT_SECONDS, silences

if TYPE_CHECKING:
    import psycopg


class DatabaseWrapper(base.DatabaseWrapper):
    """As Django's, unless ``postgres.limit_waits`` was called."""

    def get_new_connection(self, conn_params: dict[str, Any]) -> psycopg.Connection[Any]:
        seconds = self.settings_dict.get(postgres.ANSWER)
        if seconds is None:
            return self._connection(conn_params)
        silence = silences[self.alias]
        if not silence.may_ask():
            raise OperationalError("the server did not answer a moment ago")
        connection = self._ask(conn_params)
        postgres.give_up_after(connection, seconds, silence.begins)
        return connection

    def _ask(self, conn_params: dict[str, Any]) -> psycopg.Connection[Any]:
        silence, since = silences[self.alias], time.monotonic()
        try:
            connection = self._connection(conn_params)
        except self.Database.OperationalError:
            if time.monotonic() - since < SILENT_SECONDS:
                silence.ends()
            else:
                silence.begins()
            raise
        silence.ends()
        return connection

    def _connection(self, conn_params: dict[str, Any]) -> psycopg.Connection[Any]:
        return super().get_new_connection(conn_params)  # type: ignore[no-any-return]  # Django's is untyped

    def is_usable(self) -> bool:
        """Asked before a request; one that would wait for nothing is not."""
        return not silences[self.alias].known and super().is_usable()
