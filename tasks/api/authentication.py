"""Who asks: a Bearer token (RFC 6750), or anybody where no authentication is wanted."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from django.http import HttpRequest
from django.utils import timezone

from tasks import tokens
from tasks.addresses import client_of
from tasks.api import throttle
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
    setattr(request, _KEPT, _grant_of(request))
    expect_scope(request, scope)


def admit(request: HttpRequest, scope: Scope) -> None:
    """As ``authenticate``, once for each request: it counts. Raises TooManyRequests besides."""
    if not _needs_token():
        setattr(request, _KEPT, EVERYBODY)
        throttle.admit(request, f"address:{client_of(request.META)}")
        return
    text = _token_of(request)
    who = f"token:{tokens.prefix_of(text)}"
    throttle.expect_not_spent(request, who)
    with throttle.guessing(request, text):
        setattr(request, _KEPT, tokens.grant_of(text, now=timezone.now()))
    throttle.admit(request, who)
    expect_scope(request, scope)


def expect_scope(request: HttpRequest, scope: Scope) -> None:
    if not grant_of(request).allows(scope):
        raise Forbidden(f"This token lacks the scope {scope}.")


def grant_of(request: HttpRequest) -> Grant:
    """What an authenticated request may do."""
    return cast("Grant", getattr(request, _KEPT))


def _grant_of(request: HttpRequest) -> Grant:
    if not _needs_token():
        return EVERYBODY
    return tokens.grant_of(_token_of(request), now=timezone.now())


def _needs_token() -> bool:
    return tokens_are_required(()) if _required is None else _required


def _token_of(request: HttpRequest) -> str:
    scheme, _, text = request.headers.get("Authorization", "").strip().partition(" ")
    if scheme.lower() != "bearer":
        raise Unauthenticated
    return text.strip()
