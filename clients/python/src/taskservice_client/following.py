"""The changes of one task as server-sent events, and where one is in them."""

from __future__ import annotations

import json
from typing import Any

import httpx2

from taskservice_client import calls
from taskservice_client.errors import Unreachable
from taskservice_client.task import Task

SILENCE_SECONDS = 45.0  # the service says something every 15


class Following:
    """Fed with the lines of each stream; knows where the next one goes on, and whether any will come."""

    def __init__(self, task_id: str, *, attempts: int) -> None:
        self.over = False
        self.path = f"/tasks/{task_id}/events"
        self._attempts = attempts
        self._failures = 0  # in a row
        self._pause = 3.0  # seconds before one comes again
        self._last = self._id = ""
        self._data: list[str] = []

    def arguments(self) -> dict[str, Any]:
        """For the next stream."""
        self._data = []  # what was cut off comes again
        headers = {"Last-Event-ID": self._last} if self._last else {}
        return {"headers": headers, "timeout": SILENCE_SECONDS}

    def hear(self, line: str) -> Task | None:
        """The task, if an event ends with this line."""
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "id":
            self._id = value
        elif field == "data":
            self._data.append(value)
        elif field == "retry" and value.isdecimal():
            self._pause = int(value) / 1000
        return None if line or not self._data else self._event()

    def _event(self) -> Task:
        task = Task.of(json.loads("\n".join(self._data)))
        self._data, self._last, self._failures = [], self._id, 0
        self.over = task.finished
        return task

    def fail(self, error: httpx2.TransportError) -> None:
        self._failures += 1
        if self._failures >= self._attempts:
            raise Unreachable(f"{type(error).__name__}: {error}") from error

    def pause(self, response: httpx2.Response | None) -> float:
        """Seconds before one comes again. Raises ApiError for what was answered, if that is final."""
        if response is not None and response.status_code == 204:
            self.over = True
        if response is not None and response.is_error:
            self._failures += 1
            if self._failures >= self._attempts or calls.is_final(response):
                calls.value_of(response)
        if self.over:
            return 0.0
        return calls.pause_before(self._failures + 1, response) if self._failures else self._pause
