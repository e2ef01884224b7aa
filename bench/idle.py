"""What a worker costs that has nothing to do."""

from __future__ import annotations

import time

from bench.report import Line, Measured
from bench.service import fresh_service, workers
from bench.usage import between, cpu_seconds, pss_mb

SETTLE_SECONDS = 3.0  # after the start
SECONDS = 20.0
CPU_TARGET, PSS_TARGET = 0.6, 180.0
EXECUTORS = 3


def measure() -> Measured:
    with fresh_service() as service, workers(service, EXECUTORS) as dispatcher:
        time.sleep(SETTLE_SECONDS)
        before = cpu_seconds(dispatcher)
        time.sleep(SECONDS)
        used = between(before, cpu_seconds(dispatcher))
        held = pss_mb(dispatcher)
    a_minute, megabytes = sum(used.values()) / SECONDS * 60, sum(held.values())
    parts = ", ".join(f"{part} {value:.0f}" for part, value in held.items())
    return Measured(
        [
            Line(
                f"idle pool, --n {EXECUTORS}: CPU",
                f"{a_minute:.2f} s/min",
                f"≤ {CPU_TARGET:g} s/min",
                a_minute <= CPU_TARGET,
            ),
            Line(
                f"idle pool, --n {EXECUTORS}: PSS",
                f"{megabytes:.0f} MB ({parts})",
                f"≤ {PSS_TARGET:g} MB",
                megabytes <= PSS_TARGET,
            ),
        ],
        {
            "cpu_seconds_per_minute": {part: round(value / SECONDS * 60, 3) for part, value in used.items()},
            "pss_mb": {part: round(value, 1) for part, value in held.items()},
        },
    )
