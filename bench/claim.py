"""Whether a claim takes longer among millions of tasks."""

from __future__ import annotations

from bench.databases import Kind
from bench.options import Options
from bench.report import Facts, Line, at_most
from bench.samples import Latency
from bench.service import fresh_service

SAMPLES = 200
LIMITS = (1, 64, 192)
QUEUES = (1, 8)
ALMOST_EMPTY = 2_048  # ready tasks and nothing else: for eight queues, enough for the largest claim
TARGET = 1.3


def measure(kind: Kind, options: Options) -> Facts:
    return {
        "rows": options.rows,
        "samples": SAMPLES,
        "queues": {
            str(queues): {
                "small_ms": _claims(kind, "backlog", ALMOST_EMPTY, queues),
                "large_ms": _claims(kind, "table", options.rows, queues),
            }
            for queues in QUEUES
        },
    }


def lines(name: str, facts: Facts) -> list[Line]:
    head = Line(
        f"claim, p50 of {facts['samples']}: {ALMOST_EMPTY:,} ready tasks",
        f"→ {facts['rows']:,} rows, a third each ready, finished, in the future",
    )
    return [
        head,
        *(_line(queues, limit, found) for queues, found in facts["queues"].items() for limit in LIMITS),
    ]


def _line(queues: str, limit: int, found: Facts) -> Line:
    small, large = (found[size][str(limit)]["p50"] for size in ("small_ms", "large_ms"))
    ratio = large / small
    what = f"  {limit} at a time, {queues} queue{'s' if queues != '1' else ''}"
    return at_most(
        what, ratio, TARGET, unit=" times", text=f"{small:.2f} → {large:.2f} ms, {ratio:.2f} times"
    )


def _claims(kind: Kind, filling: str, rows: int, queues: int) -> Facts:
    """Milliseconds, by how many were claimed."""
    with fresh_service(kind) as service:
        service.inside(filling, rows, queues)
        service.database.settle()
        took = service.inside("claims", SAMPLES, *LIMITS)
    return {limit: Latency.of(nanoseconds).facts() for limit, nanoseconds in took.items()}
