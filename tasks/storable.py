"""What JSON and every database can keep: checked before it reaches either."""

from __future__ import annotations

import json
from typing import Any


def to_json(value: Any) -> str:
    """JSON text that every database stores, or ValueError, TypeError or RecursionError.

    Refused, because one of the databases or JSON itself would: NaN and infinities, integers
    beyond 64 bits, NUL and lone surrogates, keys that are not strings.
    """
    check_storable(value)
    return int.__repr__(value) if type(value) is int else _encode(value)  # in a tenth of the time


def storable_text(text: str) -> str:
    """The text with what no database stores made visible: NUL and lone surrogates."""
    return text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode("utf-8")


_encode = json.JSONEncoder(allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode
_LEAST, _MOST = -(2**63), 2**63 - 1  # compared: "in range()" walks through it for an IntEnum
_DEPTH = 64


def check_storable(value: Any, depth: int = 0) -> None:
    """Raise ValueError or TypeError for what ``to_json`` refuses, but for NaN and infinities."""
    if depth > _DEPTH:
        raise ValueError(f"nested deeper than {_DEPTH} levels")
    if isinstance(value, str):
        _check_text(value)
    elif isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"a key is {type(key).__name__}, keys must be strings")
            _check_text(key)
            check_storable(item, depth + 1)
    elif isinstance(value, (list, tuple)):
        for item in value:
            check_storable(item, depth + 1)
    elif isinstance(value, int) and not _LEAST <= value <= _MOST:
        raise ValueError("an integer does not fit in 64 bits")


def _check_text(text: str) -> None:
    if "\0" in text:
        raise ValueError("a text contains NUL")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("a text contains a lone surrogate") from error
