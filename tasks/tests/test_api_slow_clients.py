"""Slow, stalled and silent clients: they cost the others nothing, and hear in the end."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from statistics import median

import pytest

from tasks.tests.api_server import CONFIG, TASK, Server, api_server, head, problem_in, rest_of
from tasks.tests.workers import wait_until

MANY = 500  # half-open connections; four threads
AT_ONCE_SECONDS = 1.0
HELD_UP_SECONDS = 5.0  # the worst, on a machine that others use too; with a thread for each it would be 20

STALLED = {
    "nothing": b"",
    "blank-lines": b"\r\n\r\n",
    "half-a-line": b"POST /ta",
    "half-a-head": b"POST /tasks HTTP/1.1\r\nHost: localhost\r\n",
    "no-body": head(Content_Length=len(TASK)),
    "half-a-body": head(Content_Length=len(TASK)) + TASK[:5],
    "half-a-chunk": head(Transfer_Encoding="chunked") + b"e\r\n" + TASK[:5],
    "no-last-chunk": head(Transfer_Encoding="chunked") + b"e\r\n" + TASK + b"\r\n",
    "waits-for-a-word": head(Expect="100-continue", Content_Length=len(TASK)),
    "announces-too-much": head(Content_Length=10**9) + b"x",
    "length-with-zeros": head(Content_Length="0" * 20 + "100"),
    "length-with-zeros-for-a-reader": head("GET", "/healthz", Content_Length="0" * 20 + "100"),
    "chunk-size-with-zeros": head(Transfer_Encoding="chunked") + b"0" * 20 + b"5\r\n",
    "long-chunk-line": head(Transfer_Encoding="chunked") + b"5;" + b"x" * 2000 + b"\r\n",
    "long-trailer": head(Transfer_Encoding="chunked") + b"0\r\n" + b"X: y\r\n" * 11_000,
    "large-form": head(path="/admin/login/", Cookie="csrftoken=" + "x" * 32, Content_Length=300_000),
    "does-not-hang-up": head("GET", "/healthz"),
}

HASTY = f"""
from runpy import run_path
globals().update(run_path({str(CONFIG)!r}))
worker_connections = 40

def post_worker_init(worker):
    from tasks.api import server
    server.ARRIVE_SECONDS = 1.0
"""

POOR = f"""
from runpy import run_path
globals().update(run_path({str(CONFIG)!r}))

def post_worker_init(worker):
    import resource
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with api_server(tmp_path_factory.mktemp("api")) as running:
        yield running


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that waits for a second where others wait for long, and has room for 40 connections."""
    folder = tmp_path_factory.mktemp("hasty")
    config = folder / "gunicorn.conf.py"
    config.write_text(HASTY)
    with api_server(folder, config=config) as running:
        yield running


@pytest.mark.parametrize("sent", STALLED.values(), ids=STALLED)
def test_stalled_clients_cost_the_others_nothing(server: Server, sent: bytes) -> None:
    with ExitStack() as stack:
        for _ in range(MANY):
            stack.enter_context(server.socket()).sendall(sent)
        took = []
        for number in range(10):
            began = time.monotonic()
            if number % 2:
                assert server.ask("GET", "/readyz")[0] == 200
            else:
                assert server.ask("POST", "/tasks", TASK)[0] == 201
            took.append(time.monotonic() - began)

    assert median(took) < AT_ONCE_SECONDS, took
    assert max(took) < HELD_UP_SECONDS, took


def test_a_request_that_never_ends_is_given_up_with_a_word(hasty: Server) -> None:
    with hasty.socket() as connection:
        connection.sendall(STALLED["half-a-body"])
        answer = rest_of(connection)

    assert problem_in(answer)["status"] == 408


def test_a_drip_does_not_buy_more_time(hasty: Server) -> None:
    """The time is for the whole request, not for each of its bytes."""
    with hasty.socket() as connection:
        connection.settimeout(0.05)
        connection.sendall(head(Content_Length=100_000))
        began, answer = time.monotonic(), b""
        while not answer and time.monotonic() - began < 15:
            with suppress(TimeoutError):
                connection.sendall(b" ")
                answer = connection.recv(65536)

    assert problem_in(answer)["status"] == 408


def test_a_silent_connection_is_closed_without_a_word(hasty: Server) -> None:
    with hasty.socket() as connection:
        assert rest_of(connection) == b""


def test_a_process_out_of_file_descriptors_serves_those_it_has(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """However many it was told that it may have."""
    folder = tmp_path_factory.mktemp("poor")
    (folder / "gunicorn.conf.py").write_text(POOR)
    with api_server(folder, config=folder / "gunicorn.conf.py") as server, ExitStack() as stack:
        for _ in range(150):
            stack.enter_context(server.socket())
        wait_until(lambda: "api.no-more-files" in server.log.read_text(), "it has no more")

        assert server.ask("POST", "/tasks", TASK)[0] == 201
        log = server.log.read_text()
    assert log.count("api.no-more-files") < 50, "it says so, and does not spin"
    assert "Traceback" not in log
    assert "exited" not in log


def test_where_all_connections_are_taken_those_go_that_only_linger(hasty: Server) -> None:
    with ExitStack() as stack:
        for _ in range(100):
            client = stack.enter_context(hasty.socket())
            client.sendall(STALLED["does-not-hang-up"])
        assert hasty.ask("POST", "/tasks", TASK)[0] == 201


def test_where_all_connections_are_taken_nobody_is_cut_off_that_asks_something(hasty: Server) -> None:
    def ask(number: int) -> list[int]:
        with closing(hasty.connect()) as connection:
            statuses = []
            for _ in range(5):
                connection.request("POST", "/tasks", TASK)
                answer = connection.getresponse()
                answer.read()
                statuses.append(answer.status)
            return statuses

    with ThreadPoolExecutor(70) as pool:  # and 40 connections
        assert {status for statuses in pool.map(ask, range(70)) for status in statuses} == {201}


def test_where_all_connections_are_taken_the_oldest_that_says_nothing_goes(hasty: Server) -> None:
    with ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(hasty.socket())
        assert hasty.ask("POST", "/tasks", TASK)[0] == 201


def test_a_server_that_stops_does_not_wait_for_those_who_say_nothing(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with ExitStack() as stack:
        with api_server(tmp_path_factory.mktemp("stopping")) as server:
            stack.enter_context(server.socket())
            server.ask("GET", "/healthz")
            began = time.monotonic()

        assert time.monotonic() - began < 4  # of the 5 that gunicorn gives to what it serves


def test_tls_is_refused_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "pem").touch()
    tls = ["--certfile", str(tmp_path / "pem"), "--keyfile", str(tmp_path / "pem")]
    command = [sys.executable, "-m", "gunicorn", "-c", str(CONFIG), *tls]

    said = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)

    assert said.returncode != 0
    assert "TLS is not served here" in said.stderr
    assert "Traceback" not in said.stderr
