"""What a run does to the service, and when: chosen by a seed, and by nothing else."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field

CALM_SECONDS = 2.0  # before the first deed


@dataclass(frozen=True, slots=True)
class Deed:
    at: float  # seconds since the start, or as soon as there is somebody to do it to
    name: str
    pick: float  # which of those who could be meant, from 0 to 1
    span: float  # how long, from 0 (as short as such a deed may be) to 1


@dataclass(frozen=True, slots=True)
class Profile:
    says: str
    seconds: float  # of harm
    tasks: int  # that are asked for at most
    deeds: Mapping[str, int]  # how often
    outages: Mapping[str, Mapping[str, int]] = field(default_factory=dict)  # of each database
    must: frozenset[str] = frozenset()  # rules whose case has to come up
    small_disk: bool = False
    threads: int = 4  # of each client: how much is asked for at a time
    rest: float = 0.0  # seconds after an outage in which nothing else happens
    patience: float = 60.0  # seconds in which all tasks have to finish afterwards

    @property
    def databases(self) -> tuple[str, ...]:
        return tuple(self.outages)

    def goes_on(self, seconds: float, *, busy: bool) -> bool:
        """``busy``: a deed is not over, or waits for somebody to do it to, which is allowed for a while."""
        return seconds < self.seconds or (busy and seconds < self.seconds * 1.5 + 5)

    def schedule(self, seed: int, database: str) -> list[Deed]:
        rng = random.Random(f"{seed} {database}")
        wanted = {**self.deeds, **self.outages[database]}
        names = [name for name, count in sorted(wanted.items()) for _ in range(count)]
        rng.shuffle(names)
        step = (self.seconds - CALM_SECONDS) / max(1, len(names))
        return [
            Deed(CALM_SECONDS + step * (number + rng.random() / 2), name, rng.random(), rng.random())
            for number, name in enumerate(names)
        ]


# fmt: off
ALWAYS = frozenset({
    "acknowledged", "invented", "resent", "read-back", "finished", "intact", "moves", "no-way-back", "fences",
    "one-completion", "one-at-a-time", "outcomes-arrive", "never-early", "every-claim-counts", "max-attempts",
    "backoff", "crashes", "cancelled-for-good", "cancelled-while-running", "refused", "retried",
    "nobody-falls",
})
# fmt: on
DEATHS = frozenset({"crashes-are-seen", "leases-are-taken-back", "no-orphans"})
PAUSES = frozenset({"late-writes", "leases-hold"})
OUTAGES = frozenset({"honest-answers", "back-after-the-database"})

KILLS = {"kill-executor": 4, "kill-dispatcher": 2, "kill-api-process": 1, "kill-api": 1}
STOPS = {"stop-worker": 2, "stop-api": 1}
SHORT_PAUSES = {"pause-executor": 1, "pause-dispatcher": 1, "pause-api-process": 1}
LONG_PAUSES = {"pause-worker": 1, "pause-dispatcher-for-a-lease": 1}
DATABASE = {
    "sqlite": {"hold-write-lock": 1},
    "postgres": {"restart-database": 1, "cut-connections": 1, "swallow-packets": 1},
}


def times(count: int, *deeds: Mapping[str, int]) -> dict[str, int]:
    return {name: number * count for some in deeds for name, number in some.items()}


def each(count: int) -> dict[str, dict[str, int]]:
    return {kind: times(count, outages) for kind, outages in DATABASE.items()}


PROFILES = {
    "short": Profile(
        "a little of everything, within a minute",
        seconds=26,
        tasks=8_000,
        deeds={**KILLS, "stop-worker": 1, "stop-api": 1, "pause-worker": 1, "pause-executor": 1},
        outages=each(1),
        must=ALWAYS | DEATHS | {"late-writes", "honest-answers"},
    ),
    "long": Profile(
        "everything, for three minutes",
        seconds=180,
        tasks=12_000,
        deeds={
            **times(6, KILLS, STOPS, SHORT_PAUSES),
            **times(4, LONG_PAUSES),
            "kill-everything": 4,
            "kill-forkserver": 4,
        },
        outages=each(2),
        rest=7,
        must=ALWAYS | DEATHS | PAUSES | OUTAGES | {"clean-stops"},
    ),
    "postgres-cuts": Profile(
        "PostgreSQL restarted, cut off, silent, its sessions ended, again and again",
        seconds=80,
        tasks=5_000,
        deeds={},
        outages={"postgres": {**times(2, DATABASE["postgres"]), "end-sessions": 2}},
        rest=7,
        must=ALWAYS | OUTAGES,
    ),
    "full-disk": Profile(
        "the disk of the SQLite file full, three times; needs root",
        seconds=50,
        tasks=3_000,
        deeds={"kill-executor": 1},
        outages={"sqlite": {"fill-disk": 3}},
        must=ALWAYS | {"honest-answers"},
        small_disk=True,
    ),
    "calm": Profile(
        "nothing but a client that cancels, retries and repeats",
        seconds=10,
        tasks=3_000,
        deeds={},
        outages={"sqlite": {}, "postgres": {}},
    ),
    "deaths": Profile(
        "executors and dispatchers killed",
        seconds=10,
        tasks=3_000,
        deeds={"kill-executor": 2, "kill-dispatcher": 2},
        outages={"sqlite": {}, "postgres": {}},
    ),
    "pauses": Profile(
        "workers that sleep longer than a lease",
        seconds=30,
        tasks=3_000,
        threads=2,  # what is taken back shall not wait behind others
        deeds={"pause-worker": 2},
        outages={"sqlite": {}, "postgres": {}},
    ),
    "stops": Profile(
        "workers told to stop",
        seconds=14,
        tasks=3_000,
        deeds={"stop-worker": 2},
        outages={"sqlite": {}, "postgres": {}},
    ),
    "outages": Profile(
        "the database gone for a while",
        seconds=18,
        tasks=3_000,
        deeds={},
        outages={"sqlite": {"hold-write-lock": 1}, "postgres": {"restart-database": 1}},
    ),
}
