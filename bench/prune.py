"""Whether claims keep their speed while a worker prunes what finished long ago."""

from __future__ import annotations

from bench.databases import Kind
from bench.options import Options
from bench.report import Facts, Line, at_most
from bench.samples import Latency
from bench.service import MANAGE, Service, fresh_service, running, wait_until

SAMPLES = 400
LIMIT = 64
TARGET = 1.3
OLDEST = "SELECT CAST(id AS text) FROM tasks WHERE status = 'completed' ORDER BY id LIMIT 1"


def measure(kind: Kind, options: Options) -> Facts:
    """Claim and release, commits and the wait for the write gate included: alone, then beside a worker
    that has nothing else to do.
    """
    with fresh_service(kind) as service:
        service.inside("table", options.rows, 1)
        service.database.settle()
        alone = _turns(service)
        oldest = service.rows(OLDEST)
        command = [*MANAGE, "runworkers", "--n", "1", "--queues", "nobody"]
        log = service.folder / "workers.log"
        with running(service.start(command, log=log.name), log):
            wait_until(lambda: service.rows(OLDEST) != oldest, "it prunes")
            beside = _turns(service)
            unfinished = bool(service.rows(OLDEST))
    return {"rows": options.rows, "alone_ms": alone, "beside_ms": beside, "to_the_end": unfinished}


def lines(name: str, facts: Facts) -> list[Line]:
    alone, beside = facts["alone_ms"], facts["beside_ms"]
    ratio = beside["p50"] / alone["p50"]
    what = f"claim {LIMIT} and commit, {facts['rows']:,} rows: alone → while a third is pruned, p50"
    text = f"{alone['p50']:.2f} → {beside['p50']:.2f} ms, {ratio:.2f} times"
    return [
        at_most(what, ratio, TARGET, unit=" times", text=text),
        Line("  p99", f"{alone['p99']:.2f} → {beside['p99']:.2f} ms"),
        *([] if facts["to_the_end"] else [Line("  pruning ended before the claims did", "more rows")]),
    ]


def _turns(service: Service) -> Facts:
    return Latency.of(service.inside("turns", SAMPLES, LIMIT)).facts()
