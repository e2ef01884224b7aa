"""Every error as RFC 9457 problem+json: those of the views, and those that Django meets outside of them."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from dataclasses import asdict
from functools import singledispatch
from typing import Any

from django import db
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.views import defaults
from rest_framework.exceptions import MethodNotAllowed

from tasks import postgres, tally
from tasks.api.answers import json_answer
from tasks.errors import (
    DuplicateKey,
    InvalidFields,
    InvalidJson,
    KeyHeld,
    KeyInFlight,
    QueueFull,
    TaskServiceError,
    TooManyRequests,
    Unauthenticated,
    Unavailable,
    Unconfirmed,
    UnknownHandler,
)
from tasks.logs import event

logger = logging.getLogger(__name__)

CONTENT_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 1

# the error codes that HTTP shows: status and title
# fmt: off
KINDS: Mapping[str, tuple[int, str]] = {
    "invalid-json":       (400, "Invalid JSON"),
    "invalid-field":      (400, "Invalid field"),
    "bad-request":        (400, "Bad request"),
    "unauthenticated":    (401, "Unauthenticated"),
    "forbidden":          (403, "Forbidden"),
    "not-found":          (404, "Not found"),
    "method-not-allowed": (405, "Method not allowed"),
    "conflict-state":     (409, "Conflict with the task's state"),
    "duplicate":          (409, "Duplicate"),
    "idempotency-in-flight": (409, "A request with this key is being decided"),
    "too-large":          (413, "Too large"),
    "unknown-handler":    (422, "Unknown handler"),
    "idempotency-mismatch": (422, "This key was used with another body"),
    "unconfirmed":        (422, "Not confirmed"),
    "rate-limited":       (429, "Too many requests"),
    "internal-error":     (500, "Internal error"),
    "unavailable":        (503, "Unavailable"),
}
# fmt: on


def problem(
    code: str,
    detail: str,
    *,
    status: int | None = None,
    headers: Mapping[str, str] | None = None,
    **members: Any,
) -> HttpResponse:
    """With the status of its kind, unless a finer one is given."""
    usual, title = KINDS[code]
    status = status or usual
    value = {"type": f"/problems/{code}", "title": title, "status": status, "detail": detail, **members}
    return json_answer(value, status=status, content_type=CONTENT_TYPE, headers=headers)


# -- what views raise


def exception_handler(error: Exception, context: Mapping[str, Any]) -> HttpResponse | None:
    """REST framework's hook. None: nothing that was foreseen, so that Django logs it and answers 500."""
    if is_outage(error):
        return _outage(error)
    if isinstance(error, MethodNotAllowed):
        allowed = ", ".join(context["view"].allowed_methods)
        return problem("method-not-allowed", f"allowed here: {allowed}", headers={"Allow": allowed})
    if isinstance(error, TaskServiceError) and error.code in KINDS:
        return refusal(error)
    return None


def refusal(error: TaskServiceError) -> HttpResponse:
    return problem(error.code, str(error), headers=_headers_of(error), **_members(error))


def _headers_of(error: TaskServiceError) -> Mapping[str, str]:
    if isinstance(error, Unauthenticated):
        return {"WWW-Authenticate": 'Bearer realm="tasks"'}  # RFC 6750, section 3
    if isinstance(error, TooManyRequests):
        return {"Retry-After": str(error.retry_after)}
    return retry_after(error.code)


def retry_after(code: str) -> Mapping[str, str]:
    """The header of a problem that may be over when the same is asked again."""
    again = code in (Unavailable.code, KeyInFlight.code, QueueFull.code)
    return {"Retry-After": str(RETRY_AFTER_SECONDS)} if again else {}


@singledispatch
def _members(error: TaskServiceError) -> dict[str, Any]:
    """What a problem says beside its sentence."""
    return {}


@_members.register
def _(error: InvalidFields) -> dict[str, Any]:
    shown = [{key: text for key, text in asdict(field).items() if text is not None} for field in error.fields]
    return {"errors": shown}


@_members.register
def _(error: InvalidJson) -> dict[str, Any]:
    return {"errors": [{"pointer": "", "code": "invalid-json", "detail": error.reason}]}


@_members.register
def _(error: UnknownHandler) -> dict[str, Any]:
    if error.pointer is None:
        return {}
    return {"errors": [{"pointer": error.pointer, "code": error.code, "detail": str(error)}]}


@_members.register
def _(error: DuplicateKey) -> dict[str, Any]:
    named = {} if error.task_id is None else {"task_id": str(error.task_id)}
    return named | {"errors": [{"pointer": error.pointer, "code": error.code, "detail": str(error)}]}


@_members.register
def _(error: Unconfirmed) -> dict[str, Any]:
    return {"errors": [{"pointer": error.pointer, "code": error.code, "detail": str(error)}]}


@_members.register
def _(error: KeyHeld) -> dict[str, Any]:
    return {} if error.task_id is None else {"task_id": str(error.task_id)}


def is_outage(error: BaseException | None) -> bool:
    """Whether the database is busy, full, read-only, broken or gone, rather than used wrongly.

    PostgreSQL says "read-only" by InternalError; SQLite says "not a database" by DatabaseError itself.
    """
    outages = (db.OperationalError, db.InterfaceError, db.InternalError)
    return isinstance(error, outages) or type(error) is db.DatabaseError


def _outage(error: BaseException | None) -> HttpResponse:
    """The reason goes into the log alone: it may name files, hosts and statements."""
    tally.here.count(tally.DATABASE, detail="api")
    hint = postgres.hint(error)
    event(logger, logging.WARNING, "api.unavailable", error=type(error).__name__, reason=error, hint=hint)
    detail = "The database does not answer now; try again."
    return problem(Unavailable.code, detail, headers=retry_after(Unavailable.code))


# -- what Django meets outside of views: handler400 and its kin


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    if isinstance(exception, DisallowedHost):
        return problem("bad-request", "This host is not served here; ALLOWED_HOSTS lists those that are.")
    return problem("bad-request", "The request cannot be understood.")


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    if _is_for_people(request):
        return defaults.permission_denied(request, exception)
    return problem("forbidden", "This is not allowed.")


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    if _is_for_people(request):
        return defaults.page_not_found(request, exception)
    if request.path == "/" and "text/html" in request.headers.get("Accept", ""):
        return HttpResponseRedirect("/docs")  # what people type
    return problem("not-found", "There is nothing at this path; /docs and /openapi.json tell what there is.")


def server_error(request: HttpRequest) -> HttpResponse:
    """Called while the exception is being handled."""
    error = sys.exc_info()[1]
    if is_outage(error):
        return _outage(error)
    if _is_for_people(request):
        return defaults.server_error(request)
    return problem("internal-error", "Something went wrong here; the log says what.")


def _is_for_people(request: HttpRequest) -> bool:
    """The admin's pages are read in a browser."""
    return request.resolver_match is not None and "admin" in request.resolver_match.app_names
