"""How soon a task begins when nothing else is to be done."""

from __future__ import annotations

import http.client
import json
import random
import time
from uuid import UUID

from bench.databases import Kind
from bench.inside import PAUSE_SECONDS
from bench.options import Options
from bench.report import Facts, Line
from bench.samples import Latencies, Latency
from bench.service import Api, Service, api, fresh_service, wait_until, workers

SAMPLES = 200
TARGETS_MS = {"sqlite": (4.0, 15.0), "postgres": (5.0, 15.0)}  # p50, p99


def measure(kind: Kind, options: Options) -> Facts:
    direct, over_http = [], []
    with fresh_service(kind) as service, workers(service), api(service) as server:
        for _ in range(options.runs):
            direct.append(_latency(service, service.inside("pickup", SAMPLES)).facts())
            over_http.append(_latency(service, _post(server)).facts())
    return {"enqueue_ms": direct, "http_ms": over_http}


def direct(kind: Kind, runs: int, samples: int) -> list[Facts]:
    """Without the API, for each run."""
    with fresh_service(kind) as service, workers(service):
        return [_latency(service, service.inside("pickup", samples)).facts() for _ in range(runs)]


def lines(name: str, facts: Facts) -> list[Line]:
    direct, over_http = Latencies.of(facts["enqueue_ms"]), Latencies.of(facts["http_ms"])
    p50, p99 = TARGETS_MS[name]
    held = direct.p50.middle <= p50 and direct.p99.middle <= p99
    target = f"p50 ≤ {p50:g}, p99 ≤ {p99:g} ms"
    return [
        Line("pickup, idle pool: insert → handler", str(direct), target, held),
        Line("  the same from POST /tasks", str(over_http)),
    ]


def _latency(service: Service, asked: dict[str, int]) -> Latency:
    """``asked``: id -> when, on the clock that the handler reads too."""
    wait_until(lambda: service.all_finished, "all tasks finished")
    began = {
        UUID(id_).hex: int(result)
        for id_, result in service.rows(
            "SELECT CAST(id AS text), CAST(result AS text) FROM tasks WHERE status = 'completed'"
        )
    }
    return Latency.of([began[id_] - moment for id_, moment in asked.items()])


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
