"""How answers are written: compact JSON, UTF-8, one line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

from django.http import HttpResponse


def json_answer(
    value: Any,
    *,
    status: int = 200,
    content_type: str = "application/json",
    headers: Mapping[str, str] | None = None,
) -> HttpResponse:
    return answer(json_bytes(value), status=status, content_type=content_type, headers=headers)


def json_bytes(value: Any) -> bytes:
    return within_json(value) + b"\n"


def within_json(value: Any) -> bytes:
    """As part of a line."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "replace")  # no answer may fail over a lone surrogate


def answer(
    content: bytes,
    *,
    status: int,
    content_type: str = "application/json",
    headers: Mapping[str, str] | None = None,
) -> HttpResponse:
    # the length: CommonMiddleware adds it too, but not to an answer that never comes by there
    given = {**(headers or {}), "Content-Type": content_type, "Content-Length": str(len(content))}
    return HttpResponse(content, status=status, headers=given)


def tag_of(content: bytes) -> str:
    """For ETag and event ids: the same for the same content alone."""
    return blake2b(content, digest_size=12).hexdigest()


def no_content(*, headers: Mapping[str, str] | None = None) -> HttpResponse:
    response = HttpResponse(status=204, headers=headers)
    del response.headers["Content-Type"]
    return response
