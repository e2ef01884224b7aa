"""``python -m bench``: measure, and print one table; see ``--help``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bench import drain, idle, machine, pickup, posts
from bench.report import Measured, table
from bench.service import Failed

MEASURES = ("drain", "pickup", "idle", "posts")


def main() -> None:
    options = arguments()
    where = machine.facts()
    measures: dict[str, Callable[[], Measured]] = {
        "drain": partial(drain.measure, tasks=options.tasks, runs=options.runs),
        "pickup": pickup.measure,
        "idle": idle.measure,
        "posts": posts.measure,
    }
    measured = {name: run(name, measures[name]) for name in options.only}
    print(machine.sentence(where), end="\n\n")
    print(table(line for found in measured.values() for line in found.lines))
    if options.json:
        facts = {"machine": where, **{name: found.facts for name, found in measured.items()}}
        options.json.write_text(json.dumps(facts, indent=2) + "\n")


def run(name: str, measure: Callable[[], Measured]) -> Measured:
    print(f"measuring: {name}", file=sys.stderr, flush=True)
    try:
        return measure()
    except Failed as failure:
        sys.exit(f"bench: {name}: {failure}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measures the service as it ships, with real processes on a fresh SQLite file in TMPDIR.",
    )
    parser.add_argument(
        "--only", type=names, default=MEASURES, metavar="A,B", help=f"of {', '.join(MEASURES)} (all)"
    )
    parser.add_argument("--runs", type=positive, default=3, metavar="N", help="of the drain (3)")
    parser.add_argument("--tasks", type=positive, default=20_000, metavar="N", help="to drain (20000)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers there as well")
    return parser.parse_args()


def names(text: str) -> tuple[str, ...]:
    given = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    if strangers := set(given) - set(MEASURES):
        raise argparse.ArgumentTypeError(f"no such measure: {', '.join(sorted(strangers))}")
    return given


def positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


if __name__ == "__main__":
    main()
