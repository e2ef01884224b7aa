"""How dispatcher and executor talk: one JSON object a line.

    to the executor    {"leases": [[...], ...]}  {"interrupt": [task id, fence], "why": "timeout"}
                       {"recall": true}  {"stop": true}
    to the dispatcher  {"ready": true}  {"ended": [task id, fence], "seconds": 0.02, "outcome": ...}
                       {"recalled": [[task id, fence], ...]}  {"counted": [[*cell, count], ...]}

JSON escapes line ends, so that a line end is always the end of a message, and all that has
arrived is parsed at once: with lengths in front, each message would cost a call of its own.
"""

from __future__ import annotations

import json
from json.encoder import encode_basestring_ascii
from typing import Any

from tasks.contract import Lease

LINE_LIMIT_BYTES = 64 * 1024 * 1024  # far beyond what the limits on payload and result allow

WireKey = tuple[str, int]  # names a lease on the wire: the task's id as hex, and the fence
Message = dict[str, Any]

_encode = json.JSONEncoder(separators=(",", ":")).encode


class BrokenWire(Exception):
    """The other side sent what is no message: it cannot be trusted any further."""


def key_of(lease: Lease) -> WireKey:
    return lease.task_id.hex, lease.fence


def encode(message: Message) -> bytes:
    return _encode(message).encode() + b"\n"


def encode_success(key: WireKey, seconds: float, result: str) -> bytes:
    """The message that nearly all are, as ``encode`` would write it, in a third of the time."""
    ended = f'"ended":["{key[0]}",{key[1]}],"seconds":{seconds!r}'
    return f'{{{ended},"outcome":"Succeeded","result":{encode_basestring_ascii(result)}}}\n'.encode()


class Decoder:
    """Cuts a stream of bytes into messages."""

    def __init__(self) -> None:
        self._pending = b""

    def feed(self, data: bytes) -> list[Message]:
        """The messages that are complete with this. Raises BrokenWire for what is none."""
        lines, end, rest = data.rpartition(b"\n")
        if not end:
            self._keep(self._pending + data)
            return []
        complete, self._pending = self._pending + lines, b""
        self._keep(rest)
        return _messages(complete)

    def _keep(self, rest: bytes) -> None:
        if len(rest) > LINE_LIMIT_BYTES:
            raise BrokenWire(f"a line of more than {LINE_LIMIT_BYTES} bytes")
        self._pending = rest


def _messages(lines: bytes) -> list[Message]:
    try:
        messages: list[Message] = json.loads(b"[" + lines.replace(b"\n", b",") + b"]")
    except ValueError as error:
        raise BrokenWire("a line that is not JSON") from error
    if not all(isinstance(message, dict) for message in messages):
        raise BrokenWire("a line that is no object")
    return messages
