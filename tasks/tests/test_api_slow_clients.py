"""Slow, stalled and silent clients: they cost the others nothing, and hear in the end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest

from tasks.tests.api_server import CONFIG, TASK, Server, api_server, head, problem_in, rest_of

MANY = 500  # half-open connections; four threads
AT_ONCE_SECONDS = 5.0  # on a slow machine; with a thread for each it would take minutes

STALLED = {
    "nothing": b"",
    "half-a-line": b"POST /ta",
    "half-a-head": b"POST /tasks HTTP/1.1\r\nHost: localhost\r\n",
    "no-body": head(Content_Length=len(TASK)),
    "half-a-body": head(Content_Length=len(TASK)) + TASK[:5],
    "half-a-chunk": head(Transfer_Encoding="chunked") + b"e\r\n" + TASK[:5],
    "no-last-chunk": head(Transfer_Encoding="chunked") + b"e\r\n" + TASK + b"\r\n",
    "waits-for-a-word": head(Expect="100-continue", Content_Length=len(TASK)),
    "announces-too-much": head(Content_Length=10**9) + b"x",
    "does-not-hang-up": head("GET", "/healthz"),
}

HASTY = f"""
from runpy import run_path
globals().update(run_path({str(CONFIG)!r}))
worker_connections = 40

def post_worker_init(worker):
    from taskservice import api_worker
    api_worker.ARRIVE_SECONDS = 1.0
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
        began = time.monotonic()
        for _ in range(5):
            assert server.ask("POST", "/tasks", TASK)[0] == 201
            assert server.ask("GET", "/readyz")[0] == 200

        assert time.monotonic() - began < AT_ONCE_SECONDS


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


def test_where_all_connections_are_taken_the_oldest_that_says_nothing_goes(hasty: Server) -> None:
    with ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(hasty.socket())
        assert hasty.ask("POST", "/tasks", TASK)[0] == 201
