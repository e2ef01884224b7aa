"""What an operator should know before any number: nobody works, a queue is held back, workers differ."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from tasks import lifecycle, stats
from tasks.admin import words
from tasks.admin.queue_rows import QueueRow
from tasks.pending import Situation
from tasks.spans import UNITS

SHOWN = 5  # of one kind
LATE = timedelta(minutes=5)  # for a ready task to wait, though workers take its queue

ERROR, WARNING = "error", "warning"


@dataclass(frozen=True, slots=True)
class Notice:
    level: str
    text: SafeString


def sentence(text: str) -> SafeString:
    """What stands between backticks is a command."""
    parts = re.split("`([^`]*)`", text)
    return format_html_join(
        "", "{}", ((format_html("<code>{}</code>", part) if n % 2 else part,) for n, part in enumerate(parts))
    )


def about(length: timedelta) -> str:
    """In one unit, in full words: ``3 minutes``."""
    seconds = max(1.0, length.total_seconds())
    name, size = next((name, size) for name, size in UNITS if seconds >= size)
    amount = int(seconds // size)
    return f"{amount} {_FULL[name]}{'' if amount == 1 else 's'}"


_FULL = {"d": "day", "h": "hour", "min": "minute", "s": "second"}


def of_workers(situation: Situation) -> Iterator[Notice]:
    if not situation.living:
        yield Notice(ERROR, sentence(f"{_nobody(situation)}: start one with `manage.py runworkers`."))
    versions = Counter(lifecycle.living(now=situation.now).values_list("version", flat=True))
    if len(versions) > 1:
        yield Notice(WARNING, sentence(mixed(versions)))


def _nobody(situation: Situation) -> str:
    if situation.draining:
        return "All workers drain, and claim nothing more"
    if not situation.workers:
        return "No worker is running, so no task will"
    return f"No worker has been seen for {about(situation.now - situation.workers[0].last_seen_at)}"


def mixed(versions: Counter[str]) -> str:
    told = [
        f"{number} {'runs' if number == 1 else 'run'} `{version or 'an unknown version'}`"
        for version, number in versions.most_common(SHOWN)
    ]
    return f"Mixed versions: of the workers, {', '.join(told)}. Drain those that are old, or restart them."


def of_queues(situation: Situation, rows: Sequence[QueueRow]) -> Iterator[Notice]:
    found = [*_paused(rows), *_unserved(situation, rows), *_parked(), *_late(situation, rows)]
    yield from found[: 2 * SHOWN]


def _paused(rows: Sequence[QueueRow]) -> Iterator[Notice]:
    for row in [row for row in rows if row.paused][:SHOWN]:
        by = f" by {row.paused.paused_by}" if row.paused and row.paused.paused_by else ""
        why = f": {row.paused.pause_reason}" if row.paused and row.paused.pause_reason else ""
        waits = f" {_tasks(row)} in it." if row.ready.any else ""
        told = format_html(
            "Queue <b>{}</b> has been paused{} for {}{}.{}", row.name, by, row.paused_for, why, waits
        )
        yield Notice(WARNING, told)


def _tasks(row: QueueRow) -> str:
    return "1 task waits" if row.ready.text == "1" else f"{row.ready.text} tasks wait"


def _unserved(situation: Situation, rows: Sequence[QueueRow]) -> Iterator[Notice]:
    if not situation.living:
        return  # it is said already
    for row in [row for row in rows if row.stuck][:SHOWN]:
        start = sentence(f"start one with `manage.py runworkers --queues {row.name}`.")
        told = format_html("No worker takes queue <b>{}</b>, and {} in it: {}", row.name, _tasks(row), start)
        yield Notice(ERROR, told)


def _parked() -> Iterator[Notice]:
    for handler, number in [*stats.parked().items()][:SHOWN]:
        told = format_html(
            "No live worker knows the handler <code>{}</code>, for which {} task{} wait{}: start one whose "
            "<code>TASKSERVICE_APPS</code> brings it.",
            handler,
            words.capped(number, stats.COUNTED),
            "" if number == 1 else "s",
            "s" if number == 1 else "",
        )
        yield Notice(ERROR, told)


def _late(situation: Situation, rows: Sequence[QueueRow]) -> Iterator[Notice]:
    for row in [row for row in rows if row.workers and not row.paused][:SHOWN]:
        if row.oldest_for > LATE:
            told = format_html(
                "Workers are behind in queue <b>{}</b>: its oldest ready task has waited for {}. "
                "Start more of them, or give them more executors.",
                row.name,
                row.oldest,
            )
            yield Notice(WARNING, told)
