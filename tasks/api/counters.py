"""Where requests are counted for all API processes: in Redis, in PostgreSQL, or in a file beside SQLite's."""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from django.db import connections

from tasks import postgres, redis_bell
from tasks.conf import config
from tasks.models.task import database

FORGET_EVERY_SECONDS = 60.0
FORGET_ON_SECONDS = 0.05  # while there are more to forget
FORGET_AT_ONCE = 1_000  # windows that have ended; a request waits for that
BUSY_SECONDS = 0.5  # for the file; another process has it for microseconds


class Counter(Protocol):
    def add(self, key: str, count: int, *, seconds: int) -> tuple[int, float]:
        """Count so many in. Returns how many are counted in this window, and in how many seconds it ends.

        A window begins with the first that is counted after the last one has ended.
        """


def counter() -> Counter:
    if url := config().redis_url:
        return RedisCounter(url)
    if postgres.is_postgres(database()):
        return table_counter()
    return file_counter(f"{connections[database()].settings_dict['NAME']}-throttle")


class Forgetting:
    """When rows of windows that have ended are deleted: few at a time, and soon again until none is left."""

    def __init__(self) -> None:
        self._at = 0.0  # monotonic

    def is_due(self) -> bool:
        """Whoever is told so does it."""
        now = time.monotonic()
        due = now > self._at
        if due:
            self._at = now + FORGET_EVERY_SECONDS
        return due

    def done(self, rows: int) -> None:
        if rows >= FORGET_AT_ONCE:
            self._at = time.monotonic() + FORGET_ON_SECONDS


class RedisCounter:
    def __init__(self, url: str) -> None:
        self._url = url

    def add(self, key: str, count: int, *, seconds: int) -> tuple[int, float]:
        key = f"taskservice:{connections[database()].settings_dict['NAME']}:throttle:{key}"
        with redis_bell.client(self._url).pipeline(transaction=True) as together:
            together.set(key, 0, px=seconds * 1000, nx=True)
            together.incrby(key, count)
            together.pttl(key)
            _, used, left = together.execute()
        return int(used), max(0, int(left)) / 1000


class TableCounter:
    """In a table that writes no log: a commit waits for no disk, and a crash empties it."""

    _ADD = """
    INSERT INTO throttle AS known (key, used, ends_at)
    VALUES (%s, %s, clock_timestamp() + make_interval(secs => %s))
    ON CONFLICT (key) DO UPDATE SET
        used = CASE WHEN known.ends_at > clock_timestamp() THEN known.used ELSE 0 END + excluded.used,
        ends_at = CASE WHEN known.ends_at > clock_timestamp() THEN known.ends_at ELSE excluded.ends_at END
    RETURNING used, extract(epoch FROM ends_at - clock_timestamp())::float
    """
    _FORGET = """
    DELETE FROM throttle WHERE key IN (
        SELECT key FROM throttle WHERE ends_at < clock_timestamp() LIMIT %s FOR UPDATE SKIP LOCKED
    )
    """

    def __init__(self) -> None:
        self._forgetting = Forgetting()

    def add(self, key: str, count: int, *, seconds: int) -> tuple[int, float]:
        with connections[database()].cursor() as cursor:
            if self._forgetting.is_due():
                cursor.execute(self._FORGET, (FORGET_AT_ONCE,))
                self._forgetting.done(cursor.rowcount)
            cursor.execute(self._ADD, (key, count, seconds))
            used, left = cursor.fetchone()
        return int(used), max(0.0, left)


class FileCounter:
    """In an SQLite file of its own, which is never flushed: losing it costs nothing.

    A window that lasts longer than it may was begun before the clock was set back.
    """

    _ADD = """
    INSERT INTO throttle (key, used, ends_at) VALUES (:key, :count, :now + :seconds)
    ON CONFLICT (key) DO UPDATE SET
        used = CASE WHEN throttle.ends_at > :now AND throttle.ends_at <= :now + :seconds
            THEN throttle.used ELSE 0 END + excluded.used,
        ends_at = CASE WHEN throttle.ends_at > :now AND throttle.ends_at <= :now + :seconds
            THEN throttle.ends_at ELSE excluded.ends_at END
    RETURNING used, ends_at - :now
    """
    _FORGET = """
    DELETE FROM throttle WHERE key IN (SELECT key FROM throttle WHERE ends_at < ? LIMIT ?)
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._file: sqlite3.Connection | None = None
        self._forgetting = Forgetting()

    def add(self, key: str, count: int, *, seconds: int) -> tuple[int, float]:
        with self._lock:
            try:
                return self._add(key, count, seconds)
            except sqlite3.DatabaseError as error:
                if type(error) is sqlite3.DatabaseError:  # no database, or a broken one: after a power cut
                    self._begin_anew()
                    return self._add(key, count, seconds)
                raise

    def _add(self, key: str, count: int, seconds: int) -> tuple[int, float]:
        file, now = self._opened(), time.time()
        if self._forgetting.is_due():
            self._forgetting.done(file.execute(self._FORGET, (now, FORGET_AT_ONCE)).rowcount)
        given: dict[str, Any] = {"key": key, "count": count, "seconds": seconds, "now": now}
        [(used, left)] = file.execute(self._ADD, given).fetchall()
        return int(used), float(left)

    def _opened(self) -> sqlite3.Connection:
        if self._file is None:
            opened = sqlite3.connect(
                self._path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            opened.execute("PRAGMA journal_mode = PERSIST")
            opened.execute("PRAGMA synchronous = OFF")
            opened.execute(
                "CREATE TABLE IF NOT EXISTS throttle (key TEXT PRIMARY KEY, used INTEGER, ends_at REAL)"
            )
            self._file = opened
        return self._file

    def _begin_anew(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        for suffix in ("", "-journal"):
            with suppress(FileNotFoundError):
                Path(self._path + suffix).unlink()


@cache
def table_counter() -> TableCounter:
    return TableCounter()


@cache
def file_counter(path: str) -> FileCounter:
    return FileCounter(path)
