"""A trace goes from the request that made a task to its run, and on to what that enqueues."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tasks import lifecycle, tracing
from tasks.contract import TaskSpec
from tasks.errors import UnknownHandler
from tasks.models import Task
from tasks.tests.api_client import Api, api
from tasks.tests.service import Serve, serve, where
from tasks.tests.workers import RunWorkers, enqueue, run_workers, wait_finished, wait_until

__all__ = ["api", "run_workers", "serve", "where"]

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
GIVEN = f"00-{TRACE}-00f067aa0ba902b7-01"


@pytest.mark.parametrize(
    ("header", "kept"),
    [
        (GIVEN, GIVEN),
        (f" {GIVEN} ", GIVEN),
        (f"cc-{GIVEN[3:]}-what-the-future-brings", GIVEN),
        (GIVEN.upper(), None),
        (f"ff-{GIVEN[3:]}", None),
        (f"{GIVEN}-more", None),
        (GIVEN.replace(TRACE, "0" * 32), None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        (f"{GIVEN}\n", GIVEN),
        ("", None),
        ("00-1-2-3", None),
    ],
)
def test_a_traceparent_is_taken_as_w3c_says(header: str, kept: str | None) -> None:
    assert tracing.parse(header) == kept


def test_a_request_s_trace_is_stored_with_its_task(api: Api) -> None:
    answer = api.ask("POST", "/tasks", b'{"title": "a"}', traceparent=GIVEN)

    assert Task.objects.get(pk=answer.json()["id"]).traceparent == GIVEN


def test_a_bad_one_or_none_makes_no_trouble(api: Api) -> None:
    for headers in ({"traceparent": "nonsense"}, {}):
        answer = api.ask("POST", "/tasks", b'{"title": "a"}', **headers)
        assert answer.status == 201
        assert Task.objects.get(pk=answer.json()["id"]).traceparent is None


@pytest.mark.django_db(transaction=True)
def test_the_handler_is_told_and_what_it_enqueues_carries_on(run_workers: RunWorkers) -> None:
    parent = enqueue("fault.trace", traceparent=GIVEN)
    run_workers("--n", "1")

    task = wait_finished(parent)

    assert task.result["traceparent"] == GIVEN
    assert Task.objects.get(pk=task.result["child"]).traceparent == GIVEN


@pytest.mark.django_db(transaction=True)
def test_within_a_trace_django_s_enqueue_carries_it() -> None:
    with tracing.within(GIVEN, "CONSUMER", "a run"):
        [made] = lifecycle.enqueue([TaskSpec(handler="demo.echo")])
    [other] = lifecycle.enqueue([TaskSpec(handler="demo.echo")])

    assert (made.traceparent, other.traceparent) == (GIVEN, None)


@pytest.mark.django_db
def test_a_span_is_of_a_task_that_is_made_not_of_one_that_is_only_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str | None] = []
    spans = SimpleNamespace(traceparent=lambda: GIVEN, enqueued=lambda parent=None: asked.append(parent))
    monkeypatch.setattr(tracing, "_spans", lambda: spans)

    shown, refused = TaskSpec(handler="demo.echo"), TaskSpec(handler="nobody.knows")
    with pytest.raises(UnknownHandler):
        lifecycle.enqueue([refused])
    before = [*asked]
    lifecycle.enqueue([shown])

    assert (before, asked) == ([], [GIVEN])


class Collector(ThreadingHTTPServer):
    """Takes spans as an OTLP collector does: name -> (trace, own id, parent id)."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Taker)
        self.spans: dict[str, tuple[str, str, str]] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Taker(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        sent = ExportTraceServiceRequest()
        sent.ParseFromString(self.rfile.read(int(self.headers["Content-Length"])))
        for span in (
            span for one in sent.resource_spans for scope in one.scope_spans for span in scope.spans
        ):
            self.server.spans[span.name] = (
                span.trace_id.hex(),
                span.span_id.hex(),
                span.parent_span_id.hex(),
            )
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        """Not into the test's output."""


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_request_enqueue_and_run_are_spans_of_one_trace(serve: Serve, collector: Collector) -> None:
    service = serve(
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
        OTEL_BSP_SCHEDULE_DELAY="200",
        TASKSERVICE_API_PROCESSES="1",
    )
    task = service.call("/tasks", {"handler": "demo.echo", "payload": {}}, traceparent=GIVEN)
    service.until(task["id"], "completed")
    names = ["POST /tasks", "task.enqueue", "task demo.echo"]

    wait_until(lambda: set(names) <= collector.spans.keys(), f"all of {names}")

    request, asked, run = (collector.spans[name] for name in names)
    assert {trace for trace, *_ in (request, asked, run)} == {TRACE}
    assert request[2] == GIVEN.split("-")[2]
    assert asked[2] == request[1]
    assert run[2] == asked[1]
