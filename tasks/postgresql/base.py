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

TRY_SECONDS = 2.0  # for the answer to a question that takes no time


class DatabaseWrapper(base.DatabaseWrapper):
    """As Django's, unless ``postgres.limit_waits`` was called."""

    _is_tried = False  # at this moment, whether it answers at all

    def get_new_connection(self, conn_params: dict[str, Any]) -> psycopg.Connection[Any]:
        if postgres.ANSWER not in self.settings_dict:
            return self._connection(conn_params)
        silence = silences[self.alias]
        if not silence.may_ask():
            raise OperationalError("the server did not answer a moment ago")
        connection = self._ask(conn_params)
        postgres.give_up_after(connection, self._patience, silence.begins)
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

    def _patience(self) -> float:
        if self._is_tried:
            return TRY_SECONDS
        known = self.settings_dict
        return known[postgres.ANSWER if silences[self.alias].was_lately() else postgres.DOUBT]  # type: ignore[no-any-return]

    def is_usable(self) -> bool:
        """Asked before a request; one that would wait for nothing is not."""
        self._is_tried = True
        try:
            return not silences[self.alias].known and super().is_usable()
        finally:
            self._is_tried = False
