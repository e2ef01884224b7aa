"""``manage.py runworkers``: run tasks until a signal says stop."""

from __future__ import annotations

import logging.config
import os
import sys
from argparse import ArgumentParser, ArgumentTypeError
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from tasks import postgres
from tasks.conf import config
from tasks.management.migrating import unusable
from tasks.management.words import queue_names
from tasks.models import Worker
from tasks.models.task import database

DOUBT_SECONDS = 3.0  # with a new connection and a turn it shall be back within 5 s


class Command(BaseCommand):
    help = (
        "Run tasks with N executor processes until SIGTERM or SIGINT. What runs then gets the grace "
        "(TASKSERVICE_GRACE_SECONDS) to end, the rest goes back to the queue. A second signal, or SIGQUIT, "
        "ends at once."
    )
    requires_system_checks = ()  # our own are run below: the others would import the whole API

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--n",
            type=_count,
            metavar="N",
            help="how many tasks run at the same time (default: TASKSERVICE_WORKERS, else 3)",
        )
        parser.add_argument(
            "--queues",
            type=queue_names,
            metavar="A,B",
            help="serve only these queues, the first ones first (default: all, taking turns)",
        )
        parser.add_argument("--log-format", choices=["text", "json"], help="default: LOG_FORMAT, else text")

    def handle(self, *args: Any, **options: Any) -> None:
        _require_linux()
        self.check(tags=["tasks"])
        if options["log_format"]:
            _log_as(options["log_format"])
        _require_tables()
        from tasks.worker.run import run

        sys.exit(run(config(), executors=options["n"] or config().workers, queues=options["queues"]))


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 256:
        raise ArgumentTypeError(f"{text!r} is not a number from 1 to 256")
    return int(text)


def _log_as(name: str) -> None:
    """Before the executors start: they inherit nothing of it but the setting."""
    os.environ["LOG_FORMAT"] = name
    handlers: Any = settings.LOGGING["handlers"]
    handlers["console"]["formatter"] = name
    logging.config.dictConfig(settings.LOGGING)


def _require_linux() -> None:
    if sys.platform != "linux":
        raise CommandError(
            "Workers need Linux: only its kernel is sure to end their processes. Elsewhere, use the image."
        )


def _require_tables() -> None:
    if postgres.is_postgres(database()):
        # here already: a pooler may refuse them
        pooler = config().pooler
        postgres.limit_waits(database(), pooler=pooler, doubt_seconds=DOUBT_SECONDS)
        if not pooler:
            postgres.keep_plans(database())
    try:
        Worker.objects.exists()
    except DatabaseError as error:
        question = "" if postgres.hint(error) else " Has `manage.py migrate` been run?"
        raise CommandError(f"{unusable(error)}{question}") from error
