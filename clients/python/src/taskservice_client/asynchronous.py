"""The client for asyncio: as ``Client``, with its methods to be awaited."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import datetime
from typing import Any, Self

import httpx2

from taskservice_client import calls
from taskservice_client.errors import TaskFailed, Unreachable
from taskservice_client.following import Following
from taskservice_client.settings import SECONDS, options
from taskservice_client.task import Attempt, Task


class AsyncClient:
    """See ``Client``."""

    def __init__(
        self, url: str, *, token: str | None = None, timeout: float = SECONDS, attempts: int = 5
    ) -> None:
        self._attempts = attempts
        self._timeout = timeout
        self._http = httpx2.AsyncClient(**options(url, token))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    async def create(
        self,
        handler: str | None = None,
        payload: Mapping[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
        **members: Any,
    ) -> Task:
        return Task.of(await self._send(calls.create(handler, payload, members, idempotency_key)))

    async def create_many(
        self, specs: Iterable[Mapping[str, Any]], *, idempotency_key: str | None = None
    ) -> list[Task]:
        return calls.tasks_of(await self._send(calls.create_many(specs, idempotency_key)))

    async def get(self, task_id: str) -> Task:
        return Task.of(await self._send(calls.get(task_id)))

    async def wait(self, task_id: str, *, timeout: float = 600) -> Task:
        deadline = time.monotonic() + timeout
        while True:
            left = deadline - time.monotonic()
            task = Task.of(await self._send(calls.get(task_id, wait_seconds=max(0.0, left))))
            if task.finished:
                return task
            if time.monotonic() >= deadline:
                raise TimeoutError(f"task {task_id} is {task.status} after {timeout:g} s")
            await asyncio.sleep(min(0.2, max(0.0, deadline - time.monotonic())))

    async def result(self, task_id: str, *, timeout: float = 600) -> Any:
        task = await self.wait(task_id, timeout=timeout)
        if task.status != "completed":
            raise TaskFailed(task)
        return task.result

    async def tasks(self, **filters: Any) -> AsyncIterator[Task]:
        value = await self._send(calls.page(filters))
        while True:
            for task in calls.tasks_of(value):
                yield task
            if value["next"] is None:
                return
            value = await self._send(calls.Call(method="GET", path=value["next"]))

    async def attempts(self, task_id: str) -> AsyncIterator[Attempt]:
        """Newest first."""
        value = await self._send(calls.attempts(task_id))
        while True:
            for attempt in calls.attempts_of(value):
                yield attempt
            if value["next"] is None:
                return
            value = await self._send(calls.Call(method="GET", path=value["next"]))

    async def events(self, task_id: str) -> AsyncIterator[Task]:
        """The task as it is, and then at each change, until it has finished. Raises as the others do."""
        following = Following(task_id, attempts=self._attempts)
        while not following.over:
            response: httpx2.Response | None = None
            try:
                async with self._http.stream("GET", following.path, **following.arguments()) as response:
                    if response.is_error:
                        await response.aread()
                    async for line in response.aiter_lines():
                        if task := following.hear(line):
                            yield task
            except httpx2.TransportError as error:
                following.fail(error)
            await asyncio.sleep(following.pause(response))

    async def cancel(
        self, task_id: str, *, reason: str | None = None, idempotency_key: str | None = None
    ) -> Task:
        """Cancelled, or, if it runs, asked to stop."""
        return Task.of(await self._send(calls.steer(task_id, "cancel", idempotency_key, reason=reason)))

    async def retry(
        self,
        task_id: str,
        *,
        run_at: datetime | None = None,
        payload: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> Task:
        """With a new budget of attempts; None: at once, and with the payload that it had."""
        return Task.of(
            await self._send(calls.steer(task_id, "retry", idempotency_key, run_at=run_at, payload=payload))
        )

    async def run_now(self, task_id: str, *, idempotency_key: str | None = None) -> Task:
        return Task.of(await self._send(calls.steer(task_id, "run-now", idempotency_key)))

    async def change(self, task_id: str, *, idempotency_key: str | None = None, **members: Any) -> Task:
        return Task.of(await self._send(calls.change(task_id, members, idempotency_key)))

    async def delete(self, task_id: str) -> None:
        await self._send(calls.delete(task_id))

    async def _send(self, call: calls.Call) -> Any:
        for attempt in range(1, self._attempts + 1):
            last = attempt == self._attempts
            response: httpx2.Response | None = None
            try:
                response = await self._http.request(
                    call.method, call.path, **calls.arguments(call, self._timeout)
                )
            except httpx2.TransportError as error:
                if last or not calls.may_repeat(call, error):
                    raise Unreachable(f"{type(error).__name__}: {error}") from error
            if response is not None and (last or calls.is_final(response)):
                return calls.value_of(response)
            await asyncio.sleep(calls.pause_before(attempt + 1, response))
        raise Unreachable("no attempt was allowed")
