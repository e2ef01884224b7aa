"""How long a page of GET /tasks takes among millions of tasks."""

from __future__ import annotations

import http.client
import time

from bench.databases import Kind
from bench.options import Options
from bench.report import Facts, Line, at_most
from bench.samples import Latency
from bench.service import Api, Failed, api, fresh_service

QUEUES = 8
WARM_UP, SAMPLES = 3, 50
TARGET_MS = 50.0


def measure(kind: Kind, options: Options) -> Facts:
    with fresh_service(kind) as service:
        service.inside("table", options.rows, QUEUES)
        service.database.settle()
        pages = service.inside("pages")
        with api(service) as server:
            found = {name: asked(server, path).facts() for name, path in pages.items()}
    return {"rows": options.rows, "ms": found}


def lines(name: str, facts: Facts) -> list[Line]:
    head = Line(f"pages of 50 tasks among {facts['rows']:,}, over HTTP", f"p50 and largest of {SAMPLES}")
    return [
        head,
        *(
            at_most(
                f"  {page}",
                ms["max"],
                TARGET_MS,
                unit=" ms",
                text=f"{ms['p50']:.1f}, largest {ms['max']:.1f} ms",
            )
            for page, ms in facts["ms"].items()
        ),
    ]


def asked(server: Api, path: str, *, cookie: str = "") -> Latency:
    """One request after the other over one connection; with a cookie, by somebody who is logged in."""
    connection = http.client.HTTPConnection(server.host, server.port, timeout=60)
    took: list[int] = []
    for _ in range(WARM_UP + SAMPLES):
        began = time.monotonic_ns()
        connection.request("GET", path, headers={"Cookie": cookie} if cookie else {})
        with connection.getresponse() as answer:
            body = answer.read()
        took.append(time.monotonic_ns() - began)
        if answer.status != 200:
            raise Failed(f"GET {path}: {answer.status} {body[:200]!r}")
    connection.close()
    return Latency.of(took[WARM_UP:])
