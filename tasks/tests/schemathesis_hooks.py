"""What schemathesis cannot read from the document: loaded by its process, see ``test_api_schemathesis``."""

from __future__ import annotations

import json
import os
from typing import Any
from uuid import uuid4

import schemathesis
from schemathesis.generation import GenerationMode
from schemathesis.generation.meta import TestPhase

OWN_TOKEN = os.environ["OWN_TOKEN_ID"]


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """What is meant to be right follows the rules that no schema says."""
    if case.meta is None or case.meta.phase.name == TestPhase.STATEFUL:
        _make_key_new(case.headers)
    if case.meta is None or case.meta.generation.mode == GenerationMode.POSITIVE:
        (case.query or {}).pop("cursor", None)  # only as the service itself has written it
        for wish in _wishes_in(case.body):
            if "expires_at" in wish:
                wish["expires_at"] = None  # it has to be later than now, or than a run_at sent before
            if "payload" in wish:
                wish["payload"] = _storable(wish["payload"])


@schemathesis.hook
def after_call(context: Any, case: Any, response: Any) -> None:
    """It never learns of its own token, or it would withdraw it."""
    if OWN_TOKEN.encode() in response.content:
        page = json.loads(response.content)
        page["items"] = [token for token in page["items"] if token["id"] != OWN_TOKEN]
        response.content = json.dumps(page).encode()


def _make_key_new(headers: Any) -> None:
    """A replayed answer may tell of a task that is gone, which looks like one that was not made."""
    if headers and "Idempotency-Key" in headers:
        headers["Idempotency-Key"] = str(uuid4())


def _storable(value: Any) -> Any:
    """With integers of 64 bits alone, as the service takes no others, however deep."""
    if isinstance(value, dict):
        return {key: _storable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_storable(item) for item in value]
    return value % 2**31 if isinstance(value, int) and not isinstance(value, bool) else value


def _wishes_in(body: Any) -> list[dict[str, Any]]:
    if not isinstance(body, dict):
        return []
    many = body.get("tasks")
    return [one for one in [body, *(many if isinstance(many, list) else [])] if isinstance(one, dict)]
