"""The client for ordinary code."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Self

import httpx2

from taskservice_client import calls
from taskservice_client.errors import TaskFailed, Unreachable
from taskservice_client.following import Following
from taskservice_client.settings import SECONDS, options
from taskservice_client.task import Attempt, Task


class Client:
    """One of the service at this URL; keeps connections, so make one and use it from all threads."""

    def __init__(
        self, url: str, *, token: str | None = None, timeout: float = SECONDS, attempts: int = 5
    ) -> None:
        """``timeout``: seconds for an answer, beside what is waited for. ``attempts``: of each request."""
        self._attempts = attempts
        self._timeout = timeout
        self._http = httpx2.Client(**options(url, token))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def create(
        self,
        handler: str | None = None,
        payload: Mapping[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
        **members: Any,
    ) -> Task:
        """``idempotency_key``: one that outlives this process, say of an order; None: a new one."""
        return Task.of(self._send(calls.create(handler, payload, members, idempotency_key)))

    def create_many(
        self, specs: Iterable[Mapping[str, Any]], *, idempotency_key: str | None = None
    ) -> list[Task]:
        """All or none, in this order."""
        return calls.tasks_of(self._send(calls.create_many(specs, idempotency_key)))

    def get(self, task_id: str) -> Task:
        return Task.of(self._send(calls.get(task_id)))

    def wait(self, task_id: str, *, timeout: float = 600) -> Task:
        """The task once it has finished. Raises TimeoutError when it has not within so many seconds."""
        deadline = time.monotonic() + timeout
        while True:
            left = deadline - time.monotonic()
            task = Task.of(self._send(calls.get(task_id, wait_seconds=max(0.0, left))))
            if task.finished:
                return task
            if time.monotonic() >= deadline:
                raise TimeoutError(f"task {task_id} is {task.status} after {timeout:g} s")
            time.sleep(min(0.2, max(0.0, deadline - time.monotonic())))  # where the service does not wait

    def result(self, task_id: str, *, timeout: float = 600) -> Any:
        """What the handler returned. Raises TaskFailed, or as ``wait``."""
        task = self.wait(task_id, timeout=timeout)
        if task.status != "completed":
            raise TaskFailed(task)
        return task.result

    def tasks(self, **filters: Any) -> Iterator[Task]:
        """All that match, newest first; pages are fetched as they are needed."""
        value = self._send(calls.page(filters))
        while True:
            yield from calls.tasks_of(value)
            if value["next"] is None:
                return
            value = self._send(calls.Call(method="GET", path=value["next"]))

    def attempts(self, task_id: str) -> Iterator[Attempt]:
        """Newest first."""
        value = self._send(calls.attempts(task_id))
        while True:
            yield from calls.attempts_of(value)
            if value["next"] is None:
                return
            value = self._send(calls.Call(method="GET", path=value["next"]))

    def events(self, task_id: str) -> Iterator[Task]:
        """The task as it is, and then at each change, until it has finished. Raises as the others do."""
        following = Following(task_id, attempts=self._attempts)
        while not following.over:
            response: httpx2.Response | None = None
            try:
                with self._http.stream("GET", following.path, **following.arguments()) as response:
                    if response.is_error:
                        response.read()
                    for line in response.iter_lines():
                        if task := following.hear(line):
                            yield task
            except httpx2.TransportError as error:
                following.fail(error)
            time.sleep(following.pause(response))

    def cancel(self, task_id: str, *, reason: str | None = None, idempotency_key: str | None = None) -> Task:
        """Cancelled, or, if it runs, asked to stop."""
        return Task.of(self._send(calls.steer(task_id, "cancel", idempotency_key, reason=reason)))

    def retry(
        self,
        task_id: str,
        *,
        run_at: datetime | None = None,
        payload: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> Task:
        """With a new budget of attempts; None: at once, and with the payload that it had."""
        return Task.of(
            self._send(calls.steer(task_id, "retry", idempotency_key, run_at=run_at, payload=payload))
        )

    def run_now(self, task_id: str, *, idempotency_key: str | None = None) -> Task:
        return Task.of(self._send(calls.steer(task_id, "run-now", idempotency_key)))

    def change(self, task_id: str, *, idempotency_key: str | None = None, **members: Any) -> Task:
        return Task.of(self._send(calls.change(task_id, members, idempotency_key)))

    def delete(self, task_id: str) -> None:
        self._send(calls.delete(task_id))

    def _send(self, call: calls.Call) -> Any:
        for attempt in range(1, self._attempts + 1):
            last = attempt == self._attempts
            response: httpx2.Response | None = None
            try:
                response = self._http.request(call.method, call.path, **calls.arguments(call, self._timeout))
            except httpx2.TransportError as error:
                if last or not calls.may_repeat(call, error):
                    raise Unreachable(f"{type(error).__name__}: {error}") from error
            if response is not None and (last or calls.is_final(response)):
                return calls.value_of(response)
            time.sleep(calls.pause_before(attempt + 1, response))
        raise Unreachable("no attempt was allowed")
