"""Tables for people: as wide as they need to be, and cut to the width of a terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence

GAP = "  "
LEAST = 12  # characters that a column that is cut keeps


def terminal_width() -> int | None:
    """None where the output goes into a file or a pipe: there nothing is cut."""
    if not sys.stdout.isatty():
        return None
    return os.get_terminal_size(sys.stdout.fileno()).columns


def table(head: Sequence[str], rows: Iterable[Sequence[str]], width: int | None = None) -> str:
    """In columns; what is wider than ``width`` is cut, the last column first."""
    cells = [[plain(cell) for cell in row] for row in (head, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    if width is not None:
        widths[-1] = max(LEAST, min(widths[-1], width - sum(widths[:-1]) - len(GAP) * (len(head) - 1)))
    return "\n".join(_line(row, widths)[:width] for row in cells)


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    return GAP.join(cut(cell, size).ljust(size) for cell, size in zip(row, widths, strict=True)).rstrip()


def cut(text: str, size: int) -> str:
    return text if len(text) <= size else f"{text[: size - 1]}…"


def plain(text: str) -> str:
    """In one line, and without what could steer a terminal: titles and errors come from outside."""
    return "".join(char if char.isprintable() else " " if char.isspace() else "?" for char in text)
