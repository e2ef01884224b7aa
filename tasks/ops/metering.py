"""How many requests there were, and how long they took, by route: of all processes of this API together."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

from django.http import HttpRequest, HttpResponseBase
from prometheus_client import Counter, Histogram, disable_created_metrics

disable_created_metrics()  # type: ignore[no-untyped-call]  # untyped; it leaves out a second series for each

REQUESTS = Counter(
    "taskservice_http_requests", "Requests, by route, method and status.", ["route", "method", "status"]
)
SECONDS = Histogram(
    "taskservice_http_request_seconds",
    "From the request, when all of it had arrived, to the answer.",
    ["route", "method"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}  # a client may send any word
PROBES = {"/healthz", "/readyz"}  # answered before there is a route


def metered(
    get_response: Callable[[HttpRequest], HttpResponseBase],
) -> Callable[[HttpRequest], HttpResponseBase]:
    """Middleware, the outermost: what an answer took, and what it was."""

    def answer(request: HttpRequest) -> HttpResponseBase:
        began = time.perf_counter()
        response = get_response(request)
        with suppress(
            OSError
        ):  # the folder is gone, as this process's arbiter is: no count is worth an answer
            _count(request, response, time.perf_counter() - began)
        return response

    return answer


def _count(request: HttpRequest, response: HttpResponseBase, seconds: float) -> None:
    route, method = _route(request), request.method if request.method in METHODS else "other"
    REQUESTS.labels(route, method, str(response.status_code)).inc()
    SECONDS.labels(route, method).observe(seconds)


def _route(request: HttpRequest) -> str:
    """As in the URLconf, so that ids make no series of their own."""
    if request.path_info in PROBES:
        return request.path_info
    match = request.resolver_match
    return f"/{match.route}" if match is not None else "none"
