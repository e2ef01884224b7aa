"""The header Idempotency-Key, after the IETF's draft-ietf-httpapi-idempotency-key-header."""

from __future__ import annotations

import re
from hashlib import sha256

from django.http import HttpRequest

from tasks.contract import Once
from tasks.errors import FieldError, InvalidFields

HEADER = "Idempotency-Key"
REPLAYED = "Idempotency-Replayed"
RULE = "must be 1 to 255 visible ASCII characters, with or without quotes around them"
_KEY = re.compile(r"[\x21\x23-\x7e]{1,255}")  # no quote within


def once_of(request: HttpRequest, body: bytes, *, owner: str) -> Once | None:
    """None without the header. Raises InvalidFields when it says nothing that could be a key."""
    given = request.headers.get(HEADER)
    if given is None:
        return None
    key = given.strip()
    if len(key) > 1 and key[0] == key[-1] == '"':
        key = key[1:-1]
    if not _KEY.fullmatch(key):
        raise InvalidFields([FieldError(code="format", detail=f"{HEADER} {RULE}", header=HEADER)])
    return Once(owner=owner, path=request.path, key=key, fingerprint=sha256(body).hexdigest())
