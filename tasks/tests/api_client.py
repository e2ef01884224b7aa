"""Asks the API as a client would, without sockets; an error in a view comes back as the answer 500."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

import pytest
from django.test import Client


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    def problem(self, status: int, slug: str) -> dict[str, Any]:
        """The body, which must be a problem of this kind."""
        value: dict[str, Any] = self.json()
        assert (self.status, value["type"]) == (status, f"/problems/{slug}"), value
        assert self.headers["Content-Type"] == "application/problem+json"
        assert value["status"] == status
        assert value["title"]
        assert value["detail"]
        return value


class Api:
    def __init__(self) -> None:
        self._client = Client(raise_request_exception=False)

    def ask(
        self, method: str, path: str, body: bytes = b"", *, content_type: str = "", **headers: str
    ) -> Answer:
        answer = self._client.generic(method, path, body, content_type=content_type, headers=headers)
        return Answer(answer.status_code, answer.headers, answer.content)

    def get(self, path: str) -> Answer:
        return self.ask("GET", path)

    def post(self, path: str, value: Any = None) -> Answer:
        """With the value as JSON, or without a body."""
        body = b"" if value is None else json.dumps(value).encode()
        return self.ask("POST", path, body, content_type="application/json")

    def create(self, **members: Any) -> dict[str, Any]:
        answer = self.post("/tasks", members or {"title": "a task"})
        assert answer.status == 201, answer.body
        made: dict[str, Any] = answer.json()
        return made

    def task(self, task_id: Any) -> dict[str, Any]:
        answer = self.get(f"/tasks/{task_id}")
        assert answer.status == 200, answer.body
        found: dict[str, Any] = answer.json()
        return found


@pytest.fixture
def api(db: None) -> Api:
    return Api()


def ids(items: list[dict[str, Any]]) -> list[str]:
    return [item["id"] for item in items]


def pages_from(api: Api, url: str | None, direction: str = "next") -> list[list[str]]:
    """The ids of each page from this one on."""
    pages = []
    while url:
        answer = api.get(url)
        assert answer.status == 200, answer.body
        page = answer.json()
        pages.append(ids(page["items"]))
        assert len(pages) < 100
        url = page[direction]
    return pages


def joined(pages: list[list[str]]) -> list[str]:
    return list(chain.from_iterable(pages))
