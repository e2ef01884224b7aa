"""Settings that are wrong, contradict one another, or open the door to the network."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from django.conf import settings
from django.core.checks import CheckMessage, run_checks
from django.core.checks.messages import ERROR as SERIOUS

from tasks import postgres
from tasks.conf import config
from tasks.locality import OWN_NAMES, tokens_are_required
from tasks.management.doctor.finding import ERROR, WARNING, Finding
from tasks.models.task import database

STOP_TIMEOUT = timedelta(seconds=40)  # of compose.yaml, and of the README's docker run
AFTER_GRACE = timedelta(seconds=10)  # until the last process has gone
LOOPBACK = {"127.0.0.1", "localhost", "::1"}


def look() -> Iterator[Finding]:
    yield from map(_of_check, run_checks(tags=["tasks", "sqlite"], include_deployment_checks=True))
    yield from _authentication()
    yield from _proxies()
    yield from _grace()
    yield from _pooler()


def _of_check(message: CheckMessage) -> Finding:
    """The system checks know more than the start tells; a serious one would have stopped it."""
    level = ERROR if message.level >= SERIOUS else WARNING
    return Finding(level, message.id or "check", str(message.msg), str(message.hint or "See the README."))


def _authentication() -> Iterator[Finding]:
    host = getattr(settings, "HOST", "127.0.0.1")
    if host not in LOOPBACK and not tokens_are_required([host]):
        level = ERROR if config().authentication == "none" else WARNING
        yield Finding(
            level,
            "auth-open",
            f"The API listens on {host} and asks for no token (TASKSERVICE_AUTH={config().authentication}).",
            "Set TASKSERVICE_AUTH=required, or see that nobody else can reach the port.",
        )


def _proxies() -> Iterator[Finding]:
    if (sign := _sign_of_a_proxy()) and not config().proxies:
        yield Finding(
            WARNING,
            "proxies-uncounted",
            f"{sign}, so there is a proxy, but TASKSERVICE_PROXIES is 0: all clients count as one, "
            "in the limits of the API and where passwords are guessed.",
            "Set TASKSERVICE_PROXIES to how many proxies add to X-Forwarded-For.",
        )


def _sign_of_a_proxy() -> str:
    if getattr(settings, "HTTPS", False):
        return "HTTPS is on"
    others = sorted(set(settings.ALLOWED_HOSTS) - OWN_NAMES)
    if others and getattr(settings, "HOST", "") in LOOPBACK:
        return f"ALLOWED_HOSTS has {others[0]}, while this machine alone can connect"
    return ""


def _grace() -> Iterator[Finding]:
    if config().grace + AFTER_GRACE > STOP_TIMEOUT:
        given = config().grace.total_seconds()
        needed = given + AFTER_GRACE.total_seconds()
        yield Finding(
            WARNING,
            "grace-too-long",
            f"TASKSERVICE_GRACE_SECONDS is {given:g}, but compose.yaml kills after 40 s.",
            f"Raise stop_grace_period (docker: --stop-timeout) to {needed:g} s or more, or lower the grace.",
        )


def _pooler() -> Iterator[Finding]:
    given = config()
    if postgres.is_postgres(database()) and given.pooler and not (given.listen_url or given.redis_url):
        yield Finding(
            WARNING,
            "no-bell",
            "Behind the pooler workers cannot be woken: they look five times a second.",
            "Set TASKSERVICE_LISTEN_URL to a direct line to PostgreSQL, or REDIS_URL.",
        )
