"""Which request a line of the log is of."""

from __future__ import annotations

import re
from collections.abc import Callable

from django.http import HttpRequest, HttpResponseBase

from tasks import ids, logs

HEADER = "X-Request-Id"
_SANE = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}", re.ASCII)


def correlated(
    get_response: Callable[[HttpRequest], HttpResponseBase],
) -> Callable[[HttpRequest], HttpResponseBase]:
    """Middleware: the client's X-Request-Id if it is sane, else a new one; answered, and on each line."""

    def answer(request: HttpRequest) -> HttpResponseBase:
        given = request.headers.get(HEADER, "")
        request_id = given if _SANE.fullmatch(given) else ids.new_task_id().hex
        with logs.about(request_id=request_id):
            response = get_response(request)
        response.headers[HEADER] = request_id
        return response

    return answer
