"""PgBouncer in transaction mode, in front of the server that the tests run on."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
from psycopg.conninfo import conninfo_to_dict

from tasks.tests.postgres import give, user
from tasks.worker import parent

READY_SECONDS = 30.0
POOL = 5  # connections to the server: few, so that they change hands
PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
MISSING = "there is no pgbouncer here: `make test` as root, or `apt-get install pgbouncer`, installs it"


@dataclass(frozen=True, slots=True)
class Pooler:
    port: int
    log: Path

    def url(self, name: str) -> str:
        return f"postgres://anybody@127.0.0.1:{self.port}/{name}"

    def logins(self, name: str) -> int:
        """How often a client has come for this database."""
        return self.log.read_text().count(f"login attempt: db={name} ")


@contextmanager
def pgbouncer(*, pool: int = POOL) -> Iterator[Pooler]:
    """It answers, and is gone afterwards."""
    assert PROGRAM is not None
    folder = Path(tempfile.mkdtemp(prefix="taskservice-pgbouncer-", dir="/tmp"))
    give(folder)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    made = Pooler(port, folder / "log")
    ini = folder / "pgbouncer.ini"
    ini.write_text(_settings(port, pool))
    process = subprocess.Popen(
        [PROGRAM, str(ini)],
        stdin=subprocess.DEVNULL,
        stdout=made.log.open("wb"),
        stderr=subprocess.STDOUT,
        cwd=folder,
        user=user(),
        start_new_session=True,
        preexec_fn=partial(parent.at_its_end, signal.SIGKILL),
    )
    try:
        _wait_for(process, made)
        yield made
    finally:
        process.kill()
        process.wait(timeout=READY_SECONDS)
        shutil.rmtree(folder, ignore_errors=True)


def _settings(port: int, pool: int) -> str:
    """Debian's file says nothing of the rest, so that it is as PgBouncer has it."""
    lines = [
        "[databases]",
        f"* = {_server()}",
        "[pgbouncer]",
        "listen_addr = 127.0.0.1",
        f"listen_port = {port}",
        "unix_socket_dir =",
        "auth_type = any",
        "pool_mode = transaction",
        f"default_pool_size = {pool}",
    ]
    return "\n".join([*lines, ""])


def _server() -> str:
    """How it reaches the server: as the tests do, but for the database's name."""
    given = conninfo_to_dict(urlsplit(os.environ["DATABASE_URL"])._replace(path="").geturl())
    known = {name: given[name] for name in ("host", "port", "user", "password") if given.get(name)}
    return " ".join(f"{name}='{quoted(str(value))}'" for name, value in known.items())


def quoted(value: str) -> str:
    return value.replace("'", "''")


def _wait_for(process: subprocess.Popen[bytes], made: Pooler) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while not _answers(made):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"PgBouncer does not start:\n{made.log.read_text()}")
        time.sleep(0.02)


def _answers(made: Pooler) -> bool:
    try:
        psycopg.connect(made.url("postgres"), connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True
