"""``/metrics``: the whole service as any of its APIs tells it, and the requests to this one."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from threading import Lock
from typing import Any, ClassVar

from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from tasks import gauges, tally, totals
from tasks.api.views import ApiView
from tasks.grants import Scope
from tasks.tally import Cell

FRESH_SECONDS = 1.0  # several scrapers cost the database no more than one


@dataclass(frozen=True, slots=True)
class Counted:
    """A family of the totals: its name, what it says, and which parts of a cell are its labels."""

    cell: str
    name: str
    help: str
    labels: Sequence[str] = ()
    buckets: Sequence[float] = ()  # a histogram has some

    @property
    def label_names(self) -> list[str]:
        return [_LABELS.get((self.cell, label), label) for label in self.labels]


_LABELS = {(tally.SETTLED, "detail"): "outcome", (tally.DATABASE, "detail"): "side"}
_BY = ("queue", "handler")

FAMILIES = (
    Counted(tally.CREATED, "taskservice_tasks_created", "Tasks made over HTTP or by handlers.", _BY),
    Counted(tally.CLAIMED, "taskservice_tasks_claimed", "Claims: attempts that were handed out.", _BY),
    Counted(
        tally.SETTLED,
        "taskservice_tasks_settled",
        "Attempts that ended: what they came to, and what became of the task.",
        (*_BY, "detail", "transition"),
    ),
    Counted(
        tally.WAIT, "taskservice_task_wait_seconds", "From ready to claimed.", ("queue",), buckets=tally.WAITS
    ),
    Counted(
        tally.RUN,
        "taskservice_task_run_seconds",
        "In the handler.",
        ("handler",),
        buckets=tally.RUNS,
    ),
    Counted(tally.REAPED, "taskservice_tasks_reaped", "Tasks taken back from workers that were gone."),
    Counted(tally.CRASHES, "taskservice_crashes", "Attempts whose process died."),
    Counted(tally.RENEWED, "taskservice_lease_renewals", "Leases prolonged."),
    Counted(tally.LOST, "taskservice_leases_lost", "Leases that were gone when they were to be prolonged."),
    Counted(
        tally.DATABASE,
        "taskservice_database_errors",
        "Turns and requests it refused.",
        ("detail",),
    ),
)


class ServiceCollector(Collector):
    """What the database knows of the whole service; whichever API is asked, the answer is the same."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._read_at = float("-inf")
        self._families: list[Metric] = []

    def collect(self) -> Iterator[Metric]:
        with self._lock:
            if time.monotonic() - self._read_at > FRESH_SECONDS:
                self._families = list(_read())
                self._read_at = time.monotonic()
            yield from self._families


def _read() -> Iterator[Metric]:
    up = GaugeMetricFamily("taskservice_database_up", "Whether the database answers.")
    with suppress(DatabaseError):  # read-only, full or busy: what others wrote can be read all the same
        totals.write_down()  # what this process has counted
    try:
        families = [*_gauges(gauges.measure()), *_counters(totals.read())]
        up.add_metric([], 1)
    except DatabaseError:
        families = []
        up.add_metric([], 0)
    yield from (up, *families)


_READY = (
    f"Tasks that a worker could take; {gauges.COUNTED + 1} stands for more, and where several queues are "
    f"long, so that {gauges.COUNTED_IN_ALL} are counted in all, a smaller number of thousands and one does."
)


def _gauges(now: gauges.Gauges) -> Iterator[Metric]:
    by_queue: tuple[tuple[str, str, dict[str, Any]], ...] = (
        ("ready_tasks", _READY, now.ready),
        ("oldest_ready_seconds", "For how long the oldest of them is ready.", now.oldest_ready_seconds),
        (
            "queue_paused",
            "1: held back.",
            {queue: queue in now.paused for queue in now.ready},
        ),
    )
    for name, text, values in by_queue:
        family = GaugeMetricFamily(f"taskservice_{name}", text, labels=["queue"])
        for queue, value in values.items():
            family.add_metric([queue], float(value))
        yield family
    plain = (
        ("processing_tasks", "Tasks that a worker holds; 1001 stands for more.", now.processing),
        ("workers", "Workers that were seen in the last 30 seconds.", now.workers),
        ("executors", "How many tasks those can run at the same time.", now.executors),
        ("executors_busy", "How many of these run one, when their workers were last seen.", now.busy),
        ("wal_bytes", "The size of SQLite's write-ahead log.", now.wal_bytes),
    )
    for name, text, number in plain:
        if number is not None:
            yield GaugeMetricFamily(f"taskservice_{name}", text, value=float(number))


def _counters(values: dict[Cell, float]) -> Iterator[Metric]:
    for family in FAMILIES:
        mine = {cell: value for cell, value in values.items() if cell.name == family.cell}
        yield _histogram(family, mine) if family.buckets else _counter(family, mine)


def _counter(family: Counted, values: dict[Cell, float]) -> Metric:
    made = CounterMetricFamily(family.name, family.help, labels=family.label_names)
    if not family.labels:
        values = values or {Cell(family.cell): 0.0}
    for cell, value in sorted(values.items()):
        made.add_metric([getattr(cell, label) for label in family.labels], value)
    return made


def _histogram(family: Counted, values: dict[Cell, float]) -> Metric:
    made = HistogramMetricFamily(family.name, family.help, labels=family.label_names)
    ends = [*map(str, map(float, family.buckets)), "+Inf"]
    for labels in sorted({cell._replace(detail="") for cell in values}):
        below, buckets = 0.0, []
        for number, end in enumerate(ends):
            below += values.get(labels._replace(detail=str(number)), 0.0)
            buckets.append((end, below))
        total = values.get(labels._replace(detail="sum"), 0.0)
        made.add_metric([getattr(labels, label) for label in family.labels], buckets, total)
    return made


_service = ServiceCollector()


class Metrics(ApiView):
    scopes: ClassVar[Mapping[str, Scope]] = {"GET": Scope.METRICS, "HEAD": Scope.METRICS}

    def get(self, request: HttpRequest) -> HttpResponse:
        """In the form that the scraper asks for: Prometheus' text, or OpenMetrics."""
        registry = CollectorRegistry()
        registry.register(_service)
        registry.register(_of_the_processes())
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return HttpResponse(encode(registry), content_type=content_type)


def _of_the_processes() -> Any:
    """The requests: of all processes of this gunicorn, which keep them in files; else of this process."""
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    return (
        MultiProcessCollector(  # type: ignore[no-untyped-call]  # it has no types
            CollectorRegistry(), folder
        )
        if folder
        else _Requests()
    )


class _Requests(Collector):
    def collect(self) -> Iterator[Metric]:
        return (family for family in REGISTRY.collect() if family.name.startswith("taskservice_"))
