"""The API as gunicorn serves it: real processes, real sockets, a real database."""

from __future__ import annotations

import fcntl
import json
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from tasks.api.bodies import MAX_BODY_BYTES
from tasks.tests.api_server import TASK, Server, api_server, chunks, head, problem_in, rest_of
from tasks.tests.databases import OwnDatabases, rows


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, own_databases: OwnDatabases) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("api")
    with api_server(folder, own_databases.make(folder)) as running:
        yield running


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
    answer = server.send(head("HEAD", "/tasks"))

    start, _, body = answer.partition(b"\r\n\r\n")
    assert start.startswith(b"HTTP/1.1 200")
    assert re.search(rb"Content-Length: [1-9]", start)
    assert body == b""


@pytest.mark.parametrize("path", ["/healthz", "/tasks", "/nope", "/admin/login/"])
def test_heads_leave_the_log_alone(server: Server, path: str) -> None:
    """Load balancers and monitors ask like that, all day."""
    before = server.log.read_text()

    get, head_ = (server.send(head(method, path)) for method in ("GET", "HEAD"))

    assert server.log.read_text() == before
    assert head_.partition(b"\r\n\r\n")[2] == b""
    assert head_.split(b"\r\n")[0] == get.split(b"\r\n")[0]


def test_many_clients_at_once_get_a_task_each(server: Server) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: server.ask("POST", "/tasks", TASK), range(80)))

    assert {status for status, _ in answers} == {201}
    assert len({json.loads(body)["id"] for _, body in answers}) == 80


# -- bodies, bounded before they are read


def test_a_body_that_announces_too_much_is_refused_before_it_comes(server: Server) -> None:
    answer = server.send(head(Content_Length=10**12))

    assert problem_in(answer)["type"] == "/problems/too-large"


def test_a_client_that_sends_too_much_all_the_same_reads_why_it_is_refused(server: Server) -> None:
    body = b"x" * (MAX_BODY_BYTES * 8)

    answer = server.send(head(Content_Length=len(body)), body)

    assert problem_in(answer)["status"] == 413


def test_a_chunked_body_is_read(server: Server) -> None:
    answer = server.send(head(Transfer_Encoding="chunked"), chunks(TASK[:5], TASK[5:]))

    assert answer.startswith(b"HTTP/1.1 201")


def test_a_chunked_body_is_bounded_too(server: Server) -> None:
    parts = [b"x" * 65536] * 6

    answer = server.send(head(Transfer_Encoding="chunked"), chunks(*parts))

    assert problem_in(answer)["status"] == 413


@pytest.mark.parametrize("body", [b"zz\r\n", b"5\r\nabcdefgh\r\n0\r\n\r\n", b"-1\r\n\r\n", b"5\r\nab"])
def test_chunks_that_are_none_are_the_clients_mistake(server: Server, body: bytes) -> None:
    answer = server.send(head(Transfer_Encoding="chunked"), body, close=True)

    assert problem_in(answer)["status"] == 400


def test_a_client_that_leaves_in_the_middle_of_its_body_makes_no_task(server: Server) -> None:
    before = server.ask("GET", "/tasks?limit=200")

    answer = server.send(head(Content_Length=1000), TASK, close=True)

    assert problem_in(answer)["type"] == "/problems/invalid-json"
    assert server.ask("GET", "/tasks?limit=200") == before


@pytest.mark.parametrize("length", ["abc", "-5", "5, 5", "1 2"])
def test_a_length_that_is_none_is_the_clients_mistake(server: Server, length: str) -> None:
    answer = server.send(head(Content_Length=length), TASK)

    assert problem_in(answer)["status"] == 400


REFUSED_UNREAD = {
    "no-http": (b"nonsense\r\n\r\n", 400),
    "long-path": (head("GET", "/tasks?q=" + "x" * 9000), 414),
    "long-header": (head("GET", X_Long="x" * 9000), 431),
    "many-headers": (head("GET", **{f"X_{number}": "y" for number in range(100)}), 431),
    "no-carriage-returns": (b"GET / HTTP/1.1\nHost: localhost\n\n", 400),
    "too-large-and-waits-for-a-word": (head(Expect="100-continue", Content_Length=10**9), 413),
    "endless-head": (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 20_000, 431),
    "unknown-coding": (head(Transfer_Encoding="rot13"), 501),
    "unknown-expectation": (head(Expect="coffee", Content_Length=len(TASK)) + TASK, 417),
}


@pytest.mark.parametrize(("request_", "status"), REFUSED_UNREAD.values(), ids=REFUSED_UNREAD)
def test_what_the_server_itself_refuses_is_a_problem_like_any_other(
    server: Server, request_: bytes, status: int
) -> None:
    assert problem_in(server.send(request_))["status"] == status


def test_a_client_that_waits_for_a_word_before_its_body_gets_it_once(server: Server) -> None:
    """As curl does with bodies of some size, a second long."""
    with closing(server.socket()) as connection:
        connection.sendall(head(Expect="100-continue", Content_Length=len(TASK)))
        word = connection.recv(65536)
        connection.sendall(TASK)
        answer = rest_of(connection)

    assert word == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert answer.startswith(b"HTTP/1.1 201 ")


def test_requests_sent_in_one_piece_are_answered_in_order(server: Server) -> None:
    paths = [b"/tasks?limit=1", b"/nope", b"/healthz", b"/task"]
    sent = b"".join(b"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n" % path for path in paths)

    answer = server.send(sent + head("GET", "/readyz"))

    assert re.findall(rb"HTTP/1\.1 (\d+)", answer) == [b"200", b"404", b"200", b"400", b"200"]


def test_a_body_in_many_pieces_is_read(server: Server) -> None:
    body = b'{"title": "%s"}' % (b"x" * 900)

    answer = server.send(head(Content_Length=len(body)), *(body[at : at + 1] for at in range(len(body))))

    assert answer.startswith(b"HTTP/1.1 201 ")


# -- hosts


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_probes_are_answered_by_the_address_of_the_machine(server: Server, path: str) -> None:
    assert server.ask("GET", path, Host="10.1.2.3:8080")[0] == 200


def test_another_host_is_not_served(server: Server) -> None:
    status, body = server.ask("GET", "/tasks", Host="evil.example")

    assert status == 400
    assert json.loads(body)["type"] == "/problems/bad-request"


def test_a_batch_of_megabytes_is_taken_where_other_bodies_are_not(server: Server) -> None:
    large = {"handler": "demo.echo", "payload": {"text": "x" * 100_000}}
    body = json.dumps({"tasks": [large] * 40}).encode()

    status, answer = server.ask("POST", "/tasks/batch", body)

    assert status == 201
    assert len(json.loads(answer)["items"]) == 40
    assert server.ask("POST", "/tasks", body)[0] == 413


@pytest.mark.sqlite
def test_many_who_find_the_database_busy_hear_so_in_time_and_nothing_else(
    tmp_path: Path, own_databases: OwnDatabases
) -> None:
    """Who comes while others wait in vain need not wait as long again."""
    where = own_databases.make(tmp_path)

    def ask(server: Server) -> tuple[int, float, bytes]:
        began = time.monotonic()
        status, body = server.ask("POST", "/tasks", TASK)
        return status, time.monotonic() - began, body

    with (
        api_server(tmp_path, where, TASKSERVICE_API_THREADS="16") as server,
        ThreadPoolExecutor(64) as clients,
    ):
        assert server.ask("POST", "/tasks", TASK)[0] == 201
        with open(f"{where['DB_PATH']}-gate", "a") as gate:
            fcntl.flock(gate, fcntl.LOCK_EX)
            answers = [asked.result(30) for asked in [clients.submit(ask, server) for _ in range(64)]]
        again = [clients.submit(ask, server) for _ in range(64)]

        assert {status for status, _, _ in answers} == {503}
        assert max(seconds for _, seconds, _ in answers) < 10  # four times as many as there are threads
        assert not any(b"locked" in body or b"busy: no turn" in body for _, _, body in answers)
        assert {asked.result(30)[0] for asked in again} == {201}
        assert "locked" not in server.log.read_text()
    assert rows(where, "SELECT count(*) FROM tasks") == [(65,)]
