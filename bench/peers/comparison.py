"""The service beside its peers: ratios of what ran in the same round."""

from __future__ import annotations

from bench.report import Facts, Line, at_least, at_most, failed
from bench.samples import Latencies, Spread

TIMES = {  # how much faster a drain is to be, by the beginning of a name
    "sqlite": {"django-tasks-db": 30.0, "Huey": 12.0},
    "postgres": {"django-tasks-db": 30.0, "PgQueuer": 2.0},
}


def lines(name: str, facts: Facts) -> list[Line]:
    ours, theirs = facts["ours"], facts["theirs"]
    return [
        Line("drain of this service, in turn with the others", f"{Spread.of(ours['per_second'])} /s"),
        Line("  pickup", str(Latencies.of(ours["pickup_ms"]))),
        *(
            line
            for peer, its in theirs.items()
            for line in _of(name, peer, its, Spread.of(ours["per_second"]))
        ),
        *_pickup(ours, theirs),
    ]


def _of(name: str, peer: str, facts: Facts, ours: Spread) -> list[Line]:
    if "failed" in facts:
        return [failed(peer, facts)]
    its = Spread.of(facts["per_second"])
    times = Spread(tuple(mine / theirs for mine, theirs in zip(ours.values, its.values, strict=True)))
    least = next((least for start, least in TIMES[name].items() if peer.startswith(start)), None)
    what, text = f"  our drain / that of {peer}", f"{times:.1f} times"
    idle = f"idle CPU {facts['idle_cpu_seconds_per_minute']:.1f} s/min"
    return [
        Line(f"{peer} ({facts['version']}): drain", f"{its} /s"),
        Line("  pickup", f"{Latencies.of(facts['pickup_ms'])}, {idle}"),
        Line(what, text) if least is None else at_least(what, times.middle, least, unit=" times", text=text),
    ]


def _pickup(ours: Facts, peers: Facts) -> list[Line]:
    """Ours beside the best of theirs."""
    theirs = {name: Latencies.of(facts["pickup_ms"]) for name, facts in peers.items() if "pickup_ms" in facts}
    if not theirs:
        return []
    best = min(theirs, key=lambda name: theirs[name].p99.middle)
    p99, its = Latencies.of(ours["pickup_ms"]).p99.middle, theirs[best].p99.middle
    return [
        at_most(
            "our pickup p99, beside the best of theirs",
            p99,
            its,
            unit=" ms",
            text=f"{p99:.1f} ms ({best}: {its:.1f})",
        )
    ]
