"""What one can ask for: each operation as a value, and how it becomes part of the document."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tasks.api.openapi.problems import COUNTED, EVERYWHERE, OF_THE_SERVER, by_status, header_refs, ref
from tasks.grants import Scope

JSON = "application/json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer that is no problem."""

    says: str
    schema: str | None = None  # of components.schemas; None: no body
    example: Any = None
    headers: tuple[str, ...] = ()
    content_type: str = JSON
    links: Mapping[str, Any] = field(default_factory=dict)

    def as_response(self, *, counted: bool) -> dict[str, Any]:
        told: dict[str, Any] = {"description": self.says}
        if headers := (*self.headers, *(COUNTED if counted else ())):
            told["headers"] = header_refs(headers)
        if self.schema is not None:
            schema: dict[str, Any] = {"$ref": f"#/components/schemas/{self.schema}"}
            told["content"] = {self.content_type: {"schema": schema, "example": self.example}}
        elif self.content_type != JSON:
            text: dict[str, Any] = {"schema": {"type": "string"}}
            text |= {"example": self.example} if self.example else {}
            told["content"] = {self.content_type: text}
        if self.links:
            told["links"] = dict(self.links)
        return told


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    schema: str
    examples: Mapping[str, Any]
    required: bool = True

    def as_request(self) -> dict[str, Any]:
        shown = {name: {"value": value} for name, value in self.examples.items()}
        schema = {"$ref": f"#/components/schemas/{self.schema}"}
        return {"required": self.required, "content": {JSON: {"schema": schema, "examples": shown}}}


NOTHING = Body(schema="Nothing", examples={"empty": {}}, required=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    method: str
    path: str
    id: str
    tag: str
    summary: str
    says: str
    scope: Scope | None  # None: no token is asked for
    replies: Mapping[int, Reply]
    problems: tuple[str, ...] = ()  # besides those of every operation
    parameters: tuple[str, ...] = ()
    body: Body | None = None

    def as_item(self) -> dict[str, Any]:
        item: dict[str, Any] = {
            "operationId": self.id,
            "tags": [self.tag],
            "summary": self.summary,
            "description": self._description(),
            "security": [] if self.scope is None else [{"token": [self.scope.value]}],
            "responses": self._responses(),
        }
        if self.parameters:
            item["parameters"] = [{"$ref": f"#/components/parameters/{name}"} for name in self.parameters]
        if self.body is not None:
            item["requestBody"] = self.body.as_request()
        if self.scope is not None:
            item["x-scope"] = self.scope.value
        return item

    def _description(self) -> str:
        if self.scope is None:
            return f"{self.says} Needs no token."
        return f"{self.says} Needs the scope `{self.scope}`."

    def _responses(self) -> dict[str, Any]:
        told = {
            status: reply.as_response(counted=self.scope is not None)
            for status, reply in self.replies.items()
        }
        told |= {status: ref(slugs) for status, slugs in self.problems_by_status().items()}
        told |= {status: ref([f"server-{status}"]) for status in OF_THE_SERVER}
        return {str(status): told[status] for status in sorted(told)}

    def problems_by_status(self) -> dict[int, list[str]]:
        slugs = [*EVERYWHERE, *self.problems]
        slugs += [] if self.scope is None else ["unauthenticated", "forbidden", "rate-limited"]
        slugs += [] if self.body is None else ["invalid-json", "invalid-field", "too-large"]
        return by_status(slugs)
