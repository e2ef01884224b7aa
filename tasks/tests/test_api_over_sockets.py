"""The API as gunicorn serves it: real processes, real sockets, a real file."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from tasks.api.bodies import MAX_BODY_BYTES
from tasks.tests.workers import wait_until

TASK = b'{"title": "a"}'


@dataclass(frozen=True)
class Server:
    port: int

    def connect(self) -> HTTPConnection:
        return HTTPConnection("127.0.0.1", self.port, timeout=20)

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, bytes]:
        with closing(self.connect()) as connection:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()

    def send(self, *parts: bytes, close: bool = False) -> bytes:
        """All that comes back for these bytes until the server closes; ``close``: say that no more come."""
        with closing(socket.create_connection(("127.0.0.1", self.port), timeout=20)) as connection:
            for part in parts:
                connection.sendall(part)
            if close:
                connection.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One gunicorn process with four threads, on a free port and a database of its own."""
    folder = tmp_path_factory.mktemp("api")
    env = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    env |= {"DB_PATH": str(folder / "tasks.db"), "PORT": "0", "TASKSERVICE_API_PROCESSES": "1"}
    env |= {"DJANGO_SETTINGS_MODULE": "taskservice.settings", "TASKSERVICE_API_THREADS": "4"}
    root = settings.BASE_DIR
    subprocess.run([sys.executable, "manage.py", "migrate", "-v", "0"], cwd=root, env=env, check=True)
    with open(folder / "log", "w") as log:
        command = [sys.executable, "-m", "gunicorn", "-c", "taskservice/gunicorn.conf.py", "taskservice.wsgi"]
        process = subprocess.Popen(command, cwd=root, env=env, stderr=log)
    try:
        yield Server(_port(process, folder / "log"))
    finally:
        process.terminate()
        process.wait(timeout=20)


def _port(process: subprocess.Popen[bytes], log: Path) -> int:
    """From the line with which the server says where it listens."""

    def found() -> list[str]:
        assert process.poll() is None, log.read_text()
        return re.findall(r"api\.started url=http://127\.0\.0\.1:(\d+)", log.read_text())

    return int(wait_until(found, "the server listens")[0])


def _head(method: str = "POST", path: str = "/tasks", **headers: Any) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()


def _chunks(*parts: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def _problem(answer: bytes) -> dict[str, Any]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head, answer
    problem: dict[str, Any] = json.loads(body)
    assert head.startswith(b"HTTP/1.1 %d " % problem["status"])
    return problem


def test_a_task_made_by_one_request_is_found_by_the_next(server: Server) -> None:
    status, body = server.ask("POST", "/tasks", TASK)
    made = json.loads(body)

    assert status == 201
    assert server.ask("GET", f"/task?id={made['id']}") == (200, body)


def test_a_connection_serves_many_requests_errors_included(server: Server) -> None:
    with closing(server.connect()) as connection:
        statuses = []
        for method, path, body in [
            ("POST", "/tasks", TASK),
            ("GET", "/nope", None),
            ("POST", "/tasks", b"["),
        ] * 3:
            connection.request(method, path, body)
            answer = connection.getresponse()
            answer.read()
            statuses.append(answer.status)

    assert statuses == [201, 404, 400] * 3


def test_head_sends_the_length_and_no_body(server: Server) -> None:
    answer = server.send(_head("HEAD", "/tasks"))

    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert re.search(rb"Content-Length: [1-9]", head)
    assert body == b""


def test_many_clients_at_once_get_a_task_each(server: Server) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: server.ask("POST", "/tasks", TASK), range(80)))

    assert {status for status, _ in answers} == {201}
    assert len({json.loads(body)["id"] for _, body in answers}) == 80


# -- bodies, bounded before they are read


def test_a_body_that_announces_too_much_is_refused_before_it_comes(server: Server) -> None:
    answer = server.send(_head(Content_Length=10**12))

    assert _problem(answer)["type"] == "/problems/too-large"


def test_a_client_that_sends_too_much_all_the_same_reads_why_it_is_refused(server: Server) -> None:
    body = b"x" * (MAX_BODY_BYTES * 8)

    answer = server.send(_head(Content_Length=len(body)), body)

    assert _problem(answer)["status"] == 413


def test_a_chunked_body_is_read(server: Server) -> None:
    answer = server.send(_head(Transfer_Encoding="chunked"), _chunks(TASK[:5], TASK[5:]))

    assert answer.startswith(b"HTTP/1.1 201")


def test_a_chunked_body_is_bounded_too(server: Server) -> None:
    parts = [b"x" * 65536] * 6

    answer = server.send(_head(Transfer_Encoding="chunked"), _chunks(*parts))

    assert _problem(answer)["status"] == 413


@pytest.mark.parametrize("body", [b"zz\r\n", b"5\r\nabcdefgh\r\n0\r\n\r\n", b"-1\r\n\r\n", b"5\r\nab"])
def test_chunks_that_are_none_are_the_clients_mistake(server: Server, body: bytes) -> None:
    answer = server.send(_head(Transfer_Encoding="chunked"), body, close=True)

    assert _problem(answer)["type"] == "/problems/invalid-json"


def test_a_client_that_leaves_in_the_middle_of_its_body_makes_no_task(server: Server) -> None:
    before = server.ask("GET", "/tasks?limit=200")

    answer = server.send(_head(Content_Length=1000), TASK, close=True)

    assert _problem(answer)["type"] == "/problems/invalid-json"
    assert server.ask("GET", "/tasks?limit=200") == before


@pytest.mark.parametrize("length", ["abc", "-5", "5, 5", "1 2"])
def test_a_length_that_is_none_is_the_clients_mistake(server: Server, length: str) -> None:
    answer = server.send(_head(Content_Length=length), TASK)

    assert answer.startswith(b"HTTP/1.1 400")


# -- hosts


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_probes_are_answered_by_the_address_of_the_machine(server: Server, path: str) -> None:
    assert server.ask("GET", path, Host="10.1.2.3:8080")[0] == 200


def test_another_host_is_not_served(server: Server) -> None:
    status, body = server.ask("GET", "/tasks", Host="evil.example")

    assert status == 400
    assert json.loads(body)["type"] == "/problems/bad-request"
