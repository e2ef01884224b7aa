"""Who asks: a Bearer token (RFC 6750), or anybody where no authentication is wanted."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from django.http import HttpRequest
from django.utils import timezone

from tasks import tokens
from tasks.errors import Forbidden, Unauthenticated
from tasks.grants import EVERYBODY, Grant, Scope
from tasks.locality import tokens_are_required

_KEPT = "_grant"  # on the request: it is asked for more than once


_required: bool | None = None  # None: nobody has said where this process listens


def decide(addresses: Iterable[Any]) -> None:
    """Where this process listens, once it is known."""
    global _required
    _required = tokens_are_required(addresses)


def authenticate(request: HttpRequest, scope: Scope) -> None:
    """Raises Unauthenticated, or Forbidden where the token does not have this scope."""
    grant = _grant_of(request)
    if not grant.allows(scope):
        raise Forbidden(f"This token lacks the scope {scope}.")
    setattr(request, _KEPT, grant)


def grant_of(request: HttpRequest) -> Grant:
    """What an authenticated request may do."""
    return cast("Grant", getattr(request, _KEPT))


def _grant_of(request: HttpRequest) -> Grant:
    if not (tokens_are_required(()) if _required is None else _required):
        return EVERYBODY
    scheme, _, text = request.headers.get("Authorization", "").strip().partition(" ")
    if scheme.lower() != "bearer":
        raise Unauthenticated
    return tokens.grant_of(text.strip(), now=timezone.now())
