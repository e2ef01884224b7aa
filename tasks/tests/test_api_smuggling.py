"""Requests on which two servers could disagree, spoofed proxies, forged log lines: over real sockets."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from tasks.tests.api_server import TASK, Server, api_server, chunks, head, problem_in

LENGTH = b"Content-Length: %d" % len(TASK)
CHUNKED = b"Transfer-Encoding: chunked"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"
ESCAPES = "\x1b[31m \x9b31m \u2028 \x85 %0d%0aX-Forged:%20yes \u202e"


@pytest.fixture(scope="module", params=["text", "json"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("api")
    with api_server(
        folder, LOG_FORMAT=request.param, GUNICORN_CMD_ARGS="--access-logfile /dev/null"
    ) as running:
        yield running


def post(*lines: bytes, body: bytes = TASK, version: bytes = b"1.1") -> bytes:
    """A request with these lines, and behind it one that must not be found within it."""
    start = [b"POST /tasks HTTP/" + version, b"Host: localhost", *lines, b"", b""]
    return b"\r\n".join(start) + body + SMUGGLED


AMBIGUOUS = {
    "length-and-chunks": post(b"Content-Length: 5", CHUNKED, body=chunks(TASK)),
    "chunks-and-length": post(CHUNKED, b"Content-Length: 5", body=chunks(TASK)),
    "two-lengths": post(b"Content-Length: 5", LENGTH),
    "two-equal-lengths": post(LENGTH, LENGTH),
    "lengths-in-a-list": post(b"Content-Length: 14, 14"),
    "length-with-a-sign": post(b"Content-Length: +14"),
    "length-with-an-underscore": post(b"Content-Length: 1_4"),
    "hexadecimal-length": post(b"Content-Length: 0xe"),
    "length-after-a-vertical-tab": post(b"Content-Length: \x0b14"),
    "length-before-nul": post(b"Content-Length: 14\x00"),
    "folded-length": post(b"Content-Length:\r\n 14"),
    "blank-before-the-colon": post(b"Transfer-Encoding : chunked", LENGTH),
    "almost-chunked": post(b"Transfer-Encoding: xchunked", LENGTH),
    "chunked-after-a-vertical-tab": post(b"Transfer-Encoding:\x0bchunked", body=chunks(TASK)),
    "quoted-chunked": post(b'Transfer-Encoding: "chunked"', body=chunks(TASK)),
    "folded-chunked": post(b"Transfer-Encoding:\r\n chunked", body=chunks(TASK)),
    "identity-and-length": post(b"Transfer-Encoding: identity", LENGTH),
    "chunked-is-not-last": post(b"Transfer-Encoding: chunked, identity", body=chunks(TASK)),
    "chunked-twice": post(CHUNKED, CHUNKED, body=chunks(TASK)),
    "chunked-and-another": post(CHUNKED, b"Transfer-Encoding: x", body=chunks(TASK)),
    "empty-coding": post(b"Transfer-Encoding:", LENGTH),
    "chunks-before-http-1.1": post(CHUNKED, body=chunks(TASK), version=b"1.0"),
    "line-feed-within": post(b"X: a\n" + CHUNKED, LENGTH),
    "carriage-return-within": post(b"X: a\r" + CHUNKED, LENGTH),
    "blank-before-the-first-header": b"GET /healthz HTTP/1.1\r\n Host: a\r\n\r\n" + SMUGGLED,
    "line-feeds-in-chunks": post(CHUNKED, body=b"e\n" + TASK + b"\n0\n\n"),
    "line-feed-in-a-chunk-line": post(CHUNKED, body=b"e;\nx\r\n" + TASK + b"\r\n0\r\n\r\n"),
    "length-in-a-trailer": post(CHUNKED, body=b"e\r\n" + TASK + b"\r\n0\r\nContent-Length: 5\r\n\r\n"),
    "two-hosts": post(b"Host: evil.example", LENGTH),
    "a-proxys-preface": b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n" + post(LENGTH),
    "http-2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SMUGGLED,
    "http-0.9": b"GET /healthz\r\n\r\n" + SMUGGLED,
    "small-letters": b"get /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n" + SMUGGLED,
    "nul-in-the-path": b"GET /health\x00z HTTP/1.1\r\nHost: localhost\r\n\r\n" + SMUGGLED,
    "escape-in-the-path": b"GET /health\x1bz HTTP/1.1\r\nHost: localhost\r\n\r\n" + SMUGGLED,
}  # fmt: skip
CLEAR = {
    "length": post(LENGTH),
    "chunks": post(CHUNKED, body=chunks(TASK)),
    "chunks-in-other-letters": post(b"transfer-encoding: cHuNkEd", body=chunks(TASK)),
    "length-by-another-name": post(b"Content_Length: 5", LENGTH),
    "chunks-by-another-name": post(b"Transfer_Encoding: chunked", LENGTH),
}


@pytest.mark.parametrize("sent", AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_what_two_servers_could_read_in_two_ways_is_refused_and_ends_the_connection(
    server: Server, sent: bytes
) -> None:
    answer = server.send(sent, close=True)

    assert problem_in(answer)["status"] in (400, 501)
    assert answer.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize("sent", CLEAR.values(), ids=CLEAR)
def test_what_is_clear_ends_where_it_says_and_the_next_request_begins_there(
    server: Server, sent: bytes
) -> None:
    answer = server.send(sent, close=True)

    assert re.findall(rb"HTTP/1\.1 (\d+)", answer) == [b"201", b"404"]


# -- what only a proxy may say


@pytest.mark.parametrize("path", ["/admin/", "/admin", "/tasks?limit=1", "/nope"])
def test_no_header_brings_another_host_into_an_answer(server: Server, path: str) -> None:
    spoofed = dict.fromkeys(
        ("X-Forwarded-Host", "X-Host", "X-Forwarded-Server", "X-Original-Host"), "evil.example"
    )

    answer = server.send(head("GET", path, Forwarded="host=evil.example", X_Forwarded_Port=666, **spoofed))

    assert b"evil" not in answer
    assert b"666" not in answer
    assert not re.search(rb"(?i)\r\n(location|link): <?(https?:)?//", answer)


def test_what_a_new_task_is_called_does_not_depend_on_the_host(server: Server) -> None:
    spoofed = {"X-Forwarded-Host": "evil.example"}

    answer = server.send(head("POST", "/tasks", Content_Length=len(TASK), **spoofed) + TASK)

    assert re.search(rb"\r\nLocation: /tasks/[0-9a-f-]{36}\r\n", answer)


@pytest.mark.parametrize(
    "lines",
    [
        ["SCRIPT_NAME: /open"],
        ["PATH_INFO: /tasks"],
        ["SCRIPT-NAME: /open"],
        ["X-Original-URL: /tasks"],
        ["X-Rewrite-URL: /tasks"],
        ["X-Forwarded-Prefix: /open"],
    ],
)
def test_no_header_moves_a_request_to_another_path(server: Server, lines: list[str]) -> None:
    """A proxy that forbids a path would not see it."""
    start = ["GET /open/tasks HTTP/1.1", "Host: localhost", "Connection: close", *lines]

    answer = server.send("\r\n".join([*start, "", ""]).encode())

    assert problem_in(answer)["type"] == "/problems/not-found"


# -- what an error says (API8:2023)

BAD = {
    400: post(b"Content-Length: x"),
    404: head("GET", "/nope"),
    405: head("DELETE", "/tasks"),
    413: head(Content_Length=10**9),
    414: head("GET", "/tasks?q=" + "x" * 9000),
    431: head("GET", X_Long="x" * 9000),
    501: head(Transfer_Encoding="rot13"),
}


@pytest.mark.parametrize("status", BAD)
def test_an_error_names_no_file_statement_or_version(server: Server, status: int) -> None:
    answer = server.send(BAD[status], close=True)

    assert problem_in(answer)["status"] == status
    assert not re.search(
        rb"(?i)\.py|traceback|sqlite|postgres|select |django|python|gunicorn/|/usr/|/app/", answer
    )
    assert not re.search(rb"(?i)\r\n(x-powered-by|via|server: [^\r]*\d)", answer)


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "TRACK", "DEBUG"])
def test_no_method_gives_back_what_was_sent(server: Server, method: str) -> None:
    answer = server.send(head(method, "/tasks", Authorization="Bearer tsk_secret"))

    assert problem_in(answer)["status"] == 405
    assert b"secret" not in answer


# -- one event stays one line


def test_whatever_a_client_sends_each_line_of_the_log_is_an_event(server: Server) -> None:
    raw = ESCAPES.encode()
    forged = b"%0a2026-01-01T00:00:00.000Z%20INFO%20task.settled"
    for name in (b"User-Agent", b"Referer", b"Host", b"Authorization", b"Idempotency-Key", b"X-\xc2\x85Y"):
        server.send(b"GET /tasks%s HTTP/1.1\r\nConnection: close\r\n%s: %s\r\n\r\n" % (forged, name, raw))
    server.send(b"GET /tasks" + raw.replace(b" ", b"") + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
    server.send(b"X\x1b\x9b\xc2\x85\xe2\x80\xa8Y /tasks HTTP/1.1\r\n\r\n")
    body = json.dumps({"title": ESCAPES, "handler": f"no\n{ESCAPES}", "queue": ESCAPES}).encode()
    assert server.ask("POST", "/tasks", body)[0] == 400

    lines = server.log.read_bytes().decode().splitlines()

    assert len(lines) > 1
    event = re.compile(r'(\{"time": ")?\d{4}-\d\d-\d\dT[\d:.]+Z')
    assert [line for line in lines if not event.match(line)] == []
    assert [line for line in lines if not line.isprintable()] == []
    assert not any("INFO task.settled" in line for line in lines)
