"""One event a line, with fields: for people as text, for machines as JSON."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any


def event(logger: logging.Logger, level: int, name: str, **fields: Any) -> None:
    """Log an event, for example ``task.settled`` with ``task_id`` and ``attempt``. None is left out."""
    if logger.isEnabledFor(level):
        given = {key: value for key, value in fields.items() if value is not None}
        logger.log(level, name, extra={"fields": given})


_about: ContextVar[Mapping[str, Any]] = ContextVar("about", default={})  # noqa: B039 - never changed
_everywhere: Mapping[str, Any] = {}  # in an executor, which runs one task at a time


@contextmanager
def about(**fields: Any) -> Iterator[None]:
    """Every line that is written inside says this too, whoever writes it."""
    token = _about.set({**_about.get(), **fields})
    try:
        yield
    finally:
        _about.reset(token)


def now_about(fields: Mapping[str, Any]) -> None:
    """The same from now on, and for all threads of this process: those that a handler has started too."""
    global _everywhere
    _everywhere = fields


def _fields_of(record: logging.LogRecord) -> dict[str, Any]:
    return {**_everywhere, **_about.get(), **getattr(record, "fields", {})}


class AccessFields(logging.Filter):
    """Makes an event of a line of gunicorn's access log."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, dict):
            atoms = record.args
            record.fields = {name: atoms[atom] for name, atom in _ATOMS.items() if atom in atoms}
            record.msg, record.args = "api.request", None
        return True


# names of ours for those of https://docs.gunicorn.org/en/stable/settings.html#access-log-format
_ATOMS = {
    "method": "m", "path": "U", "status": "s", "bytes": "B", "seconds": "L", "client": "h",
    "request_id": "{x-request-id}o",
}  # fmt: skip


class NoOutages(logging.Filter):
    """Drops Django's line for an answer of 503: ``api.unavailable`` has told the reason."""

    def filter(self, record: logging.LogRecord) -> bool:
        return getattr(record, "status_code", None) != 503


class TextFormatter(logging.Formatter):
    """``2026-01-12T01:37:19.123Z INFO task.settled task_id=… transition=back-off attempt=2``."""

    def format(self, record: logging.LogRecord) -> str:
        fields = _fields_of(record)
        words = [_moment(record), record.levelname, _one_line(record.getMessage())]
        words += [f"{key}={_text(value)}" for key, value in fields.items()]
        line = " ".join(words)
        return f"{line}\n{_indented(self.formatException(record.exc_info))}" if record.exc_info else line


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, event, logger, and the event's fields."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": _moment(record),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            "logger": record.name,
            **_fields_of(record),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        try:
            return json.dumps(line, default=str, allow_nan=False)
        except ValueError:  # NaN is no JSON, and a circle none either
            return json.dumps({key: str(value) for key, value in line.items()})


def _moment(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _one_line(text: str) -> str:
    """With whatever ends a line, steers a terminal or is no UTF-8 made visible."""
    return text if text.isprintable() else "".join(map(_visible, text))


def _visible(char: str) -> str:
    return char if char.isprintable() and char != "\\" else repr(char)[1:-1]


def _indented(text: str) -> str:
    """A traceback, set off so that no line of it, which may come from anywhere, reads as an event."""
    return "\n".join(f"  {_one_line(line)}" for line in text.split("\n"))


def _text(value: Any) -> str:
    """Quoted where it would not read as one word, so that no value can forge another field or line."""
    text = str(value)
    plain = text.isprintable() and text and not any(char in text for char in ' "=')
    return text if plain else json.dumps(text)
