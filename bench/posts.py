"""How fast the API takes tasks in, by itself and beside workers that are busy."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from statistics import median
from typing import Any

from bench.databases import Kind
from bench.options import Options
from bench.report import Facts, Line, at_least
from bench.samples import Latencies, Latency, Spread
from bench.service import ROOT, Api, Failed, Service, api, fresh_service, workers
from bench.usage import cpu_seconds_of_family

CLIENTS = (16, 64)  # connections, kept alive
CLIENT_PROCESSES = 2
WARM_UP, SECONDS = 1.0, 4.0
BACKLOG = 150_000  # for the workers beside whom is measured: more than they can do meanwhile
P99_MS = 60.0
P99_CLIENTS = 16  # with four times as many, each waits four times as long
BODY = json.dumps({"title": "bench", "handler": "bench.noop", "payload": {}})
PLAIN = {"DJANGO_SETTINGS_MODULE": "bench.yardstick"}


@dataclass(frozen=True, slots=True)
class Posted:
    """What one run brought."""

    rate: float
    latency: Latency
    cpu_ms: float  # of the API, for a request
    refused: dict[str, int]  # answers other than 201, by status; 0: it hung up
    drained: float  # tasks per second meanwhile
    backlog_left: bool

    def facts(self) -> dict[str, object]:
        return {
            "per_second": round(self.rate, 1),
            "ms": self.latency.facts(),
            "cpu_ms": round(self.cpu_ms, 3),
            "refused": self.refused,
            "drained_per_second": round(self.drained, 1),
            "backlog_left": self.backlog_left,
        }


def measure(kind: Kind, options: Options) -> Facts:
    """By how many clients, then where, then whose view: what each run brought."""
    runs = range(options.runs)
    found = {
        str(clients): {
            "alone": _in_turn(kind, clients, runs, _alone),
            "beside": _in_turn(kind, clients, runs, _beside_a_drain),
        }
        for clients in CLIENTS
    }
    return {"clients": found}


def _in_turn(kind: Kind, clients: int, runs: range, post: Any) -> Facts:
    found: Facts = {"ours": [], "plain": []}
    for _ in runs:
        found["ours"].append(post(kind, clients).facts())
        found["plain"].append(post(kind, clients, **PLAIN).facts())
    return found


def lines(name: str, facts: Facts) -> list[Line]:
    return [
        line
        for clients, found in facts["clients"].items()
        for where in ("alone", "beside")
        for line in _lines(int(clients), where, found[where])
    ]


WHERE = {"alone": "alone", "beside": "beside a full drain"}


def _lines(clients: int, where: str, found: Facts) -> list[Line]:
    ours, plain = found["ours"], found["plain"]
    ratio = _rate(ours).middle / _rate(plain).middle
    lines = [
        _ours(f"POST /tasks, {clients} clients, {WHERE[where]}", clients, ours),
        Line("  a plain REST framework view", _text(plain)),
        at_least(
            f"  POST /tasks / the plain view, {clients} clients, {where}", ratio, 1, text=f"{ratio:.2f}"
        ),
    ]
    return lines if where == "alone" else [*lines, Line("  the drain goes on at", _pace(ours))]


def _ours(what: str, clients: int, runs: list[Facts]) -> Line:
    if clients > P99_CLIENTS:
        return Line(what, _text(runs))
    held = _latencies(runs).p99.middle <= P99_MS and not any(run["refused"] for run in runs)
    return Line(what, _text(runs), f"p99 ≤ {P99_MS:g} ms", held)


def _rate(runs: list[Facts]) -> Spread:
    return Spread(tuple(run["per_second"] for run in runs))


def _latencies(runs: list[Facts]) -> Latencies:
    return Latencies.of(run["ms"] for run in runs)


def _text(runs: list[Facts]) -> str:
    refused: Counter[str] = Counter()
    for run in runs:
        refused.update(run["refused"])
    others = f", NOT 201: {dict(refused)}" if refused else ""
    cpu = median(run["cpu_ms"] for run in runs)
    return f"{_rate(runs)} /s, {_latencies(runs)}, CPU {cpu:.1f} ms{others}"


def _pace(runs: list[Facts]) -> str:
    drained = Spread(tuple(run["drained_per_second"] for run in runs))
    ended = "" if all(run["backlog_left"] for run in runs) else " (the backlog came to its end)"
    return f"{drained} /s{ended}"


def _alone(kind: Kind, clients: int, **variables: str) -> Posted:
    with fresh_service(kind, **variables) as service, api(service) as server:
        return _post(service, server, clients)


def _beside_a_drain(kind: Kind, clients: int, **variables: str) -> Posted:
    with fresh_service(kind, **variables) as service:
        service.inside("pause")
        service.inside("backlog", BACKLOG)
        service.database.settle()
        with workers(service), api(service) as server:
            service.inside("resume")
            return _post(service, server, clients)


def _post(service: Service, server: Api, clients: int) -> Posted:
    before = cpu_seconds_of_family(server.process)
    answers = _answers(server.port, clients)
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


def _answers(port: int, clients: int) -> list[dict[str, Any]]:
    """What the client processes have written."""
    arguments = map(str, (port, clients // CLIENT_PROCESSES, WARM_UP, SECONDS))
    command = [sys.executable, "-m", "bench.clients", *arguments, BODY]
    start = partial(subprocess.Popen, command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    started = [start() for _ in range(CLIENT_PROCESSES)]
    return [json.loads(client.communicate()[0]) for client in started]


def _meanwhile(service: Service) -> tuple[float, bool]:
    """The completions per second while the clients asked, and whether there was always something to do."""
    since = datetime.now(UTC) - timedelta(seconds=SECONDS)
    done = service.value("SELECT count(*) FROM tasks WHERE finished_at >= ?", str(since))
    return done / SECONDS, not service.all_finished
