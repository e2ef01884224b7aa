"""``/openapi.json`` and ``/docs``: the same for everybody, so without a token, and told apart by an ETag."""

from __future__ import annotations

from functools import cache
from typing import ClassVar, cast

from django.http import HttpResponse
from django.template.loader import render_to_string
from django.utils.cache import get_conditional_response
from django.utils.http import quote_etag
from rest_framework.request import Request

from tasks.api.answers import answer, json_bytes, tag_of
from tasks.api.openapi.document import document
from tasks.api.openapi.page import page
from tasks.api.views import ApiView

CACHED = "public, max-age=300"


class OpenApi(ApiView):
    scopes: ClassVar = dict.fromkeys(("GET", "HEAD"))  # none

    def get(self, request: Request) -> HttpResponse:
        return _kept_answer(request, _json(), "application/json")


class Docs(ApiView):
    scopes: ClassVar = dict.fromkeys(("GET", "HEAD"))  # none

    def get(self, request: Request) -> HttpResponse:
        return _kept_answer(request, _html(), "text/html; charset=utf-8")


@cache
def _json() -> bytes:
    return json_bytes(document())


@cache
def _html() -> bytes:
    return render_to_string("tasks/docs.html", page(document())).encode()


def _kept_answer(request: Request, content: bytes, content_type: str) -> HttpResponse:
    etag = quote_etag(tag_of(content))
    headers = {"ETag": etag, "Cache-Control": CACHED}
    response = answer(content, status=200, content_type=content_type, headers=headers)
    return cast("HttpResponse", get_conditional_response(request, etag=etag, response=response))
