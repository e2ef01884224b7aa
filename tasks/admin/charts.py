"""Charts as SVG, drawn here: marks that stretch to any width, and the words around them for the template."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from tasks.rollups import NOTHING, Counts, Period, total

STEPS = 4  # of the vertical axis
LABELS = 5  # below the horizontal one
STACKED = ("completed", "failed", "cancelled")  # from the bottom up; what was created is a line
SHOWN = ("created", *STACKED)
WIDTH, HEIGHT = 10, 100  # of one stretch, in units of the drawing


@dataclass(frozen=True, slots=True)
class Chart:
    """Everything about one chart that the template puts together."""

    name: str
    title: str
    unit: str
    drawing: SafeString
    ticks: Sequence[str]  # of the vertical axis, the highest first
    times: Sequence[str]
    legend: Sequence[tuple[str, str]]  # what, and how many in all
    table: Sequence[tuple[str, Sequence[str]]]
    quiet: bool  # nothing has happened


def chart(
    name: str,
    title: str,
    unit: str,
    *,
    period: Period,
    counts: Mapping[datetime, Counts],
    now: datetime,
    rows_of: timedelta,
) -> Chart:
    """``rows_of``: how long a stretch each row of the table stands for."""
    begins = period.begins(now)
    shown = [counts.get(moment, NOTHING) for moment in begins]
    top = _top(max(max(one.created, sum(_stack(one))) for one in shown))
    sums = total(shown)
    legend = [(what, f"{getattr(sums, what):,}") for what in SHOWN]
    said = f"{title}: " + ", ".join(f"{number} {what}" for what, number in legend)
    return Chart(
        name=name,
        title=title,
        unit=unit,
        drawing=_drawing(begins, shown, top, said),
        ticks=[f"{top * step // STEPS:,}" for step in range(STEPS, -1, -1)],
        times=_times(begins[0], period.length),
        legend=legend,
        table=[*_table(begins, shown, rows_of.total_seconds() // period.seconds)],
        quiet=not any(any(one) for one in shown),
    )


def _stack(counts: Counts) -> list[int]:
    return [getattr(counts, what) for what in STACKED]


def _top(peak: int) -> int:
    """The lowest of 4, 8, 12, 20, 28, 40, 80, 120, 200, … that holds it: each has four equal parts."""
    scale = 1
    while True:
        for step in (4, 8, 12, 20, 28):
            if step * scale >= peak:
                return step * scale
        scale *= 10


def _times(first: datetime, length: timedelta) -> list[str]:
    return [_clock(first + length * number / (LABELS - 1)) for number in range(LABELS)]


def _clock(moment: datetime) -> str:
    return f"{timezone.localtime(moment):%H:%M}"


def _table(
    begins: Sequence[datetime], shown: Sequence[Counts], at_once: float
) -> Iterator[tuple[str, Sequence[str]]]:
    for first in range(0, len(begins), int(at_once)):
        sums = total([*shown[first : first + int(at_once)]])
        yield _clock(begins[first]), [f"{getattr(sums, what):,}" for what in SHOWN]


def _drawing(begins: Sequence[datetime], shown: Sequence[Counts], top: int, said: str) -> SafeString:
    lines = format_html_join(
        "",
        '<line class="grid" x1="0" x2="{}" y1="{}" y2="{}"/>',
        ((WIDTH * len(shown), y, y) for y in range(0, HEIGHT, HEIGHT // STEPS)),
    )
    return format_html(
        '<svg viewBox="0 0 {} {}" preserveAspectRatio="none" role="img" aria-label="{}">{}{}'
        '<polyline class="created" points="{}"/>{}</svg>',
        WIDTH * len(shown),
        HEIGHT,
        said,
        lines,
        format_html_join("", '<rect class="{}" x="{}" y="{}" width="{}" height="{}"/>', _bars(shown, top)),
        _points((one.created for one in shown[:-1]), top, HEIGHT),  # the last stretch is not over
        format_html_join(
            "",
            '<rect class="hit" x="{}" y="0" width="{}" height="{}"><title>{}</title></rect>',
            (
                (WIDTH * number, WIDTH, HEIGHT, _words(begins[number], one))
                for number, one in enumerate(shown)
            ),
        ),
    )


def _bars(shown: Iterable[Counts], top: int) -> Iterator[tuple[str, int, str, int, str]]:
    for number, counts in enumerate(shown):
        below = 0
        for what, count in zip(STACKED, _stack(counts), strict=True):
            if count:
                below += count
                y, height = (HEIGHT - HEIGHT * below / top, HEIGHT * count / top)
                yield what, WIDTH * number + 1, f"{y:.2f}", WIDTH - 2, f"{height:.2f}"


def _points(values: Iterable[int], top: int, height: int) -> str:
    return " ".join(
        f"{WIDTH * number + WIDTH // 2},{height - height * value / top:.2f}"
        for number, value in enumerate(values)
    )


def _words(begins: datetime, counts: Counts) -> str:
    return f"{_clock(begins)}: " + ", ".join(f"{getattr(counts, what):,} {what}" for what in SHOWN)


def sparkline(period: Period, counts: Mapping[datetime, Counts], now: datetime) -> SafeString:
    """What was completed, and in red what failed, without axes: for a cell of a table."""
    shown = [counts.get(moment, NOTHING) for moment in period.begins(now)]
    top = max(4, *(one.completed + one.failed for one in shown))
    sums = total(shown)
    width, height = WIDTH * len(shown), 40
    failed = (
        (
            WIDTH * number,
            f"{height - height * one.failed / top:.1f}",
            WIDTH,
            f"{height * one.failed / top:.1f}",
        )
        for number, one in enumerate(shown)
        if one.failed
    )
    said = f"Last hour: {sums.completed:,} completed, {sums.failed:,} failed"
    return format_html(
        '<svg class="spark" viewBox="0 0 {} {}" preserveAspectRatio="none" role="img" aria-label="{}">'
        '<title>{}</title><polygon class="completed" points="{}"/>{}</svg>',
        width,
        height,
        said,
        said,
        f"0,{height} {_points((one.completed for one in shown), top, height)} {width},{height}",
        format_html_join("", '<rect class="failed" x="{}" y="{}" width="{}" height="{}"/>', failed),
    )
