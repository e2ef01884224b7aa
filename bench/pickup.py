"""How soon a task begins when nothing else is to be done."""

from __future__ import annotations

import http.client
import json
import random
import time
from uuid import UUID

from bench.inside import PAUSE_SECONDS
from bench.report import Line, Measured
from bench.samples import Latency
from bench.service import Api, Service, api, fresh_service, wait_until, workers

SAMPLES = 300
P50_MS, P99_MS = 4.0, 15.0
TARGET = f"p50 ≤ {P50_MS:g}, p99 ≤ {P99_MS:g} ms"


def measure() -> Measured:
    with fresh_service() as service, workers(service), api(service) as server:
        direct = _latency(service, service.inside("pickup", SAMPLES))
        over_http = _latency(service, _post(server))
    held = direct.p50 <= P50_MS and direct.p99 <= P99_MS
    return Measured(
        [
            Line(
                "pickup, idle pool: insert → handler",
                str(direct),
                f"p50 ≤ {P50_MS:g}, p99 ≤ {P99_MS:g} ms",
                held,
            ),
            Line("  the same from POST /tasks", str(over_http)),
        ],
        {"enqueue_ms": direct.facts(), "http_ms": over_http.facts()},
    )


def _latency(service: Service, asked: dict[str, int]) -> Latency:
    """``asked``: id -> when, on the clock that the handler reads too."""
    wait_until(lambda: service.all_finished, "all tasks finished")
    began = dict(service.rows("SELECT id, result FROM tasks WHERE status = 'completed'"))
    return Latency.of([int(began[id_]) - moment for id_, moment in asked.items()])


def _post(server: Api) -> dict[str, int]:
    """One task after the other over one connection."""
    connection = http.client.HTTPConnection(server.host, server.port, timeout=30)
    asked: dict[str, int] = {}
    for _ in range(SAMPLES):
        time.sleep(random.uniform(*PAUSE_SECONDS))
        before = time.monotonic_ns()
        connection.request("POST", "/tasks", b'{"handler":"bench.stamp"}')
        with connection.getresponse() as answer:
            asked[UUID(json.load(answer)["id"]).hex] = before
    connection.close()
    return asked
