"""Somebody who asks the API with a token of their own."""

from __future__ import annotations

from typing import Any

from django.utils import timezone

from tasks import tokens
from tasks.grants import USUAL, Scope
from tasks.tests.api_client import Answer, Api

BODY = b'{"handler": "demo.echo"}'


class Holder:
    def __init__(self, name: str = "app", scopes: Any = USUAL, **options: Any) -> None:
        self.token, self.secret = tokens.issue(name, scopes=scopes, now=timezone.now(), **options)

    @classmethod
    def almighty(cls) -> Holder:
        return cls("almighty", [Scope.ADMIN])

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
        return Api().ask(method, path, body, Authorization=f"Bearer {self.secret}", **headers)

    def create(self, body: bytes = BODY) -> dict[str, Any]:
        answer = self.ask("POST", "/tasks", body)
        assert answer.status == 201, answer.body
        made: dict[str, Any] = answer.json()
        return made

    def ids(self) -> list[str]:
        return [item["id"] for item in self.ask("GET", "/tasks").json()["items"]]
