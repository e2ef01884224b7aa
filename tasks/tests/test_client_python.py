"""The Python client, against the running service, and against one that loses answers or refuses."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import httpx2
import pytest
from django.conf import settings

from tasks.tests.service import Serve, Service, serve, where
from taskservice_client import ApiError, AsyncClient, Client, TaskFailed, Unreachable, calls
from taskservice_client.following import Following

__all__ = ["serve", "where"]

README = Path(settings.BASE_DIR) / "clients/python/README.md"
LATER = {"handler": "demo.echo", "queue": "later", "delay_seconds": 3600}
LATER_PAYLOAD = {"order": 42}
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


def test_each_attempt_is_told_of(client: Client) -> None:
    task = client.create("fault.once", {"message": "not yet"}, max_attempts=2)
    assert client.wait(task.id, timeout=60).status == "completed"

    second, first = client.attempts(task.id)

    assert (second.number, second.outcome, second.error) == (2, "succeeded", None)
    assert (first.number, first.outcome, first.ended_at is not None) == (1, "failed", True)
    assert first.error is not None
    assert first.error["message"] == "not yet"


def test_each_change_is_heard_until_it_has_finished(client: Client) -> None:
    task = client.create("demo.echo", delay_seconds=3600)

    heard = []
    for seen in client.events(task.id):
        heard.append(seen.status)
        if len(heard) == 1:
            client.run_now(task.id)

    assert heard[0] == "pending"
    assert heard[-1] == "completed"
    assert [seen.status for seen in client.events(task.id)] == ["completed"]
    with pytest.raises(ApiError, match="not-found"):
        next(client.events(NOBODY))


def test_a_key_of_ones_own_makes_one_task_in_two_lives(service: Service) -> None:
    made = []
    for _ in range(2):
        with Client(service.url) as client:
            made.append(client.create("demo.echo", LATER_PAYLOAD, idempotency_key="order-42").id)
            made += [task.id for task in client.create_many([LATER], idempotency_key="order-42")]

    assert made[:2] == made[2:]


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
            assert [each.outcome async for each in client.attempts(task.id)] == ["succeeded"]
            await client.cancel(made[3].id)
            assert [each.status async for each in client.events(made[3].id)] == ["cancelled"]
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


@pytest.mark.slow  # it fetches what builds wheels
@pytest.mark.skipif(find_spec("pip") is None, reason="this environment has no pip")
def test_its_wheel_is_whole_and_typed(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "-w", str(tmp_path), str(README.parent)]
    built = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if "No matching distribution found for hatchling" in built.stdout + built.stderr:
        pytest.skip("what builds it cannot be fetched")
    assert built.returncode == 0, built.stdout + built.stderr
    [wheel] = tmp_path.glob("*.whl")

    source = README.parent / "src"
    expected = {
        str(path.relative_to(source)) for path in source.rglob("*") if path.suffix in (".py", ".typed")
    }
    assert expected <= set(ZipFile(wheel).namelist())
    env = {**os.environ, "PYTHONPATH": str(wheel)}
    show = "import taskservice_client; print(taskservice_client.__file__)"
    shown = subprocess.run(
        [sys.executable, "-c", show], env=env, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert shown.stdout.startswith(str(wheel))


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


def test_a_stream_that_breaks_is_taken_up_where_it_was(forgetful: str, service: Service) -> None:
    task_id = service.call("/tasks", {"handler": "demo.echo"})["id"]

    with Client(forgetful) as client:
        assert [task.status for task in client.events(task_id)][-1] == "completed"


def test_a_stream_that_is_refused_is_asked_for_again(refusing: Refusing) -> None:
    with Client(refusing.url) as client, pytest.raises(ApiError, match="404"):
        list(client.events(NOBODY))

    assert [what for what, _ in refusing.asked] == [f"GET /tasks/{NOBODY}/events"] * 3


def test_events_are_read_line_by_line() -> None:
    following = Following(NOBODY, attempts=2)

    for line in ("retry: 500", "", ": ping", "", "event: status", "id: 7", 'data: {"half":'):
        assert following.hear(line) is None

    assert following.arguments()["headers"] == {}, "what was cut off comes again"
    assert following.pause(None) == 0.5
    assert following.hear("") is None


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
    for call in (calls.steer("a", "retry", None), calls.change("a", {"priority": 1}, None)):
        assert "Idempotency-Key" in call.headers


def test_where_nobody_listens_it_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    with (
        Client(f"http://127.0.0.1:{port}", attempts=2) as client,
        pytest.raises(Unreachable, match="Connect"),
    ):
        client.create("demo.echo")
