"""How both clients reach the service."""

from __future__ import annotations

from typing import Any

SECONDS = 15.0  # for an answer; the service itself gives up after 10


def options(url: str, token: str | None) -> dict[str, Any]:
    headers = {"User-Agent": "taskservice-client/0.1"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    return {"base_url": url, "headers": headers, "follow_redirects": False}
