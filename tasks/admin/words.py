"""How times, states and values are written on a page. All that comes from outside is escaped here."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from tasks.masking import masked, masked_text
from tasks.models import Task
from tasks.pending import Code, Reason
from tasks.spans import UNITS
from tasks.spans import span as span  # for the other pages, too
from tasks.states import Status

NOTHING = "–"  # noqa: RUF001 - a dash for an empty cell
COLOURED_CHARS = 20_000  # longer JSON is shown in one colour
ERROR_CHARS = 160  # of an error in a list
MASKED_CHARS = 1_000  # of it are looked through for secrets: one that is cut off is not known for one


def age(moment: datetime, now: datetime) -> str:
    """How far from now, in one unit: ``5 min ago``, ``in 3 h``; a date when that is more than 30 days."""
    distance = moment - now
    seconds = abs(distance.total_seconds())
    if seconds < 1:
        return "now"
    if seconds > 30 * 86_400:
        return f"{timezone.localtime(moment):%d %b %Y}"
    name, size = next((name, size) for name, size in UNITS if seconds >= size)
    amount = f"{seconds // size:.0f} {name}"
    return f"in {amount}" if distance > timedelta(0) else f"{amount} ago"


def exact(moment: datetime) -> str:
    """``2026-01-12 01:37:19.123 UTC``."""
    local = timezone.localtime(moment)
    return f"{local:%Y-%m-%d %H:%M:%S}.{local.microsecond // 1000:03d} {local.tzname()}"


def when(moment: datetime | None, now: datetime) -> SafeString | str:
    """How long ago, with the exact time to be seen under the pointer."""
    if moment is None:
        return NOTHING
    iso = moment.isoformat()
    return format_html('<time datetime="{}" title="{}">{}</time>', iso, exact(moment), age(moment, now))


def moment(moment: datetime | None, now: datetime) -> SafeString | str:
    """The exact time, and how long ago."""
    if moment is None:
        return NOTHING
    parts = exact(moment), age(moment, now)
    return format_html(
        '<time datetime="{}">{}</time> <span class="quiet">{}</span>', moment.isoformat(), *parts
    )


def badge(state: str, label: str) -> SafeString:
    return format_html('<span class="badge is-{}">{}</span>', state, label)


def status_badge(status: str) -> SafeString:
    return badge(status, Status(status).label)


def capped(number: int, cap: int) -> str:
    """``812``, or ``1,000+`` when it was not counted further."""
    return f"{cap:,}+" if number > cap else f"{number:,}"


def standing(task: Task, now: datetime, why: Reason | None = None) -> str:
    """What a badge leaves open: why it waits, how long it has run; empty when that is all."""
    if task.status == Status.PENDING:
        return _why_it_waits(task, now, why)
    if task.status != Status.PROCESSING:
        return ""
    if task.cancel_requested_at:
        return "asked to stop"
    return f"for {span(now - task.attempted_at)}" if task.attempted_at else ""


_SHORT = {
    Code.QUEUE_PAUSED: "its queue is paused",
    Code.NO_HANDLER: "no worker knows its handler",
    Code.NO_WORKERS: "no worker takes its queue",
}


def _why_it_waits(task: Task, now: datetime, why: Reason | None) -> str:
    if why and why.until:
        return f"{'next attempt' if why.code == Code.RETRY_BACKOFF else 'starts'} {age(why.until, now)}"
    if why and why.code in _SHORT:
        return _SHORT[why.code]
    return f"ready for {span(now - task.ready_at)}" if task.ready_at else "due now"


def attempts(task: Task) -> str:
    """``2 of 5``, counted within the present budget."""
    return f"{task.attempt - task.attempts_before} of {task.max_attempts}"


def took(task: Task) -> timedelta | None:
    """How long the attempt that ended it ran; None when it was not an attempt that did, or it goes on."""
    if task.finished_at is None or task.attempted_at is None:
        return None
    if isinstance(task.error, dict) and task.error.get("attempt") != task.attempt:
        return None  # cancelled or expired while it waited
    return task.finished_at - task.attempted_at


def error_type(dotted: str) -> str:
    """``ValueError`` needs no module before it; others do."""
    return dotted.removeprefix("builtins.")


def error_line(error: Any) -> str:
    """An error in a line for a list: ``ValueError: no such customer``."""
    if not isinstance(error, dict):
        return ""
    name = str(error.get("type", "")).rpartition(".")[2]
    message = masked_text(str(error.get("message", ""))[:MASKED_CHARS])
    return _line(f"{name}: {message}" if message else name)


def message_line(message: str) -> str:
    """What an error says, masked, in a line for a list."""
    return _line(masked_text(message[:MASKED_CHARS]))


def _line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= ERROR_CHARS else f"{line[: ERROR_CHARS - 1]}…"


def visible(text: str) -> str:
    """JSON or a text of one line or more, with what cannot be seen as escapes: marks that turn the
    direction of writing can make a line look like another one.
    """
    return "".join(c if c.isprintable() or c == "\n" else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    return f"\\u{ord(character):04x}" if character < "\uffff" else json.dumps(character)[1:-1]


def pretty(value: Any) -> SafeString:
    """JSON in lines, its names and values in colour, its secrets masked."""
    text = visible(json.dumps(masked(value), indent=2, ensure_ascii=False))
    if len(text) > COLOURED_CHARS:
        return format_html('<pre class="json">{}</pre>', text)
    return format_html(
        '<pre class="json">{}</pre>', format_html_join("", '<span class="{}">{}</span>', _tokens(text))
    )


_TOKEN = re.compile(r'("(?:[^"\\]|\\.)*")(\s*:)?|(true|false|null)\b|(-?\d[\d.eE+-]*)')


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    """(css class, text), in order and without a gap."""
    done = 0
    for token in _TOKEN.finditer(text):
        string, colon, word, _ = token.groups()
        kind = "name" if colon else "string" if string else "word" if word else "number"
        end = token.start(2) if colon else token.end()
        if token.start() > done:
            yield "mark", text[done : token.start()]
        yield kind, text[token.start() : end]
        done = end
    yield "mark", text[done:]
