"""How fast a backlog is run, and what a task costs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from statistics import median

from bench.report import Line, Measured
from bench.samples import Spread
from bench.service import Failed, Service, fresh_service, wait_until, workers
from bench.usage import Usage, between, cpu_seconds

TARGET = 12_000
EXECUTORS = 3
FLOOR_BATCHES = (50, 192)  # 192: three hands full of 64 leases
PARTS = {"loop": "dispatcher, loop", "ledger": "dispatcher, ledger", "executors": "executors"}


@dataclass(frozen=True, slots=True)
class Drained:
    """One run."""

    tasks: int
    seconds: float
    turns: int  # that claimed something
    cpu: Usage  # seconds

    @property
    def rate(self) -> float:
        return self.tasks / self.seconds


def measure(*, tasks: int, runs: int) -> Measured:
    floors = {size: _floor(size, tasks) for size in FLOOR_BATCHES}
    drained = [_drain(tasks) for _ in range(runs)]
    rates = Spread(tuple(run.rate for run in drained))
    per_turn = median(run.tasks / run.turns for run in drained)
    per_1000 = {part: median(run.cpu[part] / run.tasks * 1000 for run in drained) for part in PARTS}
    best = max(floors.values())
    return Measured(
        [
            Line(
                f"drain of {tasks:,} no-op tasks, --n {EXECUTORS}",
                f"{rates} /s",
                f"≥ {TARGET:,} /s",
                rates.middle >= TARGET,
            ),
            *(
                Line(f"  raw sqlite3, one process, batches of {size}", f"{floor:,.0f} /s")
                for size, floor in floors.items()
            ),
            Line("  drain / the better raw", f"{rates.middle / best:.2f}"),
            Line("  leases per turn, mean", f"{per_turn:.0f}"),
            *(Line(f"  CPU per 1,000 tasks: {PARTS[part]}", f"{per_1000[part]:.3f} s") for part in PARTS),
        ],
        {
            "tasks": tasks,
            "per_second": rates.facts(),
            "raw_per_second": {str(size): round(floor, 1) for size, floor in floors.items()},
            "ratio": round(rates.middle / best, 3),
            "leases_per_turn": round(per_turn, 1),
            "cpu_seconds_per_1000": {part: round(value, 4) for part, value in per_1000.items()},
        },
    )


def _floor(size: int, tasks: int) -> float:
    with fresh_service() as service:
        service.inside("fill", tasks)
        return float(service.inside("floor", size))


def _drain(tasks: int) -> Drained:
    with fresh_service() as service:
        service.inside("fill", tasks)
        with workers(service, EXECUTORS) as dispatcher:
            before = cpu_seconds(dispatcher)
            service.inside("resume")
            wait_until(lambda: service.all_finished, "all tasks finished", patience=600, step=0.2)
            cpu = between(before, cpu_seconds(dispatcher))
        return _drained(service, tasks, cpu)


def _drained(service: Service, tasks: int, cpu: Usage) -> Drained:
    """From the first claim to the last completion, as the rows themselves say."""
    done, first, last, turns = service.rows(
        "SELECT count(*), min(started_at), max(finished_at), count(DISTINCT attempted_at) FROM tasks"
        " WHERE status = 'completed' AND result = '1' AND attempt = 1"
    )[0]
    if done != tasks:
        raise Failed(f"{done} of {tasks} tasks have completed in their first attempt")
    seconds = (datetime.fromisoformat(last) - datetime.fromisoformat(first)).total_seconds()
    return Drained(tasks, seconds, turns, cpu)
