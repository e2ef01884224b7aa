"""The table of measures: each takes facts from one database, and makes lines of them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NamedTuple

from bench import batches, claim, drain, idle, lists, machine, pages, pickup, posts, prune
from bench.databases import Kind
from bench.options import Options
from bench.peers import comparison, contest
from bench.report import Facts, Line, failed, failure


class Measure(NamedTuple):
    take: Callable[[Kind, Options], Facts]
    lines: Callable[[str, Facts], list[Line]]  # of the database's name and these facts


MEASURES = {
    "drain": Measure(drain.measure, drain.lines),
    "pickup": Measure(pickup.measure, pickup.lines),
    "idle": Measure(idle.measure, idle.lines),
    "posts": Measure(posts.measure, posts.lines),
    "batches": Measure(batches.measure, batches.lines),
    "claim": Measure(claim.measure, claim.lines),
    "lists": Measure(lists.measure, lists.lines),
    "pages": Measure(pages.measure, pages.lines),
    "prune": Measure(prune.measure, prune.lines),
    "peers": Measure(contest.measure, comparison.lines),
}


def take(name: str, kind: Kind, options: Options) -> Facts:
    """One that fails has only its failure to show, and the others go on."""
    print(f"measuring on {kind.name}: {name}", file=sys.stderr, flush=True)
    flush = {"flush_ms": machine.flush_ms()}
    try:
        return {**flush, **MEASURES[name].take(kind, options)}
    except Exception as error:  # whatever it is, the others go on
        return {**flush, **failure(error)}


def lines(database: str, found: Facts) -> dict[str, list[Line]]:
    """By measure; ``found``: what was measured on this database."""
    return {name: _lines(database, name, facts) for name, facts in found.items()}


def _lines(database: str, name: str, facts: Facts) -> list[Line]:
    return [failed(name, facts)] if "failed" in facts else MEASURES[name].lines(database, facts)


def flushes(facts: Facts) -> list[float]:
    """How many milliseconds a flush took before each measure."""
    return [found["flush_ms"] for its in facts["databases"].values() for found in its["found"].values()]


def has_failed(facts: Facts) -> bool:
    """Whether anything in it could not be measured."""
    return any(
        "failed" in found or any("failed" in peer for peer in found.get("theirs", {}).values())
        for database in facts["databases"].values()
        for found in database["found"].values()
    )
