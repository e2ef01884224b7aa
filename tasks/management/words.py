"""What several commands take on their command line."""

from __future__ import annotations

from argparse import ArgumentTypeError

from tasks.limits import is_queue_name


def queue_names(text: str) -> list[str]:
    """Each once, in this order."""
    names = [name.strip() for name in text.split(",")]
    if not all(map(is_queue_name, names)):
        raise ArgumentTypeError(f"{text!r} is not a list of queue names; write for example mail,reports")
    return list(dict.fromkeys(names))
