"""A bell by Redis's PUBLISH, where a pooler swallows PostgreSQL's NOTIFY."""

from __future__ import annotations

import time
from functools import cache
from typing import TYPE_CHECKING

from django.db import connections

from tasks.conf import Config
from tasks.postgres import RING_EVERY_SECONDS

if TYPE_CHECKING:
    from redis import Redis

WAIT_SECONDS = 0.5  # for Redis; a commit is acknowledged after it
AVOID_SECONDS = 5.0  # one that did not answer

_silent_until: dict[str, float] = {}  # monotonic, for each URL


def is_chosen(config: Config) -> bool:
    """Where NOTIFY is heard, it is the surer bell: it fails only with the database itself."""
    return bool(config.redis_url) and config.pooler and not config.listen_url


def channel(alias: str) -> str:
    """Redis knows channels of all its databases by one name. Poolers' hosts may differ."""
    return f"taskservice:{connections[alias].settings_dict['NAME']}:bell"


@cache
def client(url: str) -> Redis:
    import redis  # its modules cost memory, for nothing where it is not used

    once = redis.retry.Retry(redis.backoff.NoBackoff(), 0)  # a client that tries again waits as long again
    waits = {"socket_timeout": WAIT_SECONDS, "socket_connect_timeout": WAIT_SECONDS, "retry": once}
    return redis.Redis.from_url(url, socket_keepalive=True, **waits)


def ring(url: str, alias: str) -> None:
    """As ``postgres.ring``: seldom, and it never fails."""
    now = time.monotonic()
    if now < _silent_until.get(url, 0.0):
        return
    _silent_until[url] = now + RING_EVERY_SECONDS
    try:
        client(url).publish(channel(alias), "")
    except Exception:  # whatever ails it: the worker looks by itself a moment later
        _silent_until[url] = time.monotonic() + AVOID_SECONDS
