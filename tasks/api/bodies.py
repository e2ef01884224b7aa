"""Bodies of requests: bounded before they are read, and strict JSON whatever the Content-Type says."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

from django.http import HttpRequest

from tasks.errors import FieldError, InvalidFields, InvalidJson, TooLarge
from tasks.storable import check_storable

MAX_BODY_BYTES = 256 * 1024
MAX_BATCH_BYTES = 8 * 1024 * 1024
BATCH_PATH = "/tasks/batch"


def parse_object(body: bytes) -> dict[str, Any]:
    """The body as a JSON object. Raises InvalidJson."""
    value = parse(body)
    if not isinstance(value, dict):
        raise InvalidJson("the body must be one JSON object")
    return value


def parse_optional(body: bytes) -> dict[str, Any]:
    """As ``parse_object``; an empty body is an empty object."""
    return parse_object(body) if body.strip() else {}


def expect_nothing(request: HttpRequest) -> bytes:
    """For requests that take no members: the body is empty, or an empty object. Returns it."""
    body = read_bytes(request)
    if parse_optional(body):
        detail = "no members are known here"
        raise InvalidFields([FieldError(code="unknown", detail=detail, pointer="")])
    return body


def read_bytes(request: HttpRequest, *, limit_bytes: int = MAX_BODY_BYTES) -> bytes:
    """The body; no more of it than shows that there is too much. Raises TooLarge or InvalidJson."""
    announced = _announced_bytes(request)
    if announced is not None and announced > limit_bytes:
        raise TooLarge("body", limit_bytes=limit_bytes)
    # Django reads nothing without a Content-Length: a chunked body comes from the server itself
    chunked = announced is None and request.META.get("wsgi.input_terminated")
    source = request.META["wsgi.input"] if chunked else request
    try:
        body: bytes = source.read(limit_bytes + 1)
    except Exception as error:  # each server has its own for chunks that are none, and clients that left
        raise InvalidJson("the body could not be read") from error
    if len(body) > limit_bytes:
        raise TooLarge("body", limit_bytes=limit_bytes)
    if announced is not None and len(body) < announced:
        raise InvalidJson("the body ended before its Content-Length")
    return body


def _announced_bytes(request: HttpRequest) -> int | None:
    length = request.META.get("CONTENT_LENGTH") or ""
    return int(length[:18]) if length.isdecimal() else None  # 18 digits are far too many already


def parse(body: bytes) -> Any:
    """The JSON value. Raises InvalidJson, also for what no database stores: NaN, NUL, a lone surrogate,
    an integer beyond 64 bits; for a member that is there twice; and for more than 64 levels.
    """
    try:
        value = _decoder.decode(body.decode())
        check_storable(value)
    except json.JSONDecodeError as error:
        if not body.strip():
            raise InvalidJson("the body is empty") from error
        raise InvalidJson(f"{error.msg} (line {error.lineno}, column {error.colno})") from error
    except UnicodeDecodeError as error:
        raise InvalidJson(f"not UTF-8 at byte {error.start}") from error
    except RecursionError as error:
        raise InvalidJson("nested too deeply") from error
    except ValueError as error:
        raise InvalidJson(str(error)) from error
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("an object has a member twice")
    return members


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number is too large")
    return number


def _whole(text: str) -> int:
    if len(text) > 20:  # Python refuses thousands of digits with words of its own
        raise ValueError("an integer does not fit in 64 bits")
    return int(text)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_decoder = json.JSONDecoder(
    object_pairs_hook=_unique, parse_float=_finite, parse_int=_whole, parse_constant=_no_constant
)
