"""Waiting for a task: by ``Prefer: wait``, by ETag and by events; nobody else waits because of it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from tasks.api import patience
from tasks.tests.api_client import Api, api
from tasks.tests.api_server import Server, api_server, head, rest_of
from tasks.tests.databases import OwnDatabases
from tasks.tests.workers import wait_until

__all__ = ["api"]

BODY = json.dumps({"handler": "demo.echo"})
SOON = 5.0  # seconds; in which an answer comes that waits for nothing


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, own_databases: OwnDatabases) -> Iterator[Server]:
    """No worker runs: tasks are finished by cancelling them."""
    folder = tmp_path_factory.mktemp("waiting")
    with api_server(folder, own_databases.make(folder)) as running:
        yield running


def create(server: Server, **headers: str) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(server.ask("POST", "/tasks", BODY, **headers)[1])
    return made


def cancel_after(server: Server, task_id: str, seconds: float) -> threading.Timer:
    timer = threading.Timer(seconds, lambda: server.ask("POST", f"/tasks/{task_id}/cancel"))
    timer.start()
    return timer


def ask(server: Server, method: str, path: str, body: Any = None, **headers: str) -> Any:
    """With the headers of the answer."""
    with closing(server.connect()) as connection:
        connection.request(
            method, path, body, {name.replace("_", "-"): text for name, text in headers.items()}
        )
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()


# -- Prefer: wait


def test_the_answer_comes_when_the_task_has_finished(server: Server) -> None:
    made = create(server)
    cancel_after(server, made["id"], 0.5)

    status, headers, body = ask(server, "GET", f"/tasks/{made['id']}", Prefer="wait=30")

    assert (status, json.loads(body)["status"]) == (200, "cancelled")
    assert headers["Preference-Applied"] == "wait=30"


def test_it_comes_at_the_end_of_the_wait_in_any_case(server: Server) -> None:
    made = create(server)
    began = time.monotonic()

    status, _, body = ask(server, "GET", f"/task?id={made['id']}", Prefer="respond-async, wait=1")

    assert time.monotonic() - began >= 1
    assert (status, json.loads(body)) == (200, made)


def test_a_task_can_be_made_and_waited_for_at_once(server: Server) -> None:
    def make() -> Any:
        return ask(
            server, "POST", "/tasks", json.dumps({"handler": "demo.echo", "title": "wait"}), Prefer="wait=30"
        )

    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(make)
        made = wait_until(lambda: listed(server, "wait"), "it is made before it is answered")
        server.ask("POST", f"/tasks/{made}/cancel")
        status, headers, answer = asked.result(30)

    assert (status, json.loads(answer)["status"]) == (201, "cancelled")
    assert headers["Location"] == f"/tasks/{made}"


def listed(server: Server, title: str) -> str:
    items = json.loads(server.ask("GET", "/tasks?status=pending")[1])["items"]
    return next((str(item["id"]) for item in items if item["title"] == title), "")


def test_what_has_finished_is_not_waited_for(server: Server) -> None:
    made = create(server)
    server.ask("POST", f"/tasks/{made['id']}/cancel")
    began = time.monotonic()

    _, headers, _ = ask(server, "GET", f"/tasks/{made['id']}", Prefer="wait=30")

    assert time.monotonic() - began < SOON
    assert "Preference-Applied" not in headers


def test_until_change_comes_with_whatever_changes(server: Server) -> None:
    made = create(server)
    threading.Timer(0.5, lambda: server.ask("PATCH", f"/tasks/{made['id']}", '{"priority": 5}')).start()

    _, _, body = ask(server, "GET", f"/tasks/{made['id']}?until=change", Prefer="wait=30")

    assert json.loads(body) == {**made, "priority": 5}


def test_a_task_that_is_deleted_meanwhile_is_not_found(server: Server) -> None:
    made = create(server)
    threading.Timer(0.5, lambda: server.ask("DELETE", f"/tasks/{made['id']}")).start()

    assert ask(server, "GET", f"/tasks/{made['id']}", Prefer="wait=30")[0] == 404


@pytest.mark.parametrize("prefer", ["wait", "wait=", "wait=x", "wait=-1", "wait=0", "return=minimal", ""])
def test_a_wish_that_says_nothing_of_waiting_waits_for_nothing(server: Server, prefer: str) -> None:
    made = create(server)
    began = time.monotonic()

    assert ask(server, "GET", f"/tasks/{made['id']}", Prefer=prefer)[0] == 200
    assert time.monotonic() - began < SOON


@pytest.mark.parametrize("until", ["tomorrow", ""])
def test_a_wrong_until_is_told_before_a_task_is_made(server: Server, until: str) -> None:
    title = f"wrong-{until}"
    body = json.dumps({"handler": "demo.echo", "title": title})

    status, _, _ = ask(server, "POST", f"/tasks?until={until}", body, Prefer="wait=5")

    assert status == 400
    assert not listed(server, title)


@pytest.mark.parametrize("until", ["change", "started"])
def test_a_task_can_be_made_and_waited_for_until_something_happens(server: Server, until: str) -> None:
    body = json.dumps({"handler": "demo.echo", "title": until})
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(ask, server, "POST", f"/tasks?until={until}", body, Prefer="wait=30")
        made = wait_until(lambda: listed(server, until), "it is made")
        server.ask("POST", f"/tasks/{made}/cancel")

        status, _, answer = asked.result(30)

    assert (status, json.loads(answer)["status"]) == (201, "cancelled")


def test_an_unknown_until_is_refused(server: Server) -> None:
    status, _, body = ask(server, "GET", f"/tasks/{create(server)['id']}?until=tomorrow")

    assert (status, json.loads(body)["errors"][0]["parameter"]) == (400, "until")


MANY = 200


def status_in(answer: bytes) -> str:
    return str(json.loads(answer.partition(b"\r\n\r\n")[2])["status"])


def test_many_who_wait_keep_nobody_else_from_being_answered(server: Server) -> None:
    """As many as there is room for wait, the others hear at once how things are."""
    made = create(server)
    waits = head("GET", f"/tasks/{made['id']}", Prefer="wait=30")
    with ExitStack() as stack:
        waiting = [stack.enter_context(closing(server.socket())) for _ in range(MANY)]
        for connection in waiting:
            connection.sendall(waits)

        began = time.monotonic()
        for _ in range(20):
            assert server.ask("POST", "/tasks", BODY)[0] == 201
        took = time.monotonic() - began
        server.ask("POST", f"/tasks/{made['id']}/cancel")
        answers = [
            json.loads(rest_of(connection).partition(b"\r\n\r\n")[2])["status"] for connection in waiting
        ]

    assert took < SOON
    assert len(answers) == MANY
    assert answers.count("cancelled") >= patience.WAITERS


def test_a_server_that_stops_answers_those_who_wait(tmp_path: Path, own_databases: OwnDatabases) -> None:
    with ExitStack() as stack:
        with api_server(tmp_path, own_databases.make(tmp_path)) as server:
            made = create(server)
            connection = stack.enter_context(closing(server.socket()))
            connection.sendall(head("GET", f"/tasks/{made['id']}", Prefer="wait=60"))
            assert server.ask("GET", "/healthz")[0] == 200  # it came later, so that one has arrived
            began = time.monotonic()

        assert status_in(rest_of(connection)) == "pending"
        assert time.monotonic() - began < 4  # of the 5 that gunicorn gives to what it serves


# -- ETag


def test_who_has_it_already_gets_no_body(server: Server) -> None:
    made = create(server)
    _, headers, body = ask(server, "GET", f"/tasks/{made['id']}")

    status, again, nothing = ask(server, "GET", f"/tasks/{made['id']}", If_None_Match=headers["ETag"])

    assert (status, nothing, again["ETag"]) == (304, b"", headers["ETag"])
    assert json.loads(body) == made


def test_what_has_changed_has_another_tag(server: Server) -> None:
    made = create(server)
    tag = ask(server, "GET", f"/tasks/{made['id']}")[1]["ETag"]
    server.ask("PATCH", f"/tasks/{made['id']}", '{"priority": 5}')

    status, headers, _ = ask(server, "GET", f"/tasks/{made['id']}", If_None_Match=tag)

    assert status == 200
    assert headers["ETag"] != tag


# -- events


class Stream:
    """Reads server-sent events."""

    def __init__(self, server: Server, task_id: str, **headers: str) -> None:
        self.connection = server.connect()
        self.connection.request("GET", f"/tasks/{task_id}/events", headers=headers)
        self.answer = self.connection.getresponse()

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *error: object) -> None:
        self.connection.close()

    def next(self) -> dict[str, str]:
        """The next event; empty at the end."""
        fields: dict[str, str] = {}
        while line := self.answer.readline():
            name, _, text = line.decode().rstrip("\n").partition(": ")
            if name == "" and "data" in fields:
                return fields
            if name in ("event", "id", "data"):
                fields[name] = text
        return {}


def test_events_tell_each_change_until_the_end(server: Server) -> None:
    made = create(server)
    with Stream(server, made["id"]) as stream:
        first = stream.next()
        server.ask("PATCH", f"/tasks/{made['id']}", '{"priority": 5}')
        second = stream.next()
        server.ask("POST", f"/tasks/{made['id']}/cancel")
        third = stream.next()

        assert stream.answer.getheader("Content-Type") == "text/event-stream"
        assert stream.next() == {}
    told = [json.loads(event["data"]) for event in (first, second, third)]
    assert [(task["status"], task["priority"]) for task in told] == [
        ("pending", 0),
        ("pending", 5),
        ("cancelled", 5),
    ]
    assert {event["event"] for event in (first, second, third)} == {"status"}


def test_who_comes_again_hears_only_what_is_new(server: Server) -> None:
    made = create(server)
    with Stream(server, made["id"]) as stream:
        known = stream.next()["id"]
    cancel_after(server, made["id"], 0.5)

    with Stream(server, made["id"], **{"Last-Event-ID": known}) as stream:
        told = stream.next()

    assert json.loads(told["data"])["status"] == "cancelled"


def test_who_knows_all_that_can_come_is_told_not_to_come_again(server: Server) -> None:
    made = create(server)
    server.ask("POST", f"/tasks/{made['id']}/cancel")
    with Stream(server, made["id"]) as stream:
        known = stream.next()["id"]

    status, _, body = ask(server, "GET", f"/tasks/{made['id']}/events", Last_Event_ID=known)

    assert (status, body) == (204, b"")


def test_events_of_an_unknown_task_are_not_found(server: Server) -> None:
    assert server.ask("GET", "/tasks/01a20bcf-958e-766c-8076-373a84ef31ff/events")[0] == 404


@pytest.mark.django_db
def test_where_nobody_may_wait_events_end_after_what_is_known(api: Api) -> None:
    """Under another server; the client comes again by itself."""
    made = api.create()

    answer = api.get(f"/tasks/{made['id']}")
    events = api._client.get(f"/tasks/{made['id']}/events").getvalue().decode()

    assert answer.status == 200
    assert events.startswith("retry: 3000\n\nevent: status\nid: ")
    assert events.count("event:") == 1


@pytest.mark.parametrize(
    ("request_", "wants"),
    [
        (head("GET", "/tasks/1", Prefer="wait=5"), True),
        (head("GET", "/tasks/1", prefer="respond-async,WAIT = 5"), True),
        (head("GET", "/tasks/1/events"), True),
        (head("GET", "/tasks/1/events?a"), True),
        (head("GET", "/tasks/1"), False),
        (head("GET", "/tasks?wait=5"), False),
        (head("POST", "/tasks/1/events"), False),
        (head("GET", "/tasks/1", Prefer="return=minimal"), False),
    ],
)
def test_who_would_wait_is_told_by_the_head(request_: bytes, wants: bool) -> None:
    assert patience.wants_to_wait(request_) == wants
