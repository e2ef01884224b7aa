"""How long the pages of the admin take among millions of tasks."""

from __future__ import annotations

import http.client
import time
from collections.abc import Mapping

from bench.databases import Kind
from bench.options import Options
from bench.report import Facts, Line, at_most
from bench.samples import Latency
from bench.service import Api, Failed, api, fresh_service

QUEUES = 8
WARM_UP, SAMPLES = 3, 40
TARGET_MS = 100.0  # for what an index serves
COUNTS = "all that match"  # a page that was asked to count


def measure(kind: Kind, options: Options) -> Facts:
    with fresh_service(kind) as service:
        service.inside("table", options.rows, QUEUES)
        service.database.settle()
        admin = service.inside("admin")
        with api(service) as server:
            found = {name: _ask(server, path, admin["cookie"]) for name, path in admin["pages"].items()}
    return {"rows": options.rows, "ms": {name: latency.facts() for name, latency in found.items()}}


def lines(name: str, facts: Facts) -> list[Line]:
    head = Line(f"pages of the admin among {facts['rows']:,} tasks, over HTTP", f"p50 and p95 of {SAMPLES}")
    return [head, *(_line(page, ms) for page, ms in facts["ms"].items())]


def _line(page: str, ms: Mapping[str, float]) -> Line:
    text = f"{ms['p50']:.1f}, p95 {ms['p95']:.1f} ms"
    if page.startswith(COUNTS):
        return Line(f"  {page}", text)
    return at_most(f"  {page}", ms["p95"], TARGET_MS, unit=" ms", text=text)


def _ask(server: Api, path: str, cookie: str) -> Latency:
    """One request after the other over one connection, by somebody who is logged in."""
    connection = http.client.HTTPConnection(server.host, server.port, timeout=60)
    took: list[int] = []
    for _ in range(WARM_UP + SAMPLES):
        began = time.monotonic_ns()
        connection.request("GET", path, headers={"Cookie": cookie})
        with connection.getresponse() as answer:
            body = answer.read()
        took.append(time.monotonic_ns() - began)
        if answer.status != 200:
            raise Failed(f"GET {path}: {answer.status} {body[:200]!r}")
    connection.close()
    return Latency.of(took[WARM_UP:])
