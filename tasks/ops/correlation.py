"""Which request a line of the log is of, and which trace it is in."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from django.http import HttpRequest, HttpResponseBase

from tasks import ids, logs, tracing

HEADER = "X-Request-Id"
_SANE = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}", re.ASCII)


def tell(span: Any, request: HttpRequest, status: int) -> None:
    span.set_attribute("http.request.method", str(request.method))
    span.set_attribute("http.response.status_code", status)
    if request.resolver_match is not None:
        span.update_name(f"{request.method} /{request.resolver_match.route}")


def correlated(
    get_response: Callable[[HttpRequest], HttpResponseBase],
) -> Callable[[HttpRequest], HttpResponseBase]:
    """Middleware: the client's X-Request-Id if it is sane, else a new one; answered, and on each line."""

    def answer(request: HttpRequest) -> HttpResponseBase:
        given = request.headers.get(HEADER, "")
        request_id = given if _SANE.fullmatch(given) else ids.new_task_id().hex
        parent = tracing.parse(request.headers.get("traceparent", ""))
        with (
            logs.about(request_id=request_id),
            tracing.within(parent, "SERVER", f"HTTP {request.method}") as span,
        ):
            response = get_response(request)
            if span is not None:
                tell(span, request, response.status_code)
        response.headers[HEADER] = request_id
        return response

    return answer
