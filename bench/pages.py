"""How long the pages of the admin take among millions of tasks."""

from __future__ import annotations

from collections.abc import Mapping

from bench.databases import Kind
from bench.lists import SAMPLES, asked
from bench.options import Options
from bench.report import Facts, Line, at_most
from bench.service import api, fresh_service

QUEUES = 8
TARGET_MS = 100.0  # for what an index serves
NO_INDEX = ("all that match", "looked at")  # pages that were asked to count, or to look at many rows


def measure(kind: Kind, options: Options) -> Facts:
    with fresh_service(kind) as service:
        service.inside("table", options.rows, QUEUES)
        service.database.settle()
        admin = service.inside("admin")
        with api(service) as server:
            found = {
                name: asked(server, path, cookie=admin["cookie"]) for name, path in admin["pages"].items()
            }
    return {"rows": options.rows, "ms": {name: latency.facts() for name, latency in found.items()}}


def lines(name: str, facts: Facts) -> list[Line]:
    head = Line(f"pages of the admin among {facts['rows']:,} tasks, over HTTP", f"p50 and p95 of {SAMPLES}")
    return [head, *(_line(page, ms) for page, ms in facts["ms"].items())]


def _line(page: str, ms: Mapping[str, float]) -> Line:
    text = f"{ms['p50']:.1f}, p95 {ms['p95']:.1f} ms"
    if any(words in page for words in NO_INDEX):
        return Line(f"  {page}", text)
    return at_most(f"  {page}", ms["p95"], TARGET_MS, unit=" ms", text=text)
