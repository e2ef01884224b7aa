"""How often a token, or an address without one, may ask; told by the fields RateLimit-Policy and RateLimit.

After the IETF's draft-ietf-httpapi-ratelimit-headers.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from math import ceil

from django.http import HttpRequest

from tasks.addresses import client_of
from tasks.api.quotas import CounterGone, Quotas, Standing
from tasks.conf import config
from tasks.errors import TooManyRequests, Unauthenticated
from tasks.rates import Rate

FIELDS = "_rate_limit"  # on the request: fields for its answer
KNOWN_TOKENS, KNOWN_SECONDS = 10_000, 3600.0

quotas = Quotas()
_known: dict[bytes, float] = {}  # tokens that were good here lately, by hash; until when, monotonic


def admit(request: HttpRequest, who: str) -> None:
    """Count it, and keep the fields for its answer. Raises TooManyRequests."""
    standings: dict[str, tuple[Rate, Standing]] = {}
    for name, rate in _rates().items():
        try:
            standing = quotas.take(f"{name}:{who}", rate)
        except CounterGone:
            continue  # an outage of the counter shuts nobody out
        standings[name] = (rate, standing)
        if not standing.admitted:
            break
    _tell(request, standings)


def expect_not_spent(request: HttpRequest, who: str) -> None:
    """Before anything is looked up. Raises TooManyRequests."""
    for name, rate in _rates().items():
        if standing := quotas.is_spent(f"{name}:{who}", rate):
            _tell(request, {name: (rate, standing)})


@contextmanager
def guessing(request: HttpRequest, token: str) -> Iterator[None]:
    """Around the look-up of a token. Raises TooManyRequests.

    A wrong one counts for the address; a good one does not, and one that was good lately is not held
    up by what others behind the same address do.
    """
    rate, key, hashed = config().throttle_wrong_tokens, f"wrong:{client_of(request.META)}", _hash(token)
    taken = False
    if rate.limit and _known.get(hashed, 0.0) < time.monotonic():
        taken = _take_guess(request, key, rate)
    try:
        yield
    except Unauthenticated:
        _known.pop(hashed, None)
        raise
    except BaseException:
        if taken:
            quotas.give_back(key)
        raise
    if taken:
        quotas.give_back(key)
    if len(_known) >= KNOWN_TOKENS:
        _known.clear()
    _known[hashed] = time.monotonic() + KNOWN_SECONDS


def _take_guess(request: HttpRequest, key: str, rate: Rate) -> bool:
    try:
        standing = quotas.take(key, rate)
    except CounterGone:
        return False
    if not standing.admitted:
        _tell(request, {"wrong-tokens": (rate, standing)})
    return True


def _hash(token: str) -> bytes:
    return sha256(token.encode("utf-8", "surrogateescape")).digest()


def fields_of(request: HttpRequest) -> Mapping[str, str]:
    found: Mapping[str, str] = getattr(request, FIELDS, {})
    return found


def _rates() -> dict[str, Rate]:
    settings = config()
    rates = {"burst": settings.throttle_burst, "sustained": settings.throttle_sustained}
    return {name: rate for name, rate in rates.items() if rate.limit}


def _tell(request: HttpRequest, standings: Mapping[str, tuple[Rate, Standing]]) -> None:
    if not standings:
        return
    policy = ", ".join(f'"{name}";q={rate.limit};w={rate.seconds}' for name, (rate, _) in standings.items())
    left = ", ".join(
        f'"{name}";r={standing.remaining};t={_whole(standing.seconds)}'
        for name, (_, standing) in standings.items()
    )
    setattr(request, FIELDS, {"RateLimit-Policy": policy, "RateLimit": left})
    for name, (rate, standing) in standings.items():
        if not standing.admitted:
            raise TooManyRequests(name, rate.limit, rate.seconds, retry_after=_whole(standing.seconds))


def _whole(seconds: float) -> int:
    return max(1, ceil(seconds))
