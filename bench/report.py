"""What a measure says: lines for people, facts for programs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Line:
    what: str
    measured: str
    target: str = ""
    held: bool | None = None  # None: there is no target


@dataclass(frozen=True, slots=True)
class Measured:
    lines: Sequence[Line]
    facts: dict[str, Any] = field(default_factory=dict)


HEAD = Line("measure", "measured", "target")
MARKS = {True: "held", False: "missed", None: ""}


def table(lines: Iterable[Line]) -> str:
    """In columns as wide as they need to be."""
    rows = [(line.what, line.measured, line.target, MARKS[line.held]) for line in (HEAD, *lines)]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    cells = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(cell.rstrip() for cell in (cells[0], "-" * len(cells[0]), *cells[1:]))
