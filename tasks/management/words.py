"""What several commands take on their command line."""

from __future__ import annotations

import json
from argparse import ArgumentTypeError
from datetime import datetime
from typing import Any

from django.core.management.base import CommandParser

from tasks import members
from tasks.limits import REASON_CHARS, is_queue_name
from tasks.storable import to_json


class SubcommandParser(CommandParser):
    """What one does not know it refuses itself, with its own usage and not that of all of them."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown


def moment(text: str) -> datetime:
    try:
        found = members.time(text)
    except members.Wrong as wrong:
        raise ArgumentTypeError(f"{text!r} {wrong}") from wrong
    if found is None:
        raise ArgumentTypeError("a time is needed")
    return found


def reason(text: str, *, most: int = REASON_CHARS) -> str:
    try:
        to_json(text)
        return members.text(text, most=most)
    except (ValueError, members.Wrong) as wrong:
        raise ArgumentTypeError(f"a reason {wrong}") from wrong


def payload(text: str) -> dict[str, Any]:
    try:
        value = members.object_(json.loads(text))
        to_json(value)
    except (ValueError, members.Wrong) as wrong:
        raise ArgumentTypeError(f"{text[:80]!r} is no JSON object that can be stored") from wrong
    return value


def queue_names(text: str) -> list[str]:
    """Each once, in this order."""
    names = [name.strip() for name in text.split(",")]
    if not all(map(is_queue_name, names)):
        raise ArgumentTypeError(f"{text!r} is not a list of queue names; write for example mail,reports")
    return list(dict.fromkeys(names))
