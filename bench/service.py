"""A service to measure: its processes, on a fresh database, with a temporary folder of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from bench.databases import Database, Kind, SqliteFile

ROOT = Path(__file__).resolve().parent.parent
MANAGE = [sys.executable, str(ROOT / "manage.py")]
GUNICORN_CONFIG = ROOT / "taskservice" / "gunicorn.conf.py"
EXECUTOR = "taskservice: executor"  # how the processes that run handlers call themselves
PATIENCE = 60.0  # seconds; for whatever should take a few at most
STEP = 0.02

# What a user's shell may have set is not measured.
OURS = ("DATABASE_URL", "DB_PATH", "SECRET_KEY", "DEBUG", "LOG_LEVEL", "LOG_FORMAT", "GUNICORN_CMD_ARGS")
OUR_PREFIXES = ("TASKSERVICE_", "PG")


class Failed(Exception):
    """The service did not do what is to be measured."""


def wait_until[T](
    condition: Callable[[], T], what: str, *, patience: float = PATIENCE, step: float = STEP
) -> T:
    """The first truthy answer. Raises Failed when none comes in time."""
    deadline = time.monotonic() + patience
    while not (answer := condition()):
        if time.monotonic() > deadline:
            raise Failed(f"not within {patience:g} s: {what}")
        time.sleep(step)
    return answer


def environment() -> dict[str, str]:
    """That of this process, without what would change what is measured."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in OURS and not name.startswith(OUR_PREFIXES)
    }
    return {**kept, "PYTHONPATH": str(ROOT)}


class Service:
    """One database and the environment of all the processes that use it."""

    def __init__(self, folder: Path, variables: Mapping[str, str], database: Database | None = None) -> None:
        self.folder = folder
        self.path = folder / "tasks.db"  # where there is no other database
        self.database = database or SqliteFile(self.path)
        own = {"SECRET_KEY": "of no use to anybody", "DJANGO_SETTINGS_MODULE": "taskservice.settings"}
        where = self.database.variables
        self.env = {**environment(), **own, **where, "TASKSERVICE_APPS": "bench", **variables}

    def migrate(self) -> None:
        self._finish([*MANAGE, "migrate", "--verbosity", "0"])

    def inside(self, name: str, *arguments: object) -> Any:
        """What a function of ``bench.inside`` returns, run in a process of its own."""
        return json.loads(
            self._finish([sys.executable, "-m", "bench.inside", name, *map(str, arguments)]).splitlines()[-1]
        )

    def _finish(self, command: Sequence[str]) -> str:
        ended = subprocess.run(command, env=self.env, cwd=ROOT, capture_output=True, text=True)
        if ended.returncode:
            raise Failed(f"{' '.join(command)}: exit code {ended.returncode}\n{ended.stderr[-2000:]}")
        return ended.stdout

    def start(self, command: Sequence[str], *, log: str, fds: Sequence[int] = ()) -> subprocess.Popen[bytes]:
        """In a session of its own, its output in a file of that name."""
        with (self.folder / log).open("ab") as output:
            return subprocess.Popen(
                command,
                env=self.env,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=fds,
                start_new_session=True,
            )

    def start_workers(self, n: int, *, log: str = "workers.log") -> subprocess.Popen[bytes]:
        return self.start([*MANAGE, "runworkers", "--n", str(n)], log=log)

    def start_api(self, listener: socket.socket, *, log: str = "api.log") -> subprocess.Popen[bytes]:
        bind = f"fd://{listener.fileno()}"
        command = [sys.executable, "-m", "gunicorn", "--config", str(GUNICORN_CONFIG), "--bind", bind]
        return self.start(command, log=log, fds=[listener.fileno()])

    def rows(self, sql: str, *params: Any) -> list[tuple[Any, ...]]:
        """Read the database as it is, past everything. What is not a number or a text, cast to one."""
        return self.database.rows(sql, *params)

    def value(self, sql: str, *params: Any) -> Any:
        [[value]] = self.rows(sql, *params)
        return value

    @property
    def all_finished(self) -> bool:
        """Asks the two indexes that hold only what is not finished."""
        waits = "SELECT 1 FROM tasks WHERE status = 'pending' AND ready_at IS NOT NULL"
        runs = "SELECT 1 FROM tasks WHERE status = 'processing'"
        due = "SELECT 1 FROM tasks WHERE waiting_for = 'time'"
        return not self.value(f"SELECT EXISTS ({waits}) OR EXISTS ({runs}) OR EXISTS ({due})")


@contextmanager
def fresh_service(kind: Kind, **variables: str) -> Iterator[Service]:
    """Migrated, with nothing in it; it is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="taskservice-bench-") as name:
        folder = Path(name)
        with kind.fresh(folder) as database:
            service = Service(folder, variables, database)
            service.migrate()
            yield service


@contextmanager
def running(process: subprocess.Popen[bytes], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Ends it with SIGTERM afterwards, as an operator would. Raises Failed unless it ends well."""
    try:
        yield process
        process.send_signal(signal.SIGTERM)
        if process.wait(timeout=PATIENCE):
            raise Failed(f"exit code {process.returncode}\n{log.read_text()[-2000:]}")
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


@contextmanager
def workers(service: Service, n: int = 3) -> Iterator[psutil.Process]:
    """``runworkers --n``, ready to work; yields the dispatcher."""
    with running(service.start_workers(n), service.folder / "workers.log") as process:
        dispatcher = psutil.Process(process.pid)
        wait_until(lambda: len(executors_of(dispatcher)) == n, f"{n} executors")
        time.sleep(1)  # until they have said that they are ready, and the first duties are done
        yield dispatcher


def executors_of(dispatcher: psutil.Process) -> list[psutil.Process]:
    return [child for child in dispatcher.children(recursive=True) if title(child).startswith(EXECUTOR)]


def title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


@dataclass(frozen=True, slots=True)
class Api:
    """A running gunicorn."""

    host: str
    port: int
    process: psutil.Process


@contextmanager
def api(service: Service) -> Iterator[Api]:
    """gunicorn with the config that ships, answering."""
    with socket.create_server(("127.0.0.1", 0), backlog=2048) as listener:
        address: tuple[str, int] = listener.getsockname()
        with running(service.start_api(listener), service.folder / "api.log") as process:
            wait_until(lambda: answers(address), "the API answers")
            yield Api(*address, psutil.Process(process.pid))


def answers(address: tuple[str, int]) -> bool:
    try:
        with socket.create_connection(address, timeout=5) as connection:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            return connection.recv(4096).startswith(b"HTTP/1.1 200")
    except OSError:
        return False
