"""Django's SQLite backend behind the write gate, durable, with one checkpointer at a time."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from itertools import islice
from typing import Any

from django.db import OperationalError
from django.db.backends.sqlite3 import base

from tasks.sqlite import damage
from tasks.sqlite.gate import PATIENCE, Gate
from tasks.sqlite.wal import Wal, is_foreign

WAL_LIMIT_BYTES = 16 * 1024 * 1024  # how much of it stays on the disk when it is empty

# The WAL-reset bug (SQLite before 3.51.3) lets two processes that checkpoint at the same time
# corrupt the file: nobody checkpoints but the holder of the gate.
PRAGMAS = (
    "PRAGMA synchronous=FULL",  # a commit that power can take back is no acknowledgement
    "PRAGMA wal_autocheckpoint=0",
    f"PRAGMA journal_size_limit={WAL_LIMIT_BYTES}",
)

# What needs no gate outside of a transaction; whatever is in doubt passes it.
_FREE = re.compile(
    r"\s*((SELECT|VALUES|EXPLAIN|SAVEPOINT|RELEASE|COMMIT|END|ROLLBACK)\b"
    r"|WITH\b(?!.*\b(INSERT|UPDATE|DELETE|REPLACE)\b)"
    r"|PRAGMA\b(?!.*(checkpoint|journal_mode|optimize|vacuum)))",
    re.IGNORECASE | re.DOTALL,
)
_MAY_END = re.compile(r"\s*(COMMIT|END|ROLLBACK|RELEASE)\b", re.IGNORECASE)


@lru_cache(maxsize=256)
def _with_marks(query: str) -> str:
    """SQLite's placeholders for Django's."""
    return base.FORMAT_QMARK_REGEX.sub("?", query).replace("%%", "%")


class DatabaseWrapper(base.DatabaseWrapper):
    gate: Gate | None = None  # None: in memory, nobody else is there
    wal: Wal | None = None
    _opened_read_only = False
    patience = PATIENCE  # with the gate
    checkpoint_above_bytes = 64 * 1024 * 1024  # whoever commits and sees a larger WAL empties it

    @property
    def path(self) -> str:
        """The database's file; empty when it is in memory."""
        return "" if self.is_in_memory_db() else str(self.settings_dict["NAME"])

    def get_new_connection(self, conn_params: dict[str, Any]) -> sqlite3.Connection:
        if not self.path:
            return self._connect(conn_params)
        with damage.noticed(self.path) as compare:
            connection = self._connect(conn_params)
            self.gate = Gate(self.path + "-gate", patience=self.patience)
            self.wal = Wal(self.path, self.gate)
            connection.setconfig(sqlite3.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, True)
            self._refuse_foreign_wal(connection)
            self._become_wal(connection)
            for pragma in PRAGMAS:
                connection.execute(pragma)
            compare(connection)
            self._opened_read_only = not os.access(self.path, os.W_OK)
        return connection

    def _connect(self, conn_params: dict[str, Any]) -> sqlite3.Connection:
        return super().get_new_connection(conn_params)  # type: ignore[no-any-return]  # Django's is untyped

    def _refuse_foreign_wal(self, connection: sqlite3.Connection) -> None:
        """Before anything is read."""
        if is_foreign(self.path):
            connection.close()
            raise OperationalError(
                f"{self.path}-wal belongs to another database, and would destroy this one; after a restore, "
                f"move it and {self.path}-shm out of the way"
            )

    def _become_wal(self, connection: sqlite3.Connection) -> None:
        """The mode is kept in the file: only its first connection writes, the others need not wait."""
        if connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
            with self._through_gate():
                connection.execute("PRAGMA journal_mode=WAL")

    def close_if_unusable_or_obsolete(self) -> None:
        """Asked between requests. SQLite opens what cannot be written to for reading, and it stays so."""
        if self._opened_read_only and not self.in_atomic_block:
            self.close()
        super().close_if_unusable_or_obsolete()

    def create_cursor(self, name: str | None = None) -> GatedCursor:
        cursor: GatedCursor = self.connection.cursor(factory=GatedCursor)
        cursor.wrapper = self
        return cursor

    @property
    def holds_gate(self) -> bool:
        """In a transaction, be it one begun by hand: every other writer waits."""
        return self.gate is not None and self.gate.held

    def writes_need_gate(self) -> bool:
        return self.gate is not None and not self.gate.held

    @contextmanager
    def _through_gate(self) -> Iterator[None]:
        try:
            if self.gate is not None:
                self.gate.acquire()
            yield
        finally:
            self._leave_gate()

    def single_write(self, write: Callable[[], Any]) -> Any:
        """Run one statement that commits by itself."""
        with self._through_gate():
            return write()

    def last_words(self, write: Callable[[], Any]) -> Any:
        """Run a statement that may end the transaction."""
        try:
            return write()
        finally:
            self._leave_gate()

    def _leave_gate(self) -> None:
        """Let the next one in, unless a transaction is still open."""
        if self.gate is None or not self.gate.held:
            return
        if self.connection is not None and self.connection.in_transaction:
            return
        try:
            if self.connection is not None and self.wal_bytes() > self.checkpoint_above_bytes:
                self._checkpoint_if_due()
        finally:
            self.gate.release()

    def _start_transaction_under_autocommit(self) -> None:
        try:
            if self.gate is not None:
                self.gate.acquire()
            super()._start_transaction_under_autocommit()  # type: ignore[misc]  # not in the stubs
        except BaseException:  # also an interrupt, after it began: nobody would end it
            self.connection.rollback()
            self._leave_gate()
            raise

    def _commit(self) -> None:
        self.last_words(super()._commit)  # type: ignore[misc]  # not in the stubs

    def _rollback(self) -> None:
        self.last_words(super()._rollback)  # type: ignore[misc]  # not in the stubs

    def _close(self) -> None:
        try:
            super()._close()  # type: ignore[misc]  # not in the stubs
        finally:
            if self.gate is not None:
                self.gate.close()

    def wal_bytes(self) -> int:
        self.ensure_connection()
        return self.wal.bytes() if self.wal is not None else 0

    def checkpoint(self) -> bool:
        """Write the WAL back into the database and empty it; False when a reader was in the way."""
        self.ensure_connection()
        with self._through_gate():
            return self.wal is not None and self.wal.empty(self.connection) is None

    def checkpoint_if_due(self) -> bool:
        """The same, but False at once where a reader was in the way just now."""
        self.ensure_connection()
        with self._through_gate():
            return self._checkpoint_if_due()

    def _checkpoint_if_due(self) -> bool:
        """With the gate in hand."""
        above = self.checkpoint_above_bytes
        return self.wal is not None and self.wal.empty_if_due(self.connection, warn_above_bytes=above)


class GatedCursor(base.SQLiteCursorWrapper):
    """Takes the gate for a write outside of a transaction, and for a transaction begun and ended by hand."""

    wrapper: DatabaseWrapper
    _returned: Iterator[Any] | None = None  # the rows of a write by itself, read before the gate opened

    def execute(self, query: str, params: Any = None) -> Any:
        self._returned = None
        run = partial(super().execute, query, params)
        if self.wrapper.writes_need_gate():
            return run() if _FREE.match(query) else self.wrapper.single_write(partial(self._to_its_end, run))
        return self.wrapper.last_words(run) if _MAY_END.match(query) else run()

    def convert_query(self, query: str, *, param_names: Any = None) -> str:
        """Remembered: for a statement with hundreds of places it takes longer than some statements."""
        return super().convert_query(query, param_names=param_names) if param_names else _with_marks(query)

    def _to_its_end(self, write: Callable[[], Any]) -> Any:
        """A write with RETURNING commits when its last row is read, which may be never."""
        result = write()
        if self.description:
            self._returned = iter(super().fetchall())
        return result

    def executemany(self, query: str, param_list: Any) -> Any:
        run = partial(super().executemany, query, param_list)
        return self.wrapper.single_write(run) if self.wrapper.writes_need_gate() else run()

    def executescript(self, script: str) -> Any:
        return self.wrapper.single_write(partial(super().executescript, script))

    def __next__(self) -> Any:
        return super().__next__() if self._returned is None else next(self._returned)

    def fetchone(self) -> Any:
        return super().fetchone() if self._returned is None else next(self._returned, None)

    def fetchmany(self, size: int | None = None) -> list[Any]:
        size = self.arraysize if size is None else size
        return super().fetchmany(size) if self._returned is None else list(islice(self._returned, size))

    def fetchall(self) -> list[Any]:
        return super().fetchall() if self._returned is None else list(self._returned)
