"""The service beside its peers: ratios of what one run of the bench has measured."""

from __future__ import annotations

from bench.report import Facts, Line, at_least, at_most, failed
from bench.samples import Latencies, Spread

TIMES = {  # how much faster a drain is to be, by the beginning of a name
    "sqlite": {"django-tasks-db": 30.0, "Huey": 12.0},
    "postgres": {"django-tasks-db": 30.0, "PgQueuer": 2.0},
}


def lines(name: str, found: Facts) -> list[Line]:
    """``found``: all that was measured on this database; without our own figures there are no ratios."""
    peers = found["peers"]
    rate = _rate(found.get("drain", {}))
    return [
        *(line for peer, facts in peers.items() for line in _of(name, peer, facts, rate)),
        *_pickup(found.get("pickup", {}), peers),
    ]


def _of(name: str, peer: str, facts: Facts, rate: float | None) -> list[Line]:
    if "failed" in facts:
        return [failed(peer, facts)]
    its = Spread.of(facts["per_second"])
    idle = f"idle CPU {facts['idle_cpu_seconds_per_minute']:.1f} s/min"
    lines = [
        Line(f"{peer} ({facts['version']}): drain", f"{its} /s"),
        Line("  pickup", f"{Latencies.of(facts['pickup_ms'])}, {idle}"),
    ]
    if rate is not None:
        ratio = times(facts, rate)
        least = next((least for start, least in TIMES[name].items() if peer.startswith(start)), None)
        what, text = f"  our drain / that of {peer}", f"{ratio:.1f} times"
        lines.append(
            Line(what, text) if least is None else at_least(what, ratio, least, unit=" times", text=text)
        )
    return lines


def times(facts: Facts, rate: float) -> float:
    return rate / Spread.of(facts["per_second"]).middle


def _rate(drain: Facts) -> float | None:
    return Spread.of(drain["per_second"]).middle if "per_second" in drain else None


def _pickup(ours: Facts, peers: Facts) -> list[Line]:
    """Ours beside the best of theirs."""
    theirs = {name: Latencies.of(facts["pickup_ms"]) for name, facts in peers.items() if "pickup_ms" in facts}
    if "enqueue_ms" not in ours or not theirs:
        return []
    best = min(theirs, key=lambda name: theirs[name].p99.middle)
    p99, its = Latencies.of(ours["enqueue_ms"]).p99.middle, theirs[best].p99.middle
    return [
        at_most(
            "our pickup p99, beside the best of theirs",
            p99,
            its,
            unit=" ms",
            text=f"{p99:.1f} ms ({best}: {its:.1f})",
        )
    ]
