"""The header Idempotency-Key, after the IETF's draft-ietf-httpapi-idempotency-key-header."""

from __future__ import annotations

import re
from hashlib import sha256

from django.http import HttpRequest

from tasks.contract import Once
from tasks.errors import FieldError, InvalidFields
from tasks.grants import Grant, Scope

HEADER = "Idempotency-Key"
REPLAYED = "Idempotency-Replayed"
RULE = "must be 1 to 255 visible ASCII characters, with or without quotes around them"
_KEY = re.compile(r"[\x21\x23-\x7e]{1,255}")  # no quote within


def once_of(request: HttpRequest, body: bytes, grant: Grant) -> Once | None:
    """None without the header. Raises InvalidFields when it says nothing that could be a key."""
    given = request.headers.get(HEADER)
    if given is None:
        return None
    key = given.strip()
    if len(key) > 1 and key[0] == key[-1] == '"':
        key = key[1:-1]
    if not _KEY.fullmatch(key):
        raise InvalidFields([FieldError(code="format", detail=f"{HEADER} {RULE}", header=HEADER)])
    fingerprint = sha256(body + _sight(grant)).hexdigest()
    return Once(owner=grant.owner, path=request.path, key=key, fingerprint=fingerprint)


def _sight(grant: Grant) -> bytes:
    """What a token may see: another token's answer, kept, may tell of tasks that this one does not know."""
    if grant.queues is None and grant.allows(Scope.READ):
        return b""
    queues = "*" if grant.queues is None else ",".join(sorted(grant.queues))
    return f"\0{Scope.READ if grant.allows(Scope.READ) else ''} {queues}".encode()
