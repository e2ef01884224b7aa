"""The API as gunicorn serves it: a process of its own, real sockets, a real file."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from django.conf import settings

from tasks.tests.databases import without_database
from tasks.tests.workers import wait_until

TASK = b'{"title": "a"}'
CONFIG = Path(settings.BASE_DIR) / "taskservice/gunicorn.conf.py"


@dataclass(frozen=True)
class Server:
    port: int
    log: Path

    def connect(self) -> HTTPConnection:
        return HTTPConnection("127.0.0.1", self.port, timeout=20)

    def socket(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, bytes]:
        with closing(self.connect()) as connection:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()

    def send(self, *parts: bytes, close: bool = False) -> bytes:
        """All that comes back for these bytes until the server closes; ``close``: say that no more come."""
        with closing(self.socket()) as connection:
            for part in parts:
                connection.sendall(part)
            if close:
                connection.shutdown(socket.SHUT_WR)
            return rest_of(connection)


@contextmanager
def api_server(
    folder: Path, where: dict[str, str] | None = None, *, config: Path = CONFIG, **variables: str
) -> Iterator[Server]:
    """One gunicorn process with four threads, on a free port.

    Its database is that of the variables in ``where``, else an SQLite file of its own.
    """
    env = without_database(dict(os.environ)) | (where or {"DB_PATH": str(folder / "tasks.db")})
    env |= {"PORT": "0", "TASKSERVICE_API_PROCESSES": "1", "TASKSERVICE_API_THREADS": "4"}
    env |= {"DJANGO_SETTINGS_MODULE": "taskservice.settings", **variables}
    root = settings.BASE_DIR
    subprocess.run([sys.executable, "manage.py", "migrate", "-v", "0"], cwd=root, env=env, check=True)
    with open(folder / "log", "w") as log:
        command = [sys.executable, "-m", "gunicorn", "-c", str(config), "taskservice.wsgi"]
        process = subprocess.Popen(command, cwd=root, env=env, stderr=log)
    try:
        yield Server(_port(process, folder / "log"), folder / "log")
    finally:
        process.terminate()
        process.wait(timeout=20)


def _port(process: subprocess.Popen[bytes], log: Path) -> int:
    """From the line with which the server says where it listens."""

    def found() -> list[str]:
        assert process.poll() is None, log.read_text()
        return re.findall(r"api\.started\W.*?http://127\.0\.0\.1:(\d+)", log.read_text())

    return int(wait_until(found, "the server listens")[0])


def rest_of(connection: socket.socket) -> bytes:
    """What comes until the other side closes."""
    return b"".join(iter(lambda: connection.recv(65536), b""))


def head(method: str = "POST", path: str = "/tasks", **headers: Any) -> bytes:
    """Of a request after which the connection is closed."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()


def chunks(*parts: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def problem_in(answer: bytes) -> dict[str, Any]:
    start, _, body = answer.partition(b"\r\n\r\n")
    assert b"application/problem+json" in start, answer
    problem: dict[str, Any] = json.loads(body)
    assert start.startswith(b"HTTP/1.1 %d " % problem["status"])
    return problem
