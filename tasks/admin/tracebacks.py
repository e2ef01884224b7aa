"""Tracebacks for people: the handler's own frames open, those of libraries folded, secrets masked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

import tasks
from tasks import registry
from tasks.errors import UnknownHandler
from tasks.fingerprint import is_library
from tasks.masking import masked_text

_FRAME = re.compile(r'  File "(?P<path>.*)", line (?P<line>\d+), in (?P<function>.*)')
_REPEATED = "  [Previous line repeated"
_INSTALLED = re.compile(r"/(?:site|dist)-packages/([^/]+?)(?:\.py)?(?:/|$)")
_STANDARD = re.compile(r"/lib(?:64)?/python3\.\d+/([^/]+?)(?:\.py)?(?:/|$)")
_SERVICE = Path(tasks.__file__).parent
NAMED = 3  # libraries in the line that unfolds their frames


class Part(NamedTuple):
    """One frame, or lines between frames."""

    lines: list[str]
    frame: re.Match[str] | None = None
    library: str = ""  # whose frame it is


def folded(text: str, handler: str) -> SafeString:
    """The whole text is there; what is folded unfolds without a script."""
    parts = _parts(text, _home_of(handler))
    pieces = [_piece(kind, list(alike)) for kind, alike in groupby(parts, _kind)]
    return format_html(
        '<div class="trace">{}</div>', format_html_join("", "{}", ((piece,) for piece in pieces))
    )


def _home_of(handler: str) -> str:
    """Its package, whose frames are its own wherever it is installed; empty when it is not known here."""
    try:
        return registry.find(handler).func.__module__.partition(".")[0]
    except UnknownHandler:
        return ""


def _kind(part: Part) -> str:
    return "library" if part.library else "frame" if part.frame else "text"


def _parts(text: str, home: str) -> Iterator[Part]:
    part = Part([])
    for line in text.splitlines():
        frame = _FRAME.fullmatch(line)
        goes_on = not frame and _belongs(line, part)
        if not goes_on and part.lines:
            yield part
        if frame:
            library = _library(frame["path"])
            part = Part([line], frame, "" if library == home else library)
        elif goes_on:
            part.lines.append(line)
        else:
            part = Part([line])
    if part.lines:
        yield part


def _belongs(line: str, part: Part) -> bool:
    """A frame has a line of source, perhaps with marks below it; a text goes on until the next frame."""
    if part.frame is None:
        return True
    return line.startswith(_REPEATED) or (line.startswith("    ") and len(part.lines) <= 5)


@lru_cache(maxsize=4096)
def _library(path: str) -> str:
    """What a frame belongs to; empty for the handler's own."""
    if found := _INSTALLED.search(path) or _STANDARD.search(path):
        return found[1]
    if is_library(path):
        return path.strip("<>").removeprefix("frozen ").partition(".")[0]
    file = Path(path)
    if _SERVICE in file.parents and file != _SERVICE / "handlers.py":
        return "the task service"
    return ""


def _piece(kind: str, parts: list[Part]) -> SafeString:
    if kind == "library":
        return _folded_away(parts)
    if kind == "frame":
        return format_html_join("", '<pre class="frame">{}\n{}</pre>', _own(parts))
    return format_html('<pre class="said">{}</pre>', masked_text("\n".join(_lines(parts))))


def _own(parts: list[Part]) -> Iterator[tuple[SafeString, str]]:
    for part in parts:
        if part.frame:
            where = '<span class="quiet">{}</span>:{} in <b>{}</b>'
            source = masked_text("\n".join(line.removeprefix("  ") for line in part.lines[1:]))
            path, line, function = part.frame.group("path", "line", "function")
            yield format_html(where, masked_text(path), line, masked_text(function)), source


def _folded_away(parts: list[Part]) -> SafeString:
    names = list(dict.fromkeys(part.library for part in parts))
    whose = ", ".join(names[:NAMED]) + (", …" if len(names) > NAMED else "")
    number = f"{len(parts)} frame{'' if len(parts) == 1 else 's'}"
    return format_html(
        '<details class="library"><summary>{} of {}</summary><pre>{}</pre></details>',
        number,
        masked_text(whose),
        masked_text("\n".join(_lines(parts))),
    )


def _lines(parts: list[Part]) -> Iterator[str]:
    for part in parts:
        yield from part.lines
