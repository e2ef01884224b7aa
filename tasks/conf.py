"""``settings.TASKSERVICE`` as one typed, frozen Config."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import timedelta
from functools import cache
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed

from tasks.rates import Rate
from tasks.states import Status

AUTHENTICATION = ("local", "private", "none", "required")  # see ``locality``
BURST, SUSTAINED, WRONG_TOKENS = Rate(5_000, 1), Rate(150_000, 60), Rate(60, 60)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    lease_for: timedelta = timedelta(seconds=30)  # renewed every third of it
    grace: timedelta = timedelta(seconds=25)  # what runs at SIGTERM may take this long
    timeout: timedelta = timedelta(minutes=5)  # of a handler that names none
    max_attempts: int = 5  # of a handler that names none
    workers: int = 3  # executors of one runworkers
    default_handler: str = "demo.sleep"  # runs a task that has only a title
    max_payload_bytes: int = 256 * 1024  # args and payload together, as JSON
    max_result_bytes: int = 256 * 1024
    recycle_after_tasks: int = 10_000  # an executor is replaced after so many tasks; 0: never
    pooler: bool = False  # PostgreSQL is reached through PgBouncer in transaction mode
    redis_url: str = ""  # rings where a pooler swallows NOTIFY
    listen_url: str = ""  # where to hear PostgreSQL's NOTIFY, if not there
    authentication: str = "local"  # required, none, or local: none where only this machine can come
    tracing: bool = False  # spans go to OpenTelemetry, which then has to be installed
    max_pending: int = 1_000_000  # tasks of one queue, above which the API takes no more; 0: no limit
    throttle_burst: Rate = BURST  # requests of one token, or of one address without one
    throttle_sustained: Rate = SUSTAINED
    throttle_wrong_tokens: Rate = WRONG_TOKENS  # of one address
    proxies: int = 0  # in front of the API, each of which adds to X-Forwarded-For
    recycle_above_mb: int = 512  # or when it holds so much more memory than at its start; 0: never
    version: str = ""  # of the code, for people; empty: a digest of it
    keep_completed: timedelta | None = timedelta(days=7)  # then a task is pruned; None: never
    keep_failed: timedelta | None = timedelta(days=30)
    keep_cancelled: timedelta | None = timedelta(days=30)

    def __post_init__(self) -> None:
        for field in fields(self):
            given, kind = getattr(self, field.name), type(field.default)
            if given is None and field.name in _NONE_IS_NEVER:
                continue
            if not isinstance(given, kind):
                raise ImproperlyConfigured(
                    f"TASKSERVICE: {field.name} must be of type {kind.__name__}, not {type(given).__name__}."
                )
        if self.authentication not in AUTHENTICATION:
            raise ImproperlyConfigured(
                f"TASKSERVICE: authentication must be one of {', '.join(AUTHENTICATION)}."
            )
        for name, least, why in _LEAST:
            given = getattr(self, name)
            if given is not None and given < least:
                raise ImproperlyConfigured(f"TASKSERVICE: {name} must be at least {least}{why}.")

    @property
    def kept_for(self) -> Mapping[Status, timedelta]:
        """How long finished tasks are kept; a status that is not in it, for ever."""
        given = {
            Status.COMPLETED: self.keep_completed,
            Status.FAILED: self.keep_failed,
            Status.CANCELLED: self.keep_cancelled,
        }
        return {status: age for status, age in given.items() if age is not None}


_NONE_IS_NEVER = frozenset({"keep_completed", "keep_failed", "keep_cancelled"})
_LEAST: tuple[tuple[str, Any, str], ...] = (
    ("lease_for", timedelta(seconds=1), ", or a slow commit loses the lease"),
    ("grace", timedelta(0), ""),
    ("timeout", timedelta(seconds=1), ""),
    ("max_attempts", 1, ""),
    ("workers", 1, ""),
    ("max_payload_bytes", 1024, ""),
    ("max_result_bytes", 1024, ""),
    ("max_pending", 0, " (0: no limit)"),
    ("proxies", 0, ""),
    ("recycle_after_tasks", 0, " (0: never)"),
    ("recycle_above_mb", 0, " (0: never)"),
    *((name, timedelta(minutes=1), ", or who waits for a task misses its end") for name in _NONE_IS_NEVER),
)


@cache
def config() -> Config:
    """The service's settings. Raises ImproperlyConfigured when they are wrong."""
    given = getattr(settings, "TASKSERVICE", {})
    unknown = set(given) - {field.name for field in fields(Config)}
    if unknown:
        raise ImproperlyConfigured(f"TASKSERVICE has unknown keys: {', '.join(sorted(unknown))}.")
    return Config(**given)


def _forget(*, setting: str, **kwargs: Any) -> None:
    if setting == "TASKSERVICE":
        config.cache_clear()


setting_changed.connect(_forget)  # so that override_settings works in tests
