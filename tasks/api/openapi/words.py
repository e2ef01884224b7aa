"""Schemas and descriptions in words, for the page."""

from __future__ import annotations

import re
from typing import Any

from django.utils.html import escape, format_html_join
from django.utils.safestring import SafeString, mark_safe

_CODE = re.compile(r"`([^`]+)`")


def prose(text: str) -> SafeString:
    """With what stands between backticks as code."""
    return mark_safe(_CODE.sub(r"<code>\1</code>", escape(text)))  # noqa: S308 - escaped before


def kind(schema: dict[str, Any]) -> SafeString:
    """What a value has to be: "string · up to 64 characters"."""
    return format_html_join(" · ", "{}", ((part,) for part in [_type(schema), *_rules(schema)] if part))


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return name_of(schema["$ref"])
    if "anyOf" in schema and "type" not in schema:
        return " or ".join(_type(part) for part in schema["anyOf"])
    if "enum" in schema:
        return " | ".join("null" if word is None else str(word) for word in schema["enum"])
    if "const" in schema:
        return str(schema["const"])
    given = schema.get("type", "any JSON")
    words = " or ".join(given) if isinstance(given, list) else str(given)
    return f"{words} of {_type(schema['items'])}" if "items" in schema else words


def _rules(schema: dict[str, Any]) -> list[str]:
    rules = []
    if "format" in schema:
        rules.append({"date-time": "RFC 3339, with an offset"}.get(schema["format"], schema["format"]))
    if "minimum" in schema and "maximum" in schema:
        rules.append(f"{schema['minimum']:,} to {schema['maximum']:,}")
    if "maxLength" in schema:
        rules.append(f"{schema.get('minLength', 0)} to {schema['maxLength']:,} characters")
    if "maxItems" in schema:
        rules.append(f"{schema.get('minItems', 0)} to {schema['maxItems']:,} items")
    if schema.get("pattern", "").startswith("^"):
        rules.append(schema["pattern"].removeprefix("^").removesuffix("$"))
    if "default" in schema:
        rules.append(f"default {schema['default']}")
    return rules


def name_of(ref: str) -> str:
    return ref.rpartition("/")[2]
