"""The Python client, against the running service, and against one that loses answers or refuses."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest
from django.conf import settings

from tasks.tests.service import Serve, Service, serve, where
from taskservice_client import ApiError, AsyncClient, Client, TaskFailed, Unreachable, calls

__all__ = ["serve", "where"]

README = Path(settings.BASE_DIR) / "clients/python/README.md"
LATER = {"handler": "demo.echo", "queue": "later", "delay_seconds": 3600}
NOBODY = "01a20bcf-958e-766c-8076-373a84ef31ff"


@pytest.fixture
def service(serve: Serve) -> Service:
    return serve(TASKSERVICE_APPS="tasks.tests.faults")


@pytest.fixture
def client(service: Service) -> Iterator[Client]:
    with Client(service.url) as made:
        yield made


def test_a_task_is_made_and_its_result_is_read(client: Client) -> None:
    task = client.create("demo.echo", {"a": [1, None]}, title="t", tags=["x"], priority=3)

    assert (task.status, task.title, task.tags, task.priority) == ("pending", "t", ["x"], 3)
    assert client.result(task.id, timeout=60) == {"a": [1, None]}
    done = client.get(task.id)
    assert done.finished
    assert done.finished_at is not None
    assert done.finished_at > done.created_at


def test_a_task_that_fails_has_no_result(client: Client) -> None:
    task = client.create("fault.error", max_attempts=1)

    with pytest.raises(TaskFailed, match="failed") as failed:
        client.result(task.id, timeout=60)
    assert failed.value.task.error is not None


def test_waiting_ends(client: Client) -> None:
    task = client.create("demo.echo", run_at=datetime.now(UTC) + timedelta(hours=1))

    with pytest.raises(TimeoutError, match="is pending after 1"):
        client.wait(task.id, timeout=1.2)


def test_all_that_match_are_found_page_after_page(client: Client) -> None:
    made = client.create_many(
        {"handler": "demo.echo", "queue": "later", "delay_seconds": 3600} for _ in range(7)
    )

    found = [task.id for task in client.tasks(queue="later", limit=3)]

    assert found == [task.id for task in made][::-1]


def test_tasks_are_steered(client: Client) -> None:
    task = client.create("demo.echo", {"n": 1}, delay_seconds=3600)

    assert client.change(task.id, priority=9, run_at=None).priority == 9
    assert client.wait(task.id, timeout=60).status == "completed"
    assert client.retry(task.id).status in ("pending", "processing", "completed")
    assert client.wait(task.id, timeout=60).attempt == 2
    other = client.create("demo.echo", delay_seconds=3600)
    cancelled = client.cancel(other.id, reason="not needed")
    assert (cancelled.status, cancelled.cancel_reason) == ("cancelled", "not needed")
    again = client.retry(other.id, run_at=datetime.now(UTC) + timedelta(hours=1), payload={"b": 2})
    assert again.pending_reason is not None
    assert (again.pending_reason["code"], again.payload) == ("scheduled", {"b": 2})
    client.delete(other.id)
    with pytest.raises(ApiError, match="not-found"):
        client.get(other.id)
    third = client.create("demo.echo", delay_seconds=3600)
    assert client.run_now(third.id).run_at is None


def test_what_the_service_refuses_is_told_in_full(client: Client) -> None:
    with pytest.raises(ApiError) as refused:
        client.create("demo.echo", priority=1000)

    error = refused.value
    assert (error.status, error.code) == (400, "invalid-field")
    assert [member["pointer"] for member in error.errors] == ["/priority"]
    assert "priority" in str(error)


def test_a_time_needs_a_zone(client: Client) -> None:
    with pytest.raises(ValueError, match="time zone"):
        client.create("demo.echo", run_at=datetime(2026, 1, 1))


def test_a_token_is_sent(serve: Serve) -> None:
    service = serve("--host", "0.0.0.0", wait=False)
    assert service.process.stdout is not None
    shown = re.search(r"tsk_[\w-]+", service.process.stdout.readline())
    service.wait_for_url()
    assert shown is not None

    with Client(service.url) as stranger, pytest.raises(ApiError, match="unauthenticated"):
        stranger.create("demo.echo")
    with Client(service.url, token=shown[0]) as client:
        assert client.create("demo.echo").status == "pending"


def test_the_other_kind_does_the_same(service: Service) -> None:
    async def use() -> tuple[Any, list[str], list[str]]:
        async with AsyncClient(service.url) as client:
            task = await client.create("demo.echo", {"a": 1})
            result = await client.result(task.id, timeout=60)
            made = await client.create_many(
                [{"handler": "demo.echo", "queue": "later", "delay_seconds": 99}] * 5
            )
            found = [each.id async for each in client.tasks(queue="later", limit=2)]
            changed = await client.change(made[0].id, title="b")
            assert changed.title == "b"
            assert (await client.cancel(made[0].id)).status == "cancelled"
            assert (await client.retry(made[0].id)).status in ("pending", "processing", "completed")
            assert (await client.run_now(made[1].id)).run_at is None
            await client.delete(made[2].id)
            with pytest.raises(ApiError, match="not-found"):
                await client.get(made[2].id)
            with pytest.raises(TimeoutError):
                await client.wait(made[3].id, timeout=0.1)
            return result, [each.id for each in made], found

    result, made, found = asyncio.run(use())

    assert result == {"a": 1}
    assert found == made[::-1]


def test_the_examples_of_its_page_work(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    examples = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(examples) == 2

    for example in examples:
        exec(example.replace("http://localhost:8080", service.url), {})

    assert capsys.readouterr().out.count("{'name': 'Ada'}") == 2


# -- when things go wrong


class Refusing(ThreadingHTTPServer):
    """Answers with these statuses, one after the other, and keeps what it was asked."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.asked: list[tuple[str, str | None]] = []
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Refusing

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append((f"{self.command} {self.path}", self.headers.get("Idempotency-Key")))
        body = json.dumps({"type": "/problems/unavailable", "detail": "not now"}).encode()
        self.send_response(self.server.statuses.pop(0))
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Retry-After", "0")
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = _answer  # noqa: N815 - as its base calls them

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def refusing() -> Iterator[Refusing]:
    with Refusing(503, 429, 404, 404) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_what_may_work_later_is_sent_again_with_the_same_key(refusing: Refusing) -> None:
    with Client(refusing.url) as client, pytest.raises(ApiError, match="404"):
        client.create("demo.echo")

    [key] = {key for _, key in refusing.asked}
    assert key
    assert [what for what, _ in refusing.asked] == ["POST /tasks"] * 3


def test_the_other_kind_sends_again_too(refusing: Refusing) -> None:
    async def use() -> None:
        async with AsyncClient(refusing.url) as client:
            await client.create("demo.echo")

    with pytest.raises(ApiError, match="404"):
        asyncio.run(use())
    assert len({key for _, key in refusing.asked}) == 1
    assert len(refusing.asked) == 3


def test_attempts_are_bounded(refusing: Refusing) -> None:
    with (
        Client(refusing.url, attempts=2) as client,
        pytest.raises(ApiError, match="429 unavailable: not now"),
    ):
        client.get(NOBODY)

    assert len(refusing.asked) == 2


def test_each_wish_has_a_key_of_its_own(refusing: Refusing) -> None:
    with Client(refusing.url, attempts=1) as client:
        for _ in range(2):
            with suppress(ApiError):
                client.create("demo.echo")

    assert len({key for _, key in refusing.asked}) == 2


@pytest.fixture
def forgetful(service: Service) -> Iterator[str]:
    """In front of the service; hands the first request on, and hangs up instead of answering."""
    host, _, port = service.url.removeprefix("http://").rpartition(":")
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(16) as threads:
        forgets = threading.Event()
        forgets.set()

        def pump(source: socket.socket, target: socket.socket, *, answers: bool) -> None:
            """Until either side ends; the first answer ends both."""
            with suppress(OSError):
                while data := source.recv(65536):
                    if answers and forgets.is_set():
                        forgets.clear()
                        break
                    target.sendall(data)
            for end in (source, target):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

        def hand_on(near: socket.socket) -> None:
            with closing(near), socket.create_connection((host, int(port))) as far:
                asking = threads.submit(pump, near, far, answers=False)
                pump(far, near, answers=True)
                asking.result()

        def listen() -> None:
            with suppress(OSError):
                while True:
                    threads.submit(hand_on, listener.accept()[0])

        thread = threading.Thread(target=listen)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_an_answer_that_was_lost_makes_no_second_task(forgetful: str, service: Service) -> None:
    with Client(forgetful) as client:
        made = client.create("demo.echo", title="once")

        assert [task.id for task in client.tasks(q="once")] == [made.id]


def test_a_deed_of_which_nobody_knows_whether_it_was_done_is_not_done_again(forgetful: str) -> None:
    with Client(forgetful) as client, pytest.raises(Unreachable):
        client.delete(NOBODY)


@pytest.mark.parametrize(
    ("status", "slug", "final"),
    [
        (200, "", True),
        (409, "conflict-state", True),
        (409, "idempotency-in-flight", False),
        (422, "unknown-handler", True),
        (429, "rate-limited", False),
        (503, "unavailable", False),
    ],
)
def test_what_may_be_answered_otherwise_is_asked_again(status: int, slug: str, final: bool) -> None:
    response = httpx2.Response(status, json={"type": f"/problems/{slug}"})

    assert calls.is_final(response) is final


def test_what_steers_a_task_carries_a_key() -> None:
    for call in (calls.steer("a", "retry"), calls.change("a", {"priority": 1})):
        assert "Idempotency-Key" in call.headers


def test_where_nobody_listens_it_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    with (
        Client(f"http://127.0.0.1:{port}", attempts=2) as client,
        pytest.raises(Unreachable, match="Connect"),
    ):
        client.create("demo.echo")
