"""Guessing a password of the admin: it ends soon, is told, and keeps nobody out who knows theirs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connections
from django.test import Client
from django.utils import timezone

from tasks import logins
from tasks.errors import TooManyLogins
from tasks.models import LoginTries

pytestmark = pytest.mark.django_db

LOGIN = "/admin/login/"
HERE, THERE = "192.0.2.1", "192.0.2.2"


@pytest.fixture
def ada(db: None) -> User:
    return User.objects.create_superuser("ada", password="right")


def log_in(password: str, account: str = "ada", address: str = HERE, **headers: str) -> Any:
    form = {"username": account, "password": password, "next": "/admin/"}
    return Client(REMOTE_ADDR=address).post(LOGIN, form, headers=headers)


def guess(times: int, account: str = "ada", address: str = HERE, *, now: datetime) -> list[timedelta]:
    """The waits that those were told who guess wrong all the time."""
    waits = []
    for _ in range(times):
        try:
            logins.begin(account, address, now=now)
        except TooManyLogins as error:
            waits.append(timedelta(seconds=error.seconds))
    return waits


def test_a_guesser_of_one_account_has_to_wait_and_reads_for_how_long(ada: User) -> None:
    for _ in range(6):
        assert "correct username and password" in log_in("wrong").content.decode()

    answer = log_in("right")

    assert answer.status_code == 200
    assert "Too many failed logins. Try again in 1" in answer.content.decode()
    assert log_in("right", address=THERE).status_code == 302


def test_a_guesser_of_many_accounts_has_to_wait(ada: User) -> None:
    for number in range(21):
        log_in("wrong", account=f"somebody-{number}")

    assert "Too many failed logins" in log_in("right").content.decode()


def test_guessers_at_many_addresses_have_to_wait(ada: User) -> None:
    now = timezone.now()
    for number in range(51):
        assert guess(1, address=f"198.51.100.{number}", now=now) == []

    assert guess(1, address=THERE, now=now) == [logins.FIRST_WAIT]


def test_who_has_logged_in_from_there_before_is_not_kept_out_by_others(ada: User) -> None:
    assert log_in("right").status_code == 302
    for number in range(60):
        guess(1, address=f"198.51.100.{number}", now=timezone.now())

    assert "Too many" in log_in("right", address=THERE).content.decode()
    assert log_in("right").status_code == 302


def test_each_wait_is_twice_the_one_before_and_ends_at_a_limit(db: None) -> None:
    now, waits = timezone.now(), []
    assert guess(6, now=now) == []
    for _ in range(9):
        [wait] = guess(1, now=now)
        waits.append(wait.total_seconds())
        now += wait
        assert guess(1, now=now) == []  # one more guess, and again a wait

    assert waits == [15, 30, 60, 120, 240, 480, 900, 900, 900]


def test_a_whole_account_waits_no_longer_than_a_minute(db: None) -> None:
    now = timezone.now()
    for number in range(90):
        waited = guess(1, address=f"198.51.100.{number}", now=now)
        assert max(waited, default=timedelta(0)) <= timedelta(minutes=1)
        now += sum(waited, timedelta(0))


def test_what_is_refused_makes_no_wait_longer(db: None) -> None:
    now = timezone.now()
    guess(6, now=now)

    assert set(guess(50, now=now)) == {logins.FIRST_WAIT}
    assert guess(1, now=now + logins.FIRST_WAIT) == []


def test_failures_are_forgotten_after_a_day_and_their_rows_go(db: None) -> None:
    now = timezone.now()
    guess(6, account="stranger", now=now)

    assert guess(5, now=now + logins.FAILURES_KEPT + timedelta(minutes=1)) == []
    assert LoginTries.objects.count() == 3


def test_a_success_pays_for_itself_alone(ada: User) -> None:
    """Else whoever has an account of their own could clear the address for the next guesses."""
    for number in range(20):
        log_in("wrong", account=f"somebody-{number}")
    assert log_in("right").status_code == 302
    log_in("wrong", account="somebody-else")

    assert "Too many" in log_in("wrong", account="one-more").content.decode()


def test_of_many_guesses_at_once_none_goes_uncounted(transactional_db: None) -> None:
    def one(_: int) -> int:
        try:
            return 1 - len(guess(1, now=timezone.now()))
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as pool:
        passed = sum(pool.map(one, range(24)))

    assert passed == logins.BOTH.free + 1


@pytest.mark.parametrize("account", ["Ada", "ADA", "ada"])
def test_spelling_an_account_otherwise_is_no_way_out(db: None, account: str) -> None:
    now = timezone.now()
    guess(6, now=now)

    assert guess(1, account=account, now=now) == [logins.FIRST_WAIT]


def test_a_name_that_nobody_has_costs_the_same(ada: User) -> None:
    """Else the answers would tell which accounts there are."""
    known = [log_in("wrong", address=HERE).content for _ in range(7)]
    unknown = [log_in("wrong", "nobody", THERE).content for _ in range(7)]

    for ours, theirs in zip(known, unknown, strict=True):
        assert (b"Too many failed" in ours) == (b"Too many failed" in theirs)


def test_logins_are_in_the_log_without_what_may_be_a_password(
    ada: User, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "tasks.admin"):
        log_in("hunter2")
        log_in("right")
        for _ in range(7):
            log_in("x", account="hunter2")

    told = [(record.getMessage(), getattr(record, "fields", {})) for record in caplog.records]
    events = [(name, fields.get("account")) for name, fields in told if name.startswith("admin.")]
    assert events[:2] == [("admin.login-failed", "ada"), ("admin.login", "ada")]
    assert events[2:] == [("admin.login-failed", None)] * 6 + [("admin.login-refused", None)]
    assert "hunter2" not in str(told)
    assert "hunter2" not in str(LoginTries.objects.values())


# -- where somebody comes from


def test_behind_a_proxy_those_who_guess_keep_nobody_out_elsewhere(ada: User, settings: Any) -> None:
    settings.TASKSERVICE = {**settings.TASKSERVICE, "proxies": 2}

    def guessed_from(address: str) -> bytes:
        forwarded = {"X-Forwarded-For": f"203.0.113.9, {address}:4711, 10.0.0.1"}
        answer: bytes = [log_in("wrong", **forwarded) for _ in range(7)][-1].content
        return answer

    assert b"Too many" in guessed_from("192.0.2.7")

    assert log_in("right", **{"X-Forwarded-For": "192.0.2.8, 10.0.0.1"}).status_code == 302


def test_inventing_addresses_does_not_help_a_guesser(ada: User) -> None:
    answers = [log_in("wrong", **{"X-Forwarded-For": f"198.51.100.{n}"}) for n in range(7)]

    assert b"Too many failed logins" in answers[-1].content


ASKS: list[Callable[[Client], Any]] = [
    lambda client: client.get(LOGIN),
    lambda client: client.post(LOGIN, {}),
    lambda client: client.post(LOGIN, {"username": "ada"}),
]


@pytest.mark.parametrize("ask", ASKS)
def test_only_guesses_count(db: None, ask: Callable[[Client], Any]) -> None:
    assert ask(Client()).status_code == 200
    assert not LoginTries.objects.exists()
