"""Somebody who is logged in to the admin, and the pages that they look at."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from uuid import UUID

from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore
from django.db import connections
from django.urls import reverse
from django.utils import timezone
from django.utils.http import urlencode

from bench.filling import BEGAN
from tasks.models import Attempt, Failure, Task
from tasks.models.task import database
from tasks.states import Status

TASKS = "admin:tasks_task_changelist"
FAILURES = 1_000  # groups; twenty of them with a hundred tasks that are failed


def cookie() -> str:
    """That of a session of somebody who may do everything."""
    user = User.objects.create_superuser("bench", password=None)
    session = SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.create()
    return f"{settings.SESSION_COOKIE_NAME}={session.session_key}"


def pages() -> dict[str, str]:
    """Each page that an index serves, and the longest search."""
    return dict(_pages())


def _pages() -> Iterator[tuple[str, str]]:
    yield "overview", reverse("admin:index")
    for name, params in _lists():
        yield name, f"{reverse(TASKS)}?{urlencode(params)}"
    yield "a task that failed", reverse("admin:tasks_task_change", args=(_failed_task(),))
    yield "a failure", reverse("admin:tasks_failure_change", args=(_failures(),))
    for model in ("failure", "queue", "worker", "operation", "token"):
        yield f"{model}s", reverse(f"admin:tasks_{model}_changelist")
    yield (
        "all that match: failed, counted",
        f"{reverse('admin:tasks_operation_add')}?created=ever&status=failed",
    )


def _lists() -> Iterator[tuple[str, dict[str, str]]]:
    yield "tasks: newest", {}
    yield "tasks: half way down", {"older_than": str(_middle())}
    yield "tasks: and back", {"newer_than": str(_middle())}
    for status in Status:
        yield f"tasks: status={status.value}", {"status": status.value}
    yield "tasks: created in 24 hours of old", {"created": _first_day(), "status": "failed"}
    yield "tasks: id", {"id": _middle().hex[:9]}
    yield "tasks: queue=q3", {"queue": "q3"}
    yield "tasks: status=failed&queue=q3", {"status": "failed", "queue": "q3"}
    yield "tasks: handler=bench.noop", {"handler": "bench.noop"}
    yield "tasks: handler=nobody (50,000 looked at)", {"handler": "nobody"}
    yield "tasks: search error:Timeout (50,000 looked at)", {"q": "error:Timeout"}
    yield "tasks: search payload.user:42 (50,000 looked at)", {"q": "payload.user:42"}
    yield "tasks: search words (50,000 looked at)", {"q": "nothing like"}


def _middle() -> UUID:
    with connections[database()].cursor() as cursor:
        cursor.execute("SELECT count(*) FROM tasks")
        [rows] = cursor.fetchone()
    milliseconds = int(BEGAN.timestamp() * 1000) + rows // 2
    return UUID(f"{milliseconds:012x}70008{rows // 2:015x}")


def _first_day() -> str:
    return f"<{BEGAN + timedelta(days=1):%Y-%m-%d}"


def _failed_task() -> UUID:
    """One with attempts to be shown."""
    task = Task.objects.filter(status=Status.FAILED).order_by("-pk")[0]
    Attempt.objects.bulk_create(
        Attempt(
            task=task, number=number, fence=number, outcome="failed", ended_at=BEGAN,
            error_type="ValueError", message="no luck", traceback="Traceback\n" * 50,
        )
        for number in range(1, 6)
    )  # fmt: skip
    return task.pk


def _failures() -> str:
    """The fingerprint of one of many groups."""
    now = timezone.now()
    newest = list(
        Task.objects.filter(status=Status.FAILED).order_by("-pk").values_list("pk", flat=True)[:2000]
    )
    for number in range(20):
        Task.objects.filter(pk__in=newest[number::20]).update(fingerprint=f"{number:016x}")
    Failure.objects.bulk_create(
        Failure(
            fingerprint=f"{number:016x}", handler="bench.noop", error_type="builtins.ValueError",
            frame=f"tasks.py in line_{number}", message="no luck", traceback="Traceback\n" * 50,
            task_id=newest[number % 20], count=number + 1, first_seen_at=BEGAN,
            last_seen_at=now - timedelta(minutes=number),
        )
        for number in range(FAILURES)
    )  # fmt: skip
    return f"{0:016x}"
