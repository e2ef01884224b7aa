"""The database connections that handlers open, if they open any."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from django.conf import settings
from django.db import close_old_connections, connections, reset_queries
from django.db.backends.signals import connection_created


class HandlersConnections:
    """Between two handlers; costs nothing as long as none has asked a database."""

    def __init__(self) -> None:
        self._any = False
        connection_created.connect(self._one_was_opened)

    def _one_was_opened(self, **kwargs: Any) -> None:
        self._any = True

    def refresh(self) -> None:
        """After a rest one may have gone stale."""
        if self._any:
            close_old_connections()

    def let_go(self, *, all_of_them: bool) -> None:
        """Close what is in a transaction, old or broken; after an interrupt all: no code expects one."""
        if not self._any:
            return
        for connection in connections.all(initialized_only=True):
            inside = connection.in_atomic_block or getattr(connection, "holds_gate", False)  # begun by hand
            if all_of_them or inside or not connection.autocommit:  # it would hold up every writer
                with suppress(Exception):  # whatever state it is in
                    connection.close()
                del connections[connection.alias]  # its flags as well
        close_old_connections()
        if settings.DEBUG:
            reset_queries()
