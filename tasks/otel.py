"""Spans by OpenTelemetry, optional: imported by ``tracing`` alone, where it is configured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

FLUSH_MILLIS = 3_000

_w3c = TraceContextTextMapPropagator()


def _provider() -> TracerProvider:
    """The one that somebody has set up; else ours, by OpenTelemetry's own variables."""
    known = trace.get_tracer_provider()
    if isinstance(known, TracerProvider):
        return known
    made = TracerProvider(resource=Resource.create({"service.name": "taskservice"}).merge(Resource.create()))
    made.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(made)
    return made


_own = _provider()
_tracer = trace.get_tracer("taskservice", tracer_provider=_own)


def traceparent() -> str | None:
    carrier: dict[str, str] = {}
    _w3c.inject(carrier)
    return carrier.get("traceparent")


def enqueued(parent: str | None) -> str | None:
    """The span of a task that is made, in the trace of who asked for it, not of who makes it for several."""
    context = _w3c.extract({"traceparent": parent} if parent else {}, Context())
    with _tracer.start_as_current_span("task.enqueue", context=context, kind=SpanKind.PRODUCER):
        return traceparent()


@contextmanager
def within(parent: str | None, kind: str, name: str, attributes: Mapping[str, Any]) -> Iterator[trace.Span]:
    context = _w3c.extract({"traceparent": parent}) if parent else None
    with _tracer.start_as_current_span(
        name, context=context, kind=SpanKind[kind], attributes=attributes
    ) as span:
        yield span


def flush() -> None:
    _own.force_flush(FLUSH_MILLIS)
