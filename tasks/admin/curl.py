"""A request that makes the same task again, for a shell; with its secrets masked."""

from __future__ import annotations

import json
import shlex
from typing import Any

from django.http import HttpRequest
from django.utils import timezone

from tasks import registry
from tasks.admin.words import visible
from tasks.errors import UnknownHandler
from tasks.locality import tokens_are_required
from tasks.masking import masked
from tasks.models import Task
from tasks.resource import time_text


def curl(task: Task, request: HttpRequest) -> str:
    """Empty when HTTP cannot make it: its handler has no public name, or it has positional arguments."""
    try:
        registry.find_public(task.handler)
    except UnknownHandler:
        return ""
    if task.args:
        return ""
    body = visible(json.dumps(_members(task), ensure_ascii=False))
    parts = [f"curl -X POST {shlex.quote(f'{request.scheme}://{request.get_host()}/tasks')}"]
    if tokens_are_required([request.get_host().rpartition(":")[0] or request.get_host()]):
        parts.append('-H "Authorization: Bearer $TASKSERVICE_TOKEN"')
    parts += ["-H 'Content-Type: application/json'", f"-d {shlex.quote(body)}"]
    return " \\\n  ".join(parts)


def _number(value: float | None) -> float | None:
    return int(value) if value is not None and value.is_integer() else value


def _members(task: Task) -> dict[str, Any]:
    given = {
        "title": task.title,
        "handler": task.handler,
        "payload": masked(task.payload),
        "queue": task.queue,
    }
    if not task.title:
        del given["title"]
    if task.priority:
        given["priority"] = task.priority
    if task.tags:
        given["tags"] = task.tags
    if task.run_at and task.run_at > timezone.now():
        given["run_at"] = time_text(task.run_at)
    return {**given, "max_attempts": task.max_attempts, "timeout_seconds": _number(task.timeout_seconds)}
