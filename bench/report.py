"""What a measure says: facts for programs, and lines made of them for people."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

Facts = dict[str, Any]  # as JSON has them


@dataclass(frozen=True, slots=True)
class Line:
    what: str
    measured: str
    target: str = ""
    held: bool | None = None  # None: there is no target


HEAD = Line("measure", "measured", "target")
MARKS = {True: "held", False: "missed", None: ""}


def at_least(what: str, value: float, least: float, *, unit: str = "", text: str = "") -> Line:
    """``text``: what is shown of the value."""
    return Line(what, text or _number(value, unit), f"≥ {_number(least, unit)}", value >= least)


def at_most(what: str, value: float, most: float, *, unit: str = "", text: str = "") -> Line:
    return Line(what, text or _number(value, unit), f"≤ {_number(most, unit)}", value <= most)


def _number(value: float, unit: str) -> str:
    number = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return number + unit


def failure(error: Exception) -> Facts:
    """What is kept of a measure that could not be taken: the beginning of what happened."""
    text = str(error).strip() or "it said nothing"
    return {"failed": f"{type(error).__name__}: {text}"[:500]}


def failed(what: str, facts: Facts) -> Line:
    return Line(what, f"failed: {facts['failed'].splitlines()[0]}", held=False)


def table(lines: Iterable[Line]) -> str:
    """In columns as wide as they need to be."""
    rows = [(line.what, line.measured, line.target, MARKS[line.held]) for line in (HEAD, *lines)]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    cells = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(cell.rstrip() for cell in (cells[0], "-" * len(cells[0]), *cells[1:]))
