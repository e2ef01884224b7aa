"""How fast the API takes tasks in, by itself and beside workers that are busy."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from bench.report import Line, Measured
from bench.samples import Latency
from bench.service import ROOT, Api, Failed, Service, api, fresh_service, workers
from bench.usage import cpu_seconds_of_family

CLIENTS = 16  # connections, kept alive
CLIENT_PROCESSES = 2
WARM_UP, SECONDS = 1.0, 8.0
BACKLOG = 100_000  # for the workers beside whom is measured: more than they can do meanwhile
P99_MS = 60.0
BODY = json.dumps({"title": "bench", "handler": "bench.noop", "payload": {}})


@dataclass(frozen=True, slots=True)
class Posted:
    """What one run brought."""

    rate: float
    latency: Latency
    cpu_ms: float  # of the API, for a request
    refused: dict[str, int]  # answers other than 201, by status; 0: it hung up
    drained: float  # tasks per second meanwhile
    backlog_left: bool

    def __str__(self) -> str:
        others = f", NOT 201: {self.refused}" if self.refused else ""
        return f"{self.rate:,.0f} /s, {self.latency}, CPU {self.cpu_ms:.1f} ms{others}"

    def facts(self) -> dict[str, object]:
        return {
            "per_second": round(self.rate, 1),
            "ms": self.latency.facts(),
            "cpu_ms": round(self.cpu_ms, 3),
            "refused": self.refused,
            "drained_per_second": round(self.drained, 1),
        }


def measure() -> Measured:
    alone, beside = _alone(), _beside_a_drain()
    yardstick = _alone(DJANGO_SETTINGS_MODULE="bench.yardstick")
    runs = {"alone": alone, "beside": beside, "yardstick": yardstick}
    return Measured(
        [
            Line(
                f"POST /tasks, {CLIENTS} clients, alone",
                str(alone),
                f"p99 ≤ {P99_MS:g} ms",
                alone.latency.p99 <= P99_MS and not alone.refused,
            ),
            Line("  a plain REST framework view", str(yardstick)),
            Line(
                "  POST /tasks / the plain view",
                f"{alone.rate / yardstick.rate:.2f}",
                "≥ 1",
                alone.rate >= yardstick.rate,
            ),
            Line(
                "  beside a full drain",
                str(beside),
                f"p99 ≤ {P99_MS:g} ms",
                beside.latency.p99 <= P99_MS and not beside.refused,
            ),
            Line("    which goes on at", _pace(beside)),
        ],
        {name: run.facts() for name, run in runs.items()},
    )


def _pace(beside: Posted) -> str:
    return f"{beside.drained:,.0f} /s" + ("" if beside.backlog_left else " (the backlog came to its end)")


def _alone(**variables: str) -> Posted:
    with fresh_service(**variables) as service, api(service) as server:
        return _post(service, server)


def _beside_a_drain() -> Posted:
    with fresh_service() as service:
        service.inside("fill", BACKLOG)
        with workers(service), api(service) as server:
            service.inside("resume")
            return _post(service, server)


def _post(service: Service, server: Api) -> Posted:
    before = cpu_seconds_of_family(server.process)
    answers = _answers(server.port)
    used = cpu_seconds_of_family(server.process) - before
    latencies = [value for answer in answers for value in answer["latencies"]]
    if not latencies:
        raise Failed("no request was answered")
    statuses: Counter[str] = Counter()
    for answer in answers:
        statuses.update(answer["statuses"])
    taken = statuses.pop("201", 0)
    drained, left = _meanwhile(service)
    return Posted(
        rate=taken / SECONDS,
        latency=Latency.of(latencies),
        cpu_ms=1000 * used / (len(latencies) + sum(answer["warmed"] for answer in answers)),
        refused=dict(statuses),
        drained=drained,
        backlog_left=left,
    )


def _answers(port: int) -> list[dict[str, Any]]:
    """What the client processes have written."""
    arguments = map(str, (port, CLIENTS // CLIENT_PROCESSES, WARM_UP, SECONDS))
    command = [sys.executable, "-m", "bench.clients", *arguments, BODY]
    start = partial(subprocess.Popen, command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    clients = [start() for _ in range(CLIENT_PROCESSES)]
    return [json.loads(client.communicate()[0]) for client in clients]


def _meanwhile(service: Service) -> tuple[float, bool]:
    """The completions per second while the clients asked, and whether there was always something to do."""
    since = datetime.now(UTC).replace(tzinfo=None) - timedelta(seconds=SECONDS)
    done = service.value("SELECT count(*) FROM tasks WHERE finished_at >= ?", str(since))
    return done / SECONDS, not service.all_finished
