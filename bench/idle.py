"""What a worker costs that has nothing to do."""

from __future__ import annotations

import time

from bench.databases import Kind
from bench.options import Options
from bench.report import Facts, Line, at_most
from bench.samples import Spread
from bench.service import fresh_service, workers
from bench.usage import between, cpu_seconds, pss_mb

SETTLE_SECONDS = 3.0  # after the start
SECONDS = 15.0
CPU_TARGET, PSS_TARGET = 0.6, 180.0
EXECUTORS = 3


def measure(kind: Kind, options: Options) -> Facts:
    a_minute: list[float] = []
    with fresh_service(kind) as service, workers(service, EXECUTORS) as dispatcher:
        time.sleep(SETTLE_SECONDS)
        for _ in range(options.runs):
            before = cpu_seconds(dispatcher)
            time.sleep(SECONDS)
            a_minute.append(sum(between(before, cpu_seconds(dispatcher)).values()) / SECONDS * 60)
        held = pss_mb(dispatcher)
    return {
        "cpu_seconds_per_minute": Spread((*a_minute,)).facts(),
        "pss_mb": {part: round(value, 1) for part, value in held.items()},
    }


def lines(name: str, facts: Facts) -> list[Line]:
    cpu, held = Spread.of(facts["cpu_seconds_per_minute"]), facts["pss_mb"]
    parts = ", ".join(f"{part} {value:.0f}" for part, value in held.items())
    megabytes = sum(held.values())
    what = f"idle pool, --n {EXECUTORS}"
    return [
        at_most(f"{what}: CPU", cpu.middle, CPU_TARGET, unit=" s/min", text=f"{cpu:.2f} s/min"),
        at_most(f"{what}: PSS", megabytes, PSS_TARGET, unit=" MB", text=f"{megabytes:.0f} MB ({parts})"),
    ]
