"""How fast a backlog is run, and what a task costs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from statistics import median

from bench.databases import Kind
from bench.options import Options
from bench.report import Facts, Line, at_least
from bench.samples import Spread
from bench.service import Failed, Service, fresh_service, wait_until, workers
from bench.usage import Usage, between, cpu_seconds

TARGETS = {"sqlite": 12_000, "postgres": 8_000}
DRIVERS = {"sqlite": "sqlite3", "postgres": "psycopg"}
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


def measure(kind: Kind, options: Options) -> Facts:
    runs: list[Drained] = []
    floors: dict[int, list[float]] = {size: [] for size in FLOOR_BATCHES}
    for _ in range(options.runs):  # in turn: whatever else the machine does, it does to both
        for size in FLOOR_BATCHES:
            floors[size].append(_floor(kind, size, options.tasks))
        runs.append(drained(kind, options.tasks))
    return {
        "tasks": options.tasks,
        "per_second": Spread(tuple(run.rate for run in runs)).facts(),
        "raw_per_second": {str(size): Spread((*rates,)).facts() for size, rates in floors.items()},
        "leases_per_turn": round(median(run.tasks / run.turns for run in runs), 1),
        "cpu_seconds_per_1000": {
            part: round(median(run.cpu[part] / run.tasks * 1000 for run in runs), 4) for part in PARTS
        },
    }


def lines(name: str, facts: Facts) -> list[Line]:
    rates = Spread.of(facts["per_second"])
    floors = {size: Spread.of(given) for size, given in facts["raw_per_second"].items()}
    cpu = facts["cpu_seconds_per_1000"]
    what = f"drain of {facts['tasks']:,} no-op tasks, --n {EXECUTORS}"
    return [
        at_least(what, rates.middle, TARGETS[name], unit=" /s", text=f"{rates} /s"),
        *(
            Line(f"  raw {DRIVERS[name]}, one process, batches of {size}", f"{floor} /s")
            for size, floor in floors.items()
        ),
        Line("  drain / the better raw", f"{rates.middle / best_floor(facts):.2f}"),
        Line("  leases per turn, mean", f"{facts['leases_per_turn']:.0f}"),
        *(Line(f"  CPU per 1,000 tasks: {PARTS[part]}", f"{cpu[part]:.3f} s") for part in PARTS),
    ]


def best_floor(facts: Facts) -> float:
    return max(Spread.of(given).middle for given in facts["raw_per_second"].values())


def _floor(kind: Kind, size: int, tasks: int) -> float:
    with fresh_service(kind) as service:
        _fill(service, tasks)
        done, seconds = service.inside("floor", size)
        if done != tasks:
            raise Failed(f"plain SQL completed {done} of {tasks} tasks")
        return float(done / seconds)


def drained(kind: Kind, tasks: int) -> Drained:
    with fresh_service(kind) as service:
        _fill(service, tasks)
        with workers(service, EXECUTORS) as dispatcher:
            before = cpu_seconds(dispatcher)
            service.inside("resume")
            wait_until(lambda: service.all_finished, "all tasks finished", patience=600, step=0.2)
            cpu = between(before, cpu_seconds(dispatcher))
        return _drained(service, tasks, cpu)


def _fill(service: Service, tasks: int) -> None:
    service.inside("fill", tasks)
    service.database.settle()  # what filling has left to do is not the drain's affair


def _drained(service: Service, tasks: int, cpu: Usage) -> Drained:
    """From the first claim to the last completion, as the rows themselves say."""
    done, first, last, turns = service.rows(
        "SELECT count(*), CAST(min(started_at) AS text), CAST(max(finished_at) AS text),"
        " count(DISTINCT attempted_at) FROM tasks"
        " WHERE status = 'completed' AND CAST(result AS text) = '1' AND attempt = 1"
    )[0]
    if done != tasks:
        raise Failed(f"{done} of {tasks} tasks have completed in their first attempt")
    seconds = (datetime.fromisoformat(last) - datetime.fromisoformat(first)).total_seconds()
    return Drained(tasks, seconds, turns, cpu)
