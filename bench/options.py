"""What the command line asks for."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from bench import databases

MEASURES = {
    "drain": "how fast a backlog is run, beside plain SQL and, with peers, beside others",
    "pickup": "how soon an idle pool begins a task",
    "idle": "what a pool costs that has nothing to do",
    "posts": "how fast POST /tasks takes tasks in, alone and beside a drain",
    "batches": "how fast POST /tasks/batch takes tasks in, beside the inserts alone",
    "claim": "whether a claim takes longer among millions of tasks",
    "lists": "how long the pages of GET /tasks take among millions of tasks",
    "pages": "how long the pages of the admin take among millions of tasks",
    "prune": "whether claims keep their speed while old tasks are pruned",
    "peers": "drain and pickup of other task queues, on the same database",
}

DESCRIPTION = """\
Measures the service as it ships: real processes, on a new database for each
measure, as durable as in production. SQLite's files, and PostgreSQL's server
(the one of the tests, with fsync), lie in TMPDIR. Prints tables; everything in
them comes from the facts, which --json keeps and --from reads again."""

MEASURES_TEXT = "measures:\n" + "\n".join(f"  {name:8}{words}" for name, words in MEASURES.items())

EPILOG = f"""\
{MEASURES_TEXT}

examples:
  make bench                                            all of it, about 35 minutes on two cores
  make bench ARGS="--only drain --databases sqlite"     one figure, in a minute
  make bench ARGS="--tasks 500 --runs 1 --rows 30000"   whether the bench works, in five minutes
  make bench ARGS="--json facts.json --write docs"      for docs/benchmarks.md and its plot
  make bench ARGS="--from facts.json --write docs"      the same page again, nothing measured

exit code: 0 when all was measured, whatever the figures say; 1 when a measure failed."""


@dataclass(frozen=True, slots=True)
class Options:
    """How much is measured."""

    tasks: int = 20_000  # of a drain
    runs: int = 3
    rows: int = 3_000_000  # of the large table: a third each ready, finished, in the future


def arguments() -> argparse.Namespace:
    usual = Options()
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--databases",
        type=databases_named,
        default=databases.NAMES,
        metavar="A,B",
        help=f"of {', '.join(databases.NAMES)} (both)",
    )
    parser.add_argument(
        "--only", type=measures, default=(*MEASURES,), metavar="A,B", help="of those below (all)"
    )
    parser.add_argument(
        "--runs", type=positive, default=usual.runs, metavar="N", help=f"whose median counts ({usual.runs})"
    )
    parser.add_argument(
        "--tasks", type=positive, default=usual.tasks, metavar="N", help=f"of each drain ({usual.tasks})"
    )
    parser.add_argument(
        "--rows",
        type=rows,
        default=usual.rows,
        metavar="N",
        help=f"of the table of claim, lists and pages ({usual.rows})",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the facts there, after each measure")
    parser.add_argument(
        "--from", type=Path, dest="source", metavar="FILE", help="measure nothing, read facts"
    )
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="write benchmarks.md and benchmarks.svg")
    return parser.parse_args()


def databases_named(text: str) -> tuple[str, ...]:
    return names(text, databases.NAMES)


def measures(text: str) -> tuple[str, ...]:
    return names(text, tuple(MEASURES))


def names(text: str, known: tuple[str, ...]) -> tuple[str, ...]:
    """In the order of ``known``."""
    given = {name.strip() for name in text.split(",")}
    if strangers := given - {*known}:
        raise argparse.ArgumentTypeError(
            f"no such name: {', '.join(sorted(strangers))} (of {', '.join(known)})"
        )
    return tuple(name for name in known if name in given)


def positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def rows(text: str) -> int:
    """Enough that a queue among eight fills the largest claim."""
    if (given := positive(text)) < 6000:
        raise argparse.ArgumentTypeError("at least 6000 rows are needed")
    return given
