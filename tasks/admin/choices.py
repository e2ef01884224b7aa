"""What an operation was started for, in words, for those who may read all of them and for others."""

from __future__ import annotations

from collections.abc import Iterator

from tasks import failures
from tasks.models import Operation
from tasks.search import typed_terms


def in_words(operation: Operation, *, whole: bool) -> str:
    """``failed, queue mail, created after 2026-01-12 01:37, timeout``.

    Not ``whole``: without the words that were looked for in payloads and errors. They, and how many
    tasks had them, tell what is in there.
    """
    kept = operation.selection
    parts = [_filter_in_words(name, value) for name, value in kept["filters"].items()]
    search = kept["search"] if whole or kept["names_only"] else " ".join(_outline(kept["search"]))
    return ", ".join([*parts, *([search] if search else [])]) or "all tasks"


def _outline(search: str) -> Iterator[str]:
    """Words alone look into payloads, too, when whoever typed them may."""
    for term, typed in typed_terms(search):
        yield typed if term.about == "title" else f"{term.about}:…" if term.about else "…"


def _filter_in_words(name: str, value: str) -> str:
    if name == "status":
        return value
    return f"{name.replace('_', ' ')} {value_in_words(name, value)}"


def value_in_words(name: str, value: str) -> str:
    if name == "failure":
        return failures.named(value)
    return value[:16].replace("T", " ") if name.startswith("created_") else value
