"""What only PostgreSQL needs: an end to every wait, and a bell that rings on other machines."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.db import Error, connections

from tasks.conf import config

if TYPE_CHECKING:
    import psycopg

CHANNEL = "tasks_bell"
RING_EVERY_SECONDS = 0.01  # of one process: a commit costs more than it saves when each of many rings
LIMITS = {
    "connect_timeout": 3,
    "keepalives_idle": 5,  # seconds
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 5_000,  # milliseconds
}
STATEMENT_SECONDS = 5.0
MARGIN_SECONDS = 0.5  # a server that is only slow says so itself, and takes back what it did
IDLE_SECONDS = 3.0  # in a transaction: whoever was cut off there holds its rows for no longer
PLANNED_AFTER = 3  # executions
NOT_WALKS = ("seqscan", "bitmapscan", "mergejoin", "sort")
ANSWER, DOUBT = "ANSWER_SECONDS", "DOUBT_SECONDS"  # beside OPTIONS: what ``tasks.postgresql`` has to know
SET_POOLER = "a pooler refuses {}; set TASKSERVICE_POOLER=true"

_rang_at: dict[str, float] = {}  # monotonic, for each alias


def is_postgres(alias: str) -> bool:
    return connections[alias].vendor == "postgresql"


def limit_waits(
    alias: str,
    *,
    pooler: bool,
    statement_seconds: float = STATEMENT_SECONDS,
    doubt_seconds: float | None = None,
) -> None:
    """Of all connections that this process will open; what the settings say already stays.

    Not for executors: how long a handler's query may take is its own affair. ``pooler``: PgBouncer
    refuses timeouts with the connection; there they belong to the role. ``doubt_seconds``: for an answer,
    until one has been waited for in vain; after that, as the server may only be slow, as long as it is
    allowed.
    """
    settings = connections[alias].settings_dict
    settings.setdefault(ANSWER, statement_seconds + MARGIN_SECONDS)
    settings.setdefault(DOUBT, doubt_seconds or settings[ANSWER])
    given = settings["OPTIONS"]
    wanted: dict[str, Any] = {**LIMITS} if pooler else {**LIMITS, "options": _timeouts(statement_seconds)}
    given.update({**wanted, **given})


def keep_plans(alias: str) -> None:
    """Of all connections that this process will open: statements that come again are planned once.

    With a kept plan an idle worker begins a task 1 ms sooner. It may be from when the table was empty,
    and has to serve millions of rows, so it may only be one that walks an index in its order. Not for
    batches, see ``plan_anew``, nor behind a pooler, where a statement may meet another connection each time.
    """
    given = connections[alias].settings_dict["OPTIONS"]
    given |= {"server_side_binding": True, "prepare_threshold": PLANNED_AFTER}
    given["options"] = " ".join([given.get("options", ""), *(f"-c enable_{way}=off" for way in NOT_WALKS)])


@contextmanager
def plan_anew(alias: str) -> Iterator[None]:
    """What runs within is planned each time, for the rows that are given with it.

    A plan that was made when nothing was processing, and kept, compares each task that is with each of
    the batch: to complete 282 took 12 ms instead of 3.
    """
    connection = connections[alias]
    connection.ensure_connection()
    before, connection.connection.prepare_threshold = connection.connection.prepare_threshold, None
    try:
        yield
    finally:
        connection.connection.prepare_threshold = before


def _timeouts(statement_seconds: float) -> str:
    statement, idle = (round(seconds * 1000) for seconds in (statement_seconds, IDLE_SECONDS))
    return f"-c statement_timeout={statement} -c idle_in_transaction_session_timeout={idle}"


def give_up_after(
    connection: psycopg.Connection[Any],
    seconds: Callable[[], float],
    tell: Callable[[], object] = lambda: None,
) -> None:
    """Wait so long for each answer, then ``tell``, close the connection and raise ``OperationalError``.

    The server's own timeouts don't come through where nothing does, and TCP's see nothing as long as
    something on the way, such as a proxy, takes what is sent.
    """
    import psycopg  # costs memory, for nothing on SQLite

    if "wait" in vars(connection):  # a pool has given it out before
        return
    wait = connection.wait

    def wait_for_a_while(generator: Any, *args: Any, **given: Any) -> Any:
        try:
            return wait(generator, *args, **{"timeout": seconds(), **given})
        except psycopg.OperationalError:
            unanswered = connection.pgconn.transaction_status == psycopg.pq.TransactionStatus.ACTIVE
            if unanswered and "timeout" not in given:  # that would be the caller's own affair
                connection.pgconn.finish()
                tell()
            raise

    connection.wait = wait_for_a_while  # type: ignore[method-assign, assignment]  # its class cannot be chosen


def arrays(rows: Sequence[Sequence[Any]]) -> list[str]:
    """The columns of these rows, each as the text of an array; the driver's way takes three times as long.

    https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO
    """
    return [f"{{{','.join(map(_element, column))}}}" for column in zip(*rows, strict=True)]


def _element(value: Any) -> str:
    if isinstance(value, str):
        escaped = value.replace("\\", r"\\").replace('"', r"\"")
        return f'"{escaped}"'
    if isinstance(value, UUID):
        return value.hex
    return "NULL" if value is None else str(value)


def ring(alias: str) -> None:
    """After a commit, not with it: inside, it would halve what many writers commit.

    Whoever listens looks twice, so that what is left out here is not missed.
    """
    now = time.monotonic()
    if now - _rang_at.get(alias, -1.0) < RING_EVERY_SECONDS:
        return
    _rang_at[alias] = now
    # a listener that misses it looks by itself a moment later
    with suppress(Error), connections[alias].cursor() as cursor:
        cursor.execute(f"NOTIFY {CHANNEL}")


def lock_was_not_free(error: BaseException) -> bool:
    """Whether ``lock_timeout`` ended the statement: somebody else is still writing what it needs."""
    return _state(error) == "55P03"


def gave_way(error: BaseException) -> bool:
    """Whether it was ended so that another transaction could go on: a deadlock, a serialization failure."""
    return _state(error) in ("40P01", "40001")


def hint(error: BaseException | None) -> str | None:
    """What to set, where a setting is missing."""
    if error is None or config().pooler:
        return None
    if "unsupported startup parameter" in str(error):  # PgBouncer's words; it has no code for it
        return SET_POOLER.format("the time limits that come with a connection")
    if _state(error) in ("26000", "42P05"):  # a prepared statement that is not there, or is already
        return SET_POOLER.format("what was prepared on another connection")
    return None


def _state(error: BaseException) -> object:
    return getattr(error.__cause__, "sqlstate", None)
