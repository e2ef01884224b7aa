"""How often one may try to log in to the admin: guessing ends soon, and the account's owner still gets in.

Failures count against the account from that address, against the address, and against the account.
Past what is free each costs a wait, twice as long as the one before. The account as a whole waits
for a minute at most, and not at all where its owner has logged in before: otherwise anybody could
keep the owner out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import F, Q
from django.utils.crypto import salted_hmac

from tasks.errors import TooManyLogins
from tasks.models import LoginTries
from tasks.models.task import database

FIRST_WAIT = timedelta(seconds=15)
FAILURES_KEPT = timedelta(days=1)  # without another try
SUCCESS_KEPT = timedelta(days=90)


@dataclass(frozen=True, slots=True)
class Allowance:
    free: int
    longest: timedelta

    def wait_after(self, failures: int) -> timedelta | None:
        if failures <= self.free:
            return None
        doublings = min(failures - self.free - 1, 10)
        return min(self.longest, FIRST_WAIT * (1 << doublings))


BOTH = Allowance(free=5, longest=timedelta(minutes=15))
ADDRESS = Allowance(free=20, longest=timedelta(minutes=15))
ACCOUNT = Allowance(free=50, longest=timedelta(minutes=1))


def begin(account: str, address: str, *, now: datetime) -> None:
    """Count a try as failed, before its password is looked at: of many at once none goes uncounted.

    Raises TooManyLogins, without counting it.
    """
    allowances = dict(_allowances(account, address))
    _forget(now)
    with transaction.atomic(using=database()):
        rows = _locked(allowances, now)
        if rows[_key(account, address)].logged_in_at:
            del allowances[_key(account)]
        ends = [rows[key].blocked_until or now for key in allowances]
        if max(ends) > now:
            raise TooManyLogins(max(ends) - now)
        for key, allowance in allowances.items():
            _count(rows[key], allowance, now)


def succeed(account: str, address: str, *, now: datetime) -> None:
    """What ``begin`` counted was no failure. The others' failures stay, lest a success buy more of them."""
    both = _key(account, address)
    with transaction.atomic(using=database()):
        tries = LoginTries.objects.using(database())
        for key in sorted([_key(account), _key("", address)]):
            tries.filter(pk=key, failures__gt=0).update(failures=F("failures") - 1, blocked_until=None)
        tries.filter(pk=both).update(failures=0, blocked_until=None, logged_in_at=now)


def _allowances(account: str, address: str) -> Iterator[tuple[str, Allowance]]:
    yield _key(account, address), BOTH
    yield _key("", address), ADDRESS
    yield _key(account), ACCOUNT


def _key(account: str, address: str = "") -> str:
    return salted_hmac("tasks.logins", f"{account.casefold()}\0{address}", algorithm="sha256").hexdigest()


def _locked(keys: dict[str, Allowance], now: datetime) -> dict[str, LoginTries]:
    """The rows, made where there are none; always in the same order, so that nobody waits in a circle."""
    tries = LoginTries.objects.using(database())
    tries.bulk_create([LoginTries(key=key, tried_at=now) for key in sorted(keys)], ignore_conflicts=True)
    return {row.key: row for row in tries.filter(pk__in=keys).order_by("pk").select_for_update()}


def _count(row: LoginTries, allowance: Allowance, now: datetime) -> None:
    row.failures = 1 if row.tried_at < now - FAILURES_KEPT else row.failures + 1
    wait = allowance.wait_after(row.failures)
    row.blocked_until = now + wait if wait else None
    row.tried_at = now
    row.save(using=database(), update_fields=["failures", "blocked_until", "tried_at"])


def _forget(now: datetime) -> None:
    old = Q(tried_at__lt=now - FAILURES_KEPT, logged_in_at=None) | Q(tried_at__lt=now - SUCCESS_KEPT)
    LoginTries.objects.using(database()).filter(old).delete()
