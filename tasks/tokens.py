"""Tokens of the API: made, found by their secret, and withdrawn.

``tsk_`` + a prefix by which it is found + ``_`` + 256 random bits, of which the SHA-256 is kept: slow
hashes are for secrets that people choose.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from hashlib import sha256

from django.db import DatabaseError, IntegrityError, transaction

from tasks.errors import Unauthenticated
from tasks.grants import Grant, Scope
from tasks.models import Token
from tasks.models.task import database

USED_EVERY = timedelta(minutes=1)  # is how exactly it is known when one was used last
PREFIX_BYTES, SECRET_BYTES = 5, 32

TRIES_KEPT = 1_000

_LONG_AGO = datetime.min.replace(tzinfo=UTC)
_tried: dict[str, datetime] = {}  # when this process last meant to write down that one was used, by prefix
_FORM = re.compile(r"tsk_([0-9a-f]{10})_([A-Za-z0-9_-]{43})")
_NOBODYS = sha256(secrets.token_bytes(SECRET_BYTES)).hexdigest()


def issue(
    name: str,
    *,
    scopes: Sequence[Scope],
    now: datetime,
    owner: str = "",
    queues: Sequence[str] | None = None,
    expires_at: datetime | None = None,
) -> tuple[Token, str]:
    """Make one; returns it with its secret, which is shown now or never.

    ``owner``: without one, the name. Raises IntegrityError when the name is taken.
    """
    prefix, secret = secrets.token_hex(PREFIX_BYTES), secrets.token_urlsafe(SECRET_BYTES)
    token = Token.objects.using(database()).create(
        name=name,
        owner=owner or name,
        prefix=prefix,
        digest=_digest(secret),
        scopes=sorted(map(str, scopes)),
        queues=None if queues is None else list(queues),
        created_at=now,
        expires_at=expires_at,
    )
    return token, f"tsk_{prefix}_{secret}"


def first(*, now: datetime) -> str | None:
    """Make one that may do everything, if there is none at all; of several processes that try, one does."""
    if Token.objects.using(database()).exists():
        return None
    try:
        with transaction.atomic(using=database()):
            return issue("first", scopes=[Scope.ADMIN], now=now)[1]
    except IntegrityError:
        return None


def prefix_of(text: str) -> str:
    """Of what looks like a token; it may not be one."""
    form = _FORM.fullmatch(text)
    return form[1] if form else ""


def grant_of(text: str, *, now: datetime) -> Grant:
    """What this token allows. Raises Unauthenticated, for whatever reason, after the same steps."""
    form = _FORM.fullmatch(text)
    prefix, secret = form.groups() if form else ("", "")
    token = Token.objects.using(database()).filter(prefix=prefix).first()
    known = hmac.compare_digest(_digest(secret), token.digest if token else _NOBODYS)
    if token is None or not known or (token.expires_at is not None and token.expires_at <= now):
        raise Unauthenticated
    _note_use(token, now)
    scopes = frozenset(scope for scope in Scope if scope in token.scopes)  # a newer release may know more
    queues = None if token.queues is None else tuple(token.queues)
    return Grant(owner=token.owner, scopes=scopes, queues=queues, sees_all=Scope.ADMIN in scopes)


def _note_use(token: Token, now: datetime) -> None:
    """Seldom, and tried as seldom where it fails: nobody shall wait to write who came to read."""
    if now - max(token.used_at or _LONG_AGO, _tried.get(token.prefix, _LONG_AGO)) <= USED_EVERY:
        return
    if len(_tried) >= TRIES_KEPT:
        _tried.clear()
    _tried[token.prefix] = now
    with suppress(DatabaseError), transaction.atomic(using=database()):
        Token.objects.using(database()).filter(pk=token.pk).update(used_at=now)


def _digest(secret: str) -> str:
    return sha256(secret.encode()).hexdigest()
