"""The page at ``/docs``: what its template shows, read from the document alone."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from django.utils.text import slugify

from tasks.api.openapi.document import LIMITS, SCOPES
from tasks.api.openapi.problems import EVERYWHERE, OF_THE_SERVER, TOLD
from tasks.api.openapi.words import kind, name_of, prose
from tasks.api.problems import KINDS

_COMMON = {str(status) for status in OF_THE_SERVER} | {str(KINDS[slug][0]) for slug in EVERYWHERE}
_UNSAID = _COMMON - {"400"} | {"401", "403"}  # of every operation, so that the page says it once


def page(document: Mapping[str, Any]) -> dict[str, Any]:
    reader = _Reader(document)
    sections = [reader.section(tag) for tag in document["tags"]]
    shown = ("Task", "Attempt", "Token", "Problem")
    return {
        "info": document["info"],
        "about": prose(document["info"]["description"].partition("\n\n")[0]),
        "sections": sections,
        "resources": [{"name": name, "members": reader.members(name)} for name in shown],
        "scopes": SCOPES,
        "limits": LIMITS,
        "problems": [
            {"slug": slug, "status": status, "title": title, "when": prose(TOLD[slug].when)}
            for slug, (status, title) in KINDS.items()
        ],
    }


def pretty(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2)


class _Reader:
    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document

    def found(self, part: dict[str, Any]) -> dict[str, Any]:
        """What a reference stands for."""
        if "$ref" not in part:
            return part
        value: Any = self._document
        for step in part["$ref"].removeprefix("#/").split("/"):
            value = value[step]
        return dict(value)

    def section(self, tag: Mapping[str, str]) -> dict[str, Any]:
        operations = [
            self.operation(method, path, item)
            for path, methods in self._document["paths"].items()
            for method, item in methods.items()
            if tag["name"] in item["tags"]
        ]
        says = prose(tag["description"])
        return {"name": tag["name"], "slug": slugify(tag["name"]), "says": says, "operations": operations}

    def operation(self, method: str, path: str, item: dict[str, Any]) -> dict[str, Any]:
        parameters = [self.found(part) for part in item.get("parameters", [])]
        body = item.get("requestBody", {}).get("content", {}).get("application/json")
        return {
            "id": item["operationId"],
            "method": method.upper(),
            "path": path,
            "summary": item["summary"],
            "says": prose(item["description"].partition(" Needs ")[0]),
            "scope": item.get("x-scope"),
            "parameters": [self.parameter(part) for part in parameters],
            "members": self.members(name_of(body["schema"]["$ref"])) if body else [],
            "curl": curl(method, path, parameters, body, secured=bool(item["security"])),
            "replies": list(self.replies(item["responses"])),
        }

    def parameter(self, part: dict[str, Any]) -> dict[str, Any]:
        says = prose(part["description"])
        known = {"name": part["name"], "in": part["in"], "required": part.get("required")}
        return {**known, "kind": kind(part["schema"]), "says": says}

    def members(self, name: str) -> list[dict[str, Any]]:
        schema = self._document["components"]["schemas"][name]
        needed = schema.get("required", []) if schema.get("additionalProperties") is False else []
        return [
            {
                "name": member,
                "kind": kind(rules),
                "says": prose(rules.get("description", "")),
                "required": member in needed,
            }
            for member, rules in schema.get("properties", {}).items()
        ]

    def replies(self, responses: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        for status, told in responses.items():
            if status not in _UNSAID:
                response = self.found(told)
                [content] = [*response.get("content", {}).items()] or [("", {})]
                yield {
                    "status": status,
                    "good": status < "400",
                    "says": prose(response["description"]),
                    "headers": list(response.get("headers", {})),
                    "links": [_link(name, link) for name, link in response.get("links", {}).items()],
                    "content_type": content[0],
                    "examples": [pretty(example) for example in _examples(content[1])],
                }


def _link(name: str, link: Mapping[str, str]) -> dict[str, str]:
    return {"name": name, "operation": link["operationId"], "says": link["description"]}


def _examples(content: Mapping[str, Any]) -> Iterator[Any]:
    if "example" in content:
        yield content["example"]
    for example in content.get("examples", {}).values():
        yield example["value"]


def curl(method: str, path: str, parameters: list[dict[str, Any]], body: Any, *, secured: bool) -> str:
    """A call that can be tried as it is."""
    query = ""
    for part in parameters:
        if part["in"] == "path":
            path = path.replace(f"{{{part['name']}}}", part["example"])
        elif part["in"] == "query" and part.get("required"):
            query = f"?{part['name']}={part['example']}"
    words = ["curl", shlex.quote(f"localhost:8080{path}{query}")]
    if secured:
        words += ["\\\n ", '-H "Authorization: Bearer $TOKEN"']
    data = next((value for value in _examples(body or {}) if value), None)
    if method not in ("get", "post") or (method == "post" and data is None):
        words.insert(1, f"-X {method.upper()}")
    if data is not None:
        words += ["\\\n ", f"-d {shlex.quote(json.dumps(data, ensure_ascii=False))}"]
    return " ".join(words)
