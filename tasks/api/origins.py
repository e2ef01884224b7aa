"""Where a request comes from, as a browser tells: no page of another site may use its reader's reach."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import CsrfViewMiddleware


def comes_from_another_site(request: HttpRequest) -> bool:
    """By the admin's own rule: another origin than this host, and none of CSRF_TRUSTED_ORIGINS.

    Browsers send Origin with each POST (https://fetch.spec.whatwg.org/#origin-header), and no
    page can change it; programs don't send it.
    """
    if "Origin" not in request.headers:
        return False
    rule: Any = CsrfViewMiddleware(lambda request: HttpResponse())
    return not rule._origin_verified(request)  # it has no public name, and two rules would drift apart
