"""``manage.py serve``: migrate, then the API and the workers together until Ctrl-C."""

from __future__ import annotations

import os
import signal
import socket
import sys
from argparse import ArgumentTypeError
from datetime import timedelta
from typing import Any, NoReturn

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, connections

from tasks import clock, tokens
from tasks.conf import config
from tasks.locality import tokens_are_required
from tasks.management.migrating import migrate, unusable
from tasks.management.supervisor import Supervisor
from tasks.models.task import database
from tasks.sqlite import bugs
from tasks.worker.stop import STOPS, StopSignals

API_PATIENCE = timedelta(seconds=10)  # gunicorn cuts off its requests after 5
MARGIN = timedelta(seconds=15)  # what interrupts and kills after the grace may take


N_HELP = "executors (TASKSERVICE_WORKERS); 0: only the API, where workers run elsewhere"


class Command(BaseCommand):
    help = "Migrate, then run the API and the workers together until Ctrl-C or SIGTERM."
    requires_system_checks = ()  # the workers run them; here they would only keep the API's modules in memory

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--n", type=int, default=config().workers, help=N_HELP)
        parser.add_argument("--host", default=settings.HOST, help="address to listen on (HOST)")
        parser.add_argument("--port", type=port_number, default=settings.PORT, help="0: any free one (PORT)")

    def handle(self, *args: Any, n: int, host: str, port: int, **options: Any) -> None:
        if n < 0:
            raise CommandError(f"--n is {n}, but must be at least 0.")
        self.check(tags=["tasks"])  # before anybody is told that it is up
        signals = StopSignals()
        signals.install()
        with listen(host, port) as listener:
            bring_up_to_date(signals)
            if signals.wanted:
                return
            self._show_first_token(listener)
            if n == 0:
                if connections[database()].vendor == "sqlite":
                    bugs.tell()  # else the workers do
                become(api_command(listener), keeping=listener, signals=signals)
            supervisor = Supervisor(signals)
            supervisor.start("api", api_command(listener), patience=API_PATIENCE, fds=[listener.fileno()])
            url = url_of(listener)
        supervisor.start("workers", workers_command(n), patience=config().grace + MARGIN)
        self.stdout.write(f"Task service on {url} (admin: {url}/admin/), {n} workers. Ctrl-C ends it.")
        self.stdout.flush()
        sys.exit(supervisor.run())

    def _show_first_token(self, listener: socket.socket) -> None:
        """Where tokens are required and none exists nobody could make one over HTTP."""
        required = tokens_are_required([listener.getsockname()])
        if required and (secret := tokens.first(now=clock.now(database()))):
            self.stdout.write(f"The first token, which may do everything, and is shown only now: {secret}")
            self.stdout.flush()


def port_number(text: str) -> int:
    if text.isdecimal() and int(text) <= 65535:
        return int(text)
    raise ArgumentTypeError(f"{text!r} is no whole number from 0 to 65535")


def listen(host: str, port: int) -> socket.socket:
    """Already here, so that a port in use is one sentence, and no client is refused while the API starts."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        reason = str(error.strerror).partition(" (")[0]  # Python adds the address, which is said already
        raise CommandError(f"Cannot listen on {host}, port {port}: {reason}. See HOST and PORT.") from error


def bring_up_to_date(signals: StopSignals) -> None:
    try:
        migrate(stopping=lambda: signals.wanted)
    except DatabaseError as error:
        raise CommandError(unusable(error)) from error


def become(command: list[str], *, keeping: socket.socket, signals: StopSignals) -> NoReturn:
    """There is nothing to supervise: this process turns into the command."""
    keeping.set_inheritable(True)
    for number in STOPS:  # from here on a signal ends it
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    if signals.wanted:
        sys.exit(0)
    os.execv(command[0], command)  # noqa: S606 - the command is ours


def api_command(listener: socket.socket) -> list[str]:
    bind = f"fd://{listener.fileno()}"
    return [sys.executable, "-m", "gunicorn", "--config", str(settings.GUNICORN_CONFIG), "--bind", bind]


def workers_command(n: int) -> list[str]:
    return [sys.executable, str(settings.BASE_DIR / "manage.py"), "runworkers", "--n", str(n)]


def url_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    if host in {"0.0.0.0", "::"}:  # noqa: S104 - compared, not listened on
        host = "localhost"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
