"""``manage.py createtoken NAME``: a token for the API, whose secret is shown once."""

from __future__ import annotations

from argparse import ArgumentTypeError
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, IntegrityError

from tasks import clock, tokens
from tasks.grants import NOT_BOTH, USUAL, Scope, fit
from tasks.limits import OWNER_CHARS
from tasks.management.migrating import unusable
from tasks.management.words import queue_names
from tasks.models.task import database


class Command(BaseCommand):
    help = "Make a token for the API and print it: it is shown only now."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", type=_name, help="who uses it, and where; taken by no other token")
        parser.add_argument(
            "--scopes",
            type=_scopes,
            default=USUAL,
            metavar="A,B",
            help=f"of {', '.join(Scope)} (default: {','.join(USUAL)})",
        )
        parser.add_argument("--owner", type=_name, help="whose tasks it makes and sees (default: its name)")
        parser.add_argument(
            "--queues", type=queue_names, metavar="A,B", help="these queues alone (default: all)"
        )
        parser.add_argument("--days", type=_days, help="until it expires (default: never)")

    def handle(self, *args: Any, name: str, days: timedelta | None, **options: Any) -> None:
        if not fit(options["scopes"], options["queues"]):
            raise CommandError(f"--queues cannot be given here: {NOT_BOTH}.")
        chosen = {key: options[key] for key in ("scopes", "queues")}
        try:
            now = clock.now(database())
            expires_at = None if days is None else now + days
            _, secret = tokens.issue(
                name, owner=options["owner"] or "", now=now, expires_at=expires_at, **chosen
            )
        except IntegrityError as error:
            raise CommandError(f"There is a token called {name!r} already.") from error
        except DatabaseError as error:
            raise CommandError(unusable(error)) from error
        self.stdout.write(secret)


def _name(text: str) -> str:
    if not text.strip() or len(text) > OWNER_CHARS or not text.isprintable():
        raise ArgumentTypeError(f"must be 1 to {OWNER_CHARS} printable characters")
    return text


def _scopes(text: str) -> list[Scope]:
    try:
        return [Scope(name.strip()) for name in text.split(",")]
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r} is not a list of {', '.join(Scope)}") from error


def _days(text: str) -> timedelta:
    if not text.isdecimal() or not 1 <= int(text) <= 36_500:
        raise ArgumentTypeError(f"{text!r} is not a number of days from 1 to 36500")
    return timedelta(days=int(text))
