"""Django's cache: in Redis where there is one, so that all processes share it; else each has its own."""

from __future__ import annotations

from typing import Any

WAIT_SECONDS = 0.5  # a cache that is slower than this is none


def cache(redis_url: str) -> dict[str, Any]:
    if not redis_url:
        return {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
    return {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": redis_url,
        "KEY_PREFIX": "taskservice",
        "OPTIONS": {"socket_timeout": WAIT_SECONDS, "socket_connect_timeout": WAIT_SECONDS},
    }
