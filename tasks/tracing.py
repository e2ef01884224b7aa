"""Which trace this runs in: a request's ``traceparent`` goes with its task to the handler, and on."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from types import ModuleType
from typing import Any

from tasks.conf import config
from tasks.logs import event

logger = logging.getLogger(__name__)

# https://www.w3.org/TR/trace-context/#traceparent-header: a later version may say more after these fields
_FORM = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL)

_current: ContextVar[str | None] = ContextVar("traceparent", default=None)


def parse(header: str) -> str | None:
    """The traceparent, as version 00; None for what is none, so that a new trace begins."""
    found = _FORM.fullmatch(header.strip())
    if found is None:
        return None
    version, trace_id, parent_id, flags, more = found.groups()
    invalid = version == "ff" or (version == "00" and more is not None)
    if invalid or not (trace_id.strip("0") and parent_id.strip("0")):
        return None
    return f"00-{trace_id}-{parent_id}-{flags}"


def is_on() -> bool:
    return _spans() is not None


def current() -> str | None:
    return spans.traceparent() if (spans := _spans()) else _current.get()


def of_new_task(asked_for: str | None) -> str | None:
    """What a task carries that is made now, maybe by another thread than the one that it was asked for in."""
    return spans.enqueued(asked_for) if (spans := _spans()) else asked_for


@contextmanager
def within(
    traceparent: str | None, kind: str, name: str, attributes: Mapping[str, Any] | None = None
) -> Iterator[Any]:
    """What happens inside is of this trace. ``kind``: SERVER or CONSUMER. Gives its span, or None."""
    if spans := _spans():
        with spans.within(traceparent, kind, name, attributes or {}) as span:
            yield span
        return
    token = _current.set(traceparent)
    try:
        yield None
    finally:
        _current.reset(token)


def flush() -> None:
    """Send what has gathered: the process is about to end."""
    if _spans.cache_info().currsize and (spans := _spans()):
        spans.flush()


@cache
def _spans() -> ModuleType | None:
    """What speaks to OpenTelemetry, imported where it is wanted alone; it has threads, so after any fork."""
    if not config().tracing:
        return None
    try:
        from tasks import otel
    except ImportError as error:
        hint = "pip install -r requirements-otel.txt"
        event(logger, logging.ERROR, "tracing.missing", error=str(error), hint=hint)
        return None
    return otel
