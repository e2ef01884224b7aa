"""The peers, measured: the same drain and the same pickup as the service's own."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from bench import drain, pickup
from bench.databases import Database, Kind
from bench.inside import PAUSE_SECONDS
from bench.options import Options
from bench.peers.program import EFFECTS
from bench.report import Facts, failure
from bench.samples import Latency, Spread
from bench.service import PATIENCE, ROOT, Failed, environment, wait_until
from bench.usage import cpu_seconds_of_family

PYTHON = ROOT / ".venv-peers" / "bin" / "python"
SAMPLES = 100
SETTLE_SECONDS, IDLE_SECONDS = 2.0, 5.0
DRAIN_SECONDS = 900.0  # the slowest need one or two minutes


@dataclass(frozen=True, slots=True)
class Contestant:
    """A peer, and how it is run."""

    name: str
    module: str
    databases: tuple[str, ...]
    settings: str
    keeps: str  # of what a task came to
    finished: str  # SQL: how many have come to that
    processes: int = 3  # that this bench starts
    variables: Mapping[str, str] = field(default_factory=dict)


def _pgqueuer(batch: int, words: str) -> Contestant:
    return Contestant(
        name=f"PgQueuer, batches of {batch}",
        module="pgqueuer",
        databases=("postgres",),
        settings=f"3 processes, asyncpg, uvloop, batch_size={batch} ({words}), coroutines",
        keeps="the status",
        finished="SELECT count(*) FROM pgqueuer_log WHERE status = 'successful'",
        variables={"BENCH_BATCH": str(batch)},
    )


CONTESTANTS = (
    Contestant(
        name="django-tasks-db",
        module="django_tasks_db",
        databases=("sqlite", "postgres"),
        settings="3 processes of db_worker --interval 0.05 (usual: 1), connections that stay",
        keeps="the result",
        finished="SELECT count(*) FROM django_tasks_database_dbtaskresult"
        " WHERE status = 'SUCCESSFUL' AND CAST(return_value AS text) = '1'",
    ),
    Contestant(
        name="Huey",
        module="huey",
        databases=("sqlite",),
        settings="one consumer, SqliteHuey(fsync=True), 3 processes that look each 0.01 s (usual: 0.1 to 10)",
        keeps="the result",
        finished="SELECT count(*) FROM kv",
        processes=1,
    ),
    Contestant(
        name="Procrastinate",
        module="procrastinate",
        databases=("postgres",),
        settings="3 processes, psycopg's pool, concurrency=10 (usual: 1), coroutines",
        keeps="the status",
        finished="SELECT count(*) FROM procrastinate_jobs WHERE status = 'succeeded'",
    ),
    _pgqueuer(10, "as usual"),
    _pgqueuer(200, "generous"),
)


def measure(kind: Kind, options: Options) -> Facts:
    """The service's own figures, and theirs by name; a peer that fails has only its failure to show.

    Drains go in rounds, everybody once in each: a disk may be ten times slower a quarter of an hour
    later, so only what ran side by side is compared.
    """
    if not PYTHON.exists():
        raise Failed("there is no .venv-peers: `make bench` makes it")
    peers = [peer for peer in CONTESTANTS if kind.name in peer.databases]
    ours: Facts = {"pickup_ms": pickup.direct(kind, options.runs, SAMPLES)}
    theirs = {peer.name: _introduced(peer, kind, options) for peer in peers}
    rates: list[float] = []
    for _ in range(options.runs):
        rates.append(drain.drained(kind, options.tasks).rate)
        for peer in peers:
            _join_round(peer, kind, options.tasks, theirs[peer.name])
    return {"ours": {**ours, "per_second": Spread((*rates,)).facts()}, "theirs": theirs}


def _introduced(peer: Contestant, kind: Kind, options: Options) -> Facts:
    """All but its drains."""
    print(f"  {peer.name}", file=sys.stderr, flush=True)
    facts: Facts = {"settings": peer.settings, "keeps": peer.keeps}
    try:
        with _fresh(peer, kind) as crew:
            return {**facts, "version": crew.version, **_picked_up(crew, options)}
    except Exception as error:  # whatever it is, the others go on
        return {**facts, **failure(error)}


def _join_round(peer: Contestant, kind: Kind, tasks: int, facts: Facts) -> None:
    """One more drain among its facts."""
    if "failed" in facts:
        return
    try:
        with _fresh(peer, kind) as crew:
            rate = _drained(crew, tasks)
    except Exception as error:  # whatever it is, the others go on
        facts.update(failure(error))
    else:
        before = Spread.of(facts["per_second"]).values if "per_second" in facts else ()
        facts["per_second"] = Spread((*before, rate)).facts()


def _picked_up(crew: Crew, options: Options) -> Facts:
    runs: list[Facts] = []
    with crew.working() as begin:
        begin()
        time.sleep(SETTLE_SECONDS)
        used = crew.cpu_seconds()
        time.sleep(IDLE_SECONDS)
        idle = (crew.cpu_seconds() - used) / IDLE_SECONDS * 60
        for _ in range(options.runs):
            before = len(crew.effects())
            asked = json.loads(crew.do("ask", SAMPLES, *PAUSE_SECONDS))
            crew.wait_for_effects(before + SAMPLES)
            began = dict(crew.effects()[before:])
            runs.append(Latency.of([began[number] - at for number, at in enumerate(asked, 1)]).facts())
    return {"pickup_ms": runs, "idle_cpu_seconds_per_minute": round(idle, 2)}


def _drained(crew: Crew, tasks: int) -> float:
    """Tasks per second, from the first handler's start until all are seen to have succeeded."""
    crew.do("fill", tasks)
    crew.database.settle()
    with crew.working() as begin:
        begin()
        crew.wait_for_effects(tasks)
        crew.wait_until(lambda: crew.finished() >= tasks, f"{tasks} tasks have succeeded")
        end = time.monotonic_ns()
        done, effects = crew.finished(), crew.effects()
    if not len(effects) == done == tasks:
        raise Failed(f"of {tasks} tasks {done} have succeeded, in {len(effects)} runs")
    return tasks / (end - min(at for _, at in effects)) * 1e9


class Crew:
    """The processes of one peer on one database."""

    def __init__(self, peer: Contestant, database: Database, folder: Path) -> None:
        self._peer = peer
        self.database = database
        self._effects = folder / "effects"
        self._log = folder / "log"
        self._workers: Sequence[subprocess.Popen[str]] = ()
        own = {EFFECTS: str(self._effects), **peer.variables}
        self._env = {**environment(), **database.variables, **own}
        self.version = self.do("install").strip()

    def do(self, deed: str, *arguments: object) -> str:
        command = self._command(deed, *arguments)
        ended = subprocess.run(command, env=self._env, cwd=ROOT, capture_output=True, text=True, timeout=600)
        if ended.returncode:
            raise Failed(f"{deed}: exit code {ended.returncode}: {_last_line(ended.stderr)}")
        return ended.stdout

    def _command(self, *words: object) -> list[str]:
        return [str(PYTHON), "-m", "bench.peers.program", self._peer.module, *map(str, words)]

    @contextmanager
    def working(self) -> Iterator[Callable[[], None]]:
        """Workers that are ready; what is yielded lets them begin."""
        self._workers = [self._start() for _ in range(self._peer.processes)]
        try:
            for worker in self._workers:
                self._hear_ready(worker)
            yield self._begin
        finally:
            for worker in self._workers:
                with suppress(ProcessLookupError):
                    os.killpg(worker.pid, signal.SIGKILL)
                worker.communicate()

    def _start(self) -> subprocess.Popen[str]:
        with self._log.open("a") as log:
            return subprocess.Popen(
                self._command("work"),
                env=self._env,
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )

    def _hear_ready(self, worker: subprocess.Popen[str]) -> None:
        assert worker.stdout is not None
        heard, _, _ = select.select([worker.stdout], [], [], PATIENCE)
        if not heard or worker.stdout.readline() != "ready\n":
            raise Failed(f"a worker did not start: {_last_line(self._log.read_text())}")

    def _begin(self) -> None:
        for worker in self._workers:
            assert worker.stdin is not None
            worker.stdin.write("\n")
            worker.stdin.flush()

    def effects(self) -> list[tuple[int, int]]:
        """The number of each task that began, and when, in nanoseconds."""
        if not self._effects.exists():
            return []
        whole, _, _ = self._effects.read_text().rpartition("\n")
        pairs = (line.split() for line in whole.splitlines())
        return [(int(number), int(at)) for number, at in pairs]

    def wait_for_effects(self, count: int) -> None:
        self.wait_until(lambda: len(self.effects()) >= count, f"{count} tasks have begun")

    def finished(self) -> int:
        [[count]] = self.database.rows(self._peer.finished)
        return int(count)

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        def met() -> bool:
            if any(worker.poll() is not None for worker in self._workers):
                raise Failed(f"a worker has ended: {_last_line(self._log.read_text())}")
            return condition()

        wait_until(met, what, patience=DRAIN_SECONDS)

    def cpu_seconds(self) -> float:
        return sum(cpu_seconds_of_family(psutil.Process(worker.pid)) for worker in self._workers)


@contextmanager
def _fresh(peer: Contestant, kind: Kind) -> Iterator[Crew]:
    with tempfile.TemporaryDirectory(prefix="taskservice-bench-") as name:
        folder = Path(name)
        with kind.fresh(folder) as database:
            yield Crew(peer, database, folder)


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["it said nothing"])[-1][:300]
