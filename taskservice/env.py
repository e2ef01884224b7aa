"""Environment variables as typed values; a bad one stops the start with one sentence that names it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from importlib.util import find_spec

from django.core.exceptions import ImproperlyConfigured

from tasks.rates import FORM, Rate

TRUE, FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


class BadVariable(ImproperlyConfigured):
    def __init__(self, name: str, given: str, allowed: str) -> None:
        super().__init__(f"{name} is {given[:80]!r}, but must be {allowed}.")


def text(name: str, default: str = "") -> str:
    """The variable without blanks around it. Empty counts as not set, as compose files pass it so."""
    return os.environ.get(name, "").strip() or default


def integer(name: str, default: int, *, least: int, most: int = 1_000_000) -> int:
    given = text(name, str(default))
    if not (given.isdecimal() and least <= int(given) <= most):
        raise BadVariable(name, given, f"a whole number from {least} to {most}")
    return int(given)


def seconds(name: str, default: float, *, least: float, most: float = 1_000_000) -> timedelta:
    given = text(name, str(default))
    with suppress(ValueError):
        if least <= float(given) <= most:  # false for nan, too
            return timedelta(seconds=float(given))
    raise BadVariable(name, given, f"a number of seconds from {least} to {most}")


def rate(name: str, default: str) -> Rate:
    given = text(name, default)
    try:
        return Rate.of(given.lower())
    except ValueError:
        raise BadVariable(name, given, FORM) from None


def days(name: str, default: float, *, least: float, most: float = 36_500) -> timedelta | None:
    """A duration, or None where it says ``none``: for ever."""
    given = text(name, str(default))
    with suppress(ValueError):
        if given.lower() == "none":
            return None
        if least <= float(given) <= most:  # false for nan, too
            return timedelta(days=float(given))
    raise BadVariable(name, given, f"a number of days from {least} to {most}, or none: for ever")


def choice(name: str, default: str, allowed: Sequence[str]) -> str:
    """One of the allowed words, in whichever case it was given."""
    given = text(name, default)
    for word in allowed:
        if word.lower() == given.lower():
            return word
    raise BadVariable(name, given, f"one of {', '.join(allowed)}")


def boolean(name: str, *, default: bool) -> bool:
    return choice(name, str(default), [*TRUE, *FALSE]) in TRUE


def words(name: str, default: str = "") -> list[str]:
    """A list separated by commas, without blanks and empty members."""
    return [word.strip() for word in text(name, default).split(",") if word.strip()]


def origins(name: str) -> list[str]:
    given = words(name)
    for origin in given:
        if not origin.startswith(("https://", "http://")):
            raise BadVariable(
                name, origin, "origins separated by commas, each beginning with https:// or http://"
            )
    return given


def redis_url(name: str) -> str:
    given = text(name)
    if given and not given.startswith(("redis://", "rediss://", "unix://")):
        raise BadVariable(name, shown_of_url(given), "redis://HOST:PORT/NUMBER, or rediss://, unix://")
    return given


def postgres_url(name: str) -> str:
    """What the driver would say of a bad one repeats it, password and all."""
    given = text(name)
    if given and not given.startswith(("postgres://", "postgresql://")):
        raise BadVariable(name, shown_of_url(given), "postgres://USER:PASSWORD@HOST:PORT/NAME")
    return given


def shown_of_url(url: str) -> str:
    """Its scheme: anywhere else there may be a password."""
    scheme, found, _ = url.partition("://")
    return f"{scheme}:..." if found else "..."


def apps(name: str) -> list[str]:
    """Django apps by their dotted path (or that of their AppConfig). Each must be there to import."""
    given = words(name)
    for app in given:
        if not any(map(_is_there, _modules_of(app))):
            allowed = f"apps that Python can import, separated by commas (it finds no {app!r})"
            raise BadVariable(name, text(name), allowed)
    return given


def _modules_of(app: str) -> list[str]:
    module, _, last = app.rpartition(".")
    return [app, module] if last[:1].isupper() else [app]  # package.apps.ItsConfig names a class


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):
        return False
