"""The JSON Schema of what each check of a member lets through: limits are read from the checks themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from functools import partial
from typing import Any

from tasks import members, unique
from tasks.limits import QUEUE_PATTERN, TAG_CHARS, TAGS

Schema = dict[str, Any]

QUEUE: Schema = {"type": "string", "pattern": f"^{QUEUE_PATTERN}$"}
TIME: Schema = {"type": "string", "format": "date-time"}
TIME_OR_NULL: Schema = {"type": ["string", "null"], "format": "date-time"}
# a character that str.strip leaves: \S is another set in each language's expressions
NOT_BLANK = r"[^\u0009-\u000d\u001c-\u0020\u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]"


def schema_of(check: Any) -> Schema:
    """Raises KeyError for a check that is not known here."""
    if isinstance(check, partial):
        return _SCHEMAS[check.func](*check.args, **check.keywords)
    return _SCHEMAS[check]()


def _text(*, most: int) -> Schema:
    return {"type": "string", "minLength": 1, "maxLength": most, "pattern": NOT_BLANK}


def _whole(*, least: int, most: int) -> Schema:
    return {"type": "integer", "minimum": least, "maximum": most}


def _seconds(*, least: float, most: int) -> Schema:
    return {"type": ["number", "null"], "minimum": least, "maximum": most}


def _tags() -> Schema:
    return {"type": "array", "maxItems": TAGS, "items": _text(most=TAG_CHARS)}


def _one_of(choices: type[Enum]) -> Schema:
    return {"type": "string", "enum": [choice.value for choice in choices]}


def _unique() -> Schema:
    given = {name: schema_of(check) for name, check in unique.MEMBERS.items()}
    a_number = {"ttl_seconds": {"type": "number"}}
    return {
        "type": "object",
        "properties": given,
        "additionalProperties": False,
        "required": ["key"],
        "if": {"required": ["while"], "properties": {"while": {"const": unique.UniqueWhile.TTL.value}}},
        "then": {"required": ["ttl_seconds"], "properties": a_number},
    }


_SCHEMAS: Mapping[Callable[..., Any], Callable[..., Schema]] = {
    members.text: _text,
    members.queue: lambda: dict(QUEUE),
    members.object_: lambda: {"type": "object"},
    members.object_or_null: lambda: {"type": ["object", "null"]},
    members.whole: _whole,
    members.seconds: _seconds,
    members.tags: _tags,
    members.time: lambda: dict(TIME_OR_NULL),
    members.one_of: _one_of,
    unique.unique_from_json: _unique,
}
