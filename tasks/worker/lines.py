"""On which rings reach a ``Listener``: a connection that listens to PostgreSQL, or to Redis."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, Self

from tasks import postgres

if TYPE_CHECKING:
    import psycopg
    from redis import Redis

ASK_SECONDS = 5.0  # how often: of a line that was cut on the way nothing else is heard either


class Line(Protocol):
    """An open connection; whatever fails, it is closed, and another is opened."""

    def heard(self, *, within: float) -> bool:
        """Whether somebody has rung; waits for so many seconds."""

    def ring(self) -> None:
        """As others do it."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...


class PostgresLine:
    """``connect`` opens a connection past every pool and transaction, which waits for no answer for ever."""

    def __init__(self, connect: Callable[[], psycopg.Connection[Any]]) -> None:
        self._connect = connect
        self._connection = connect()
        self._asked_at = time.monotonic()

    def __enter__(self) -> Self:
        self._connection.execute(f"LISTEN {postgres.CHANNEL}")
        return self

    def __exit__(self, *error: object) -> None:
        self._connection.close()

    def heard(self, *, within: float) -> bool:
        if time.monotonic() - self._asked_at > ASK_SECONDS:
            self._connection.execute("SELECT 1")
            self._asked_at = time.monotonic()
        return any(True for _ in self._connection.notifies(timeout=within, stop_after=1))

    def ring(self) -> None:
        with self._connect() as other:
            other.execute(f"NOTIFY {postgres.CHANNEL}")


class RedisLine:
    def __init__(self, client: Redis, channel: str) -> None:
        self._client, self._channel = client, channel
        self._asked_at = self._heard_at = time.monotonic()
        self._subscription = client.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]

    def __enter__(self) -> Self:
        self._subscription.subscribe(self._channel)
        return self

    def __exit__(self, *error: object) -> None:
        self._subscription.close()

    def heard(self, *, within: float) -> bool:
        self._ask()
        deadline = time.monotonic() + within
        while (left := deadline - time.monotonic()) > 0:
            if message := self._subscription.get_message(timeout=left):
                self._heard_at = time.monotonic()
                if message["type"] != "pong":
                    return True
        return False

    def _ask(self) -> None:
        """Raises when what was asked before has found no answer."""
        now = time.monotonic()
        if now - self._asked_at <= ASK_SECONDS:
            return
        if self._heard_at < self._asked_at:
            raise TimeoutError("Redis does not answer")
        self._subscription.ping()
        self._asked_at = now

    def ring(self) -> None:
        self._client.publish(self._channel, "")
