"""The table of measures: each takes facts from one database, and makes lines of them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NamedTuple

from bench import claim, drain, idle, lists, pickup, posts
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
    "claim": Measure(claim.measure, claim.lines),
    "lists": Measure(lists.measure, lists.lines),
}
PEERS = "peers"  # whose lines need the facts of the others too


def take(name: str, kind: Kind, options: Options) -> Facts:
    """One that fails has only its failure to show, and the others go on."""
    print(f"measuring on {kind.name}: {name}", file=sys.stderr, flush=True)
    measure = contest.measure if name == PEERS else MEASURES[name].take
    try:
        return measure(kind, options)
    except Exception as error:  # whatever it is, the others go on
        return failure(error)


def lines(database: str, found: Facts) -> dict[str, list[Line]]:
    """By measure; ``found``: what was measured on this database."""
    return {name: _lines(database, name, found) for name in found}


def _lines(database: str, name: str, found: Facts) -> list[Line]:
    if "failed" in found[name]:
        return [failed(name, found[name])]
    if name == PEERS:
        return comparison.lines(database, found)
    return MEASURES[name].lines(database, found[name])


def has_failed(facts: Facts) -> bool:
    """Whether anything in it could not be measured."""
    return any(
        "failed" in found or any(isinstance(part, dict) and "failed" in part for part in found.values())
        for database in facts["databases"].values()
        for found in database["found"].values()
    )
