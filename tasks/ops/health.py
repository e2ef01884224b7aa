"""Whether this process answers (/healthz), and whether it can do its work (/readyz)."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from django.db import connections
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.db.models import Max
from django.http import HttpRequest, HttpResponseBase, JsonResponse
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.views import APIView

from tasks import clock, lifecycle
from tasks.errors import FieldError, InvalidFields, Unavailable
from tasks.models import Worker
from tasks.models.task import database
from tasks.sqlite.base import DatabaseWrapper
from tasks.sqlite.file_systems import can_be_written_to


class Probe(APIView):
    http_method_names = ("get", "head")

    def perform_content_negotiation(self, request: Request, force: bool = False) -> tuple[Any, str]:
        return JSONRenderer(), "application/json"  # whatever the prober accepts


class Healthz(Probe):
    def get(self, request: Request) -> JsonResponse:
        """The process answers; nothing else is looked at, so that an outage elsewhere does not restart it."""
        return JsonResponse({"status": "ok"})


class Readyz(Probe):
    def get(self, request: Request) -> JsonResponse:
        """503 names the check that failed: the database answers, is migrated, and can be written to."""
        if missing := expected_migrations() - applied_migrations(database()):
            raise Unavailable(f"migrations: {len(missing)} not applied; run manage.py migrate")
        expect_writable()
        checks = {"database": "ok", "migrations": "ok"}
        if asked_for(request, "workers"):
            expect_workers()
            checks["workers"] = "ok"
        return JsonResponse({"status": "ready", "checks": checks})


def asked_for(request: HttpRequest, what: str) -> bool:
    """``?require=workers``; what is not known here is not passed over."""
    wanted = [word for text in request.GET.getlist("require") for word in text.split(",")]
    if any(word != "workers" for word in wanted):
        raise InvalidFields(
            [FieldError(code="choice", detail="require must be workers", parameter="require")]
        )
    return what in wanted


def expect_writable() -> None:
    """Raises Unavailable: tasks can be seen, and none made."""
    connection = connections[database()]
    if isinstance(connection, DatabaseWrapper):
        writable = can_be_written_to(connection.path)
    else:
        with connection.cursor() as cursor:
            cursor.execute("SHOW transaction_read_only")  # a standby says so as well
            writable = cursor.fetchone() == ("off",)
    if not writable:
        raise Unavailable("database: it can be read, but cannot be written to")


def expect_workers() -> None:
    """Raises Unavailable: nobody takes tasks now. A worker that drains takes none, so it does not count."""
    drains = lifecycle.living(now=clock.now(database())).values_list("drain_requested_at", flat=True)
    if None in drains:
        return
    if drains:
        raise Unavailable(
            "workers: all drain, and take nothing more; start another with manage.py runworkers"
        )
    seen = Worker.objects.using(database()).aggregate(last=Max("last_seen_at"))["last"]
    since = f"since {seen:%Y-%m-%d %H:%M:%S} UTC" if seen else "so far, or all have stopped"
    raise Unavailable(f"workers: none was seen {since}; start one with manage.py runworkers")


def applied_migrations(alias: str) -> frozenset[tuple[str, str]]:
    return frozenset(MigrationRecorder(connections[alias]).applied_migrations())


@cache
def expected_migrations() -> frozenset[tuple[str, str]]:
    """The last ones of each app; they do not change while the process lives."""
    return frozenset(MigrationLoader(None).graph.leaf_nodes())


_VIEWS = {"/healthz": Healthz.as_view(), "/readyz": Readyz.as_view()}


def probes(
    get_response: Callable[[HttpRequest], HttpResponseBase],
) -> Callable[[HttpRequest], HttpResponseBase]:
    """Middleware that answers probes before the Host header is checked: they name a machine, not a site.

    Nothing in the answers depends on the Host header, so that a forged one gains nothing.
    """

    def answer(request: HttpRequest) -> HttpResponseBase:
        view = _VIEWS.get(request.path_info)
        return view(request) if view else get_response(request)

    return answer
