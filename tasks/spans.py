"""Durations in words."""

from __future__ import annotations

from datetime import timedelta

UNITS = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


def span(length: timedelta) -> str:
    """A duration in its two largest units: ``3 h 5 min``, ``41 s``, ``1.2 s``, ``35 ms``."""
    seconds = max(0.0, length.total_seconds())
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    rest, words = int(seconds), []
    for name, size in UNITS:
        amount, rest = divmod(rest, size)
        if amount:
            words.append(f"{amount} {name}")
    return " ".join(words[:2])
