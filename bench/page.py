"""docs/benchmarks.md, made of the facts alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from bench import machine, measures
from bench.databases import DURABILITY, TITLES
from bench.drain import DRIVERS, EXECUTORS
from bench.options import MEASURES
from bench.report import MARKS, Facts, Line
from bench.samples import Latencies, Spread

PLOT = "benchmarks.svg"
OURS = "this service"

HOW = """\
## How it was measured

- Every figure of this page was taken in one go, on one machine, so ratios count more than digits. Where
  there are several runs, the median counts, and what is in brackets is the least and the most. What is
  compared runs in turn, round by round, because a disk is not as fast at all times.
- The service runs as it ships: `runworkers --n {executors}`, gunicorn with its own configuration, and a new
  database for each run. PostgreSQL and what talks to it share the machine's cores.
- **As durable as in production**, the peers too: {durability}.
- **Drain**: no-op tasks are enqueued beforehand, and run by three processes; every one has to have
  succeeded, in its first attempt, with its result stored where the program stores results. The service is
  timed from its first claim to its last completion, by its own rows; a peer from its first handler's start
  until all are seen to have succeeded.
- **Raw**: one process without handlers, Django or leases to renew, that runs the service's own two
  statements, complete a batch and claim the next, in one transaction each: what the database allows at all.
- **Pickup**: workers with nothing to do, single tasks at random intervals, from just before the insert to
  the handler's start, on a clock that all processes share.
- **Peers** run with their own worker, no-op handlers, and settings that favour them (in the table above).
  Whoever polls looks far more often than usual: its idle CPU says what that costs.
- **POST /tasks** is compared with a plain REST framework view that checks the same fields with a
  serializer, inserts with `objects.create`, gives the same answer, and runs in the same gunicorn on the
  same database.
- **Claim**: the service's own verb, without its commit, which costs the same whatever the table holds.

## Again

```sh
make bench                                              # prints it
make bench ARGS="--json facts.json --write docs"        # writes this page and its plot
make bench ARGS="--help"                                # parts of it, smaller, on one database
```

The tools are in [bench/](../bench), the peers' programs in [bench/peers/](../bench/peers). This page is
made by them: change them, not it.
"""


def page(facts: Facts) -> str:
    return "\n".join(_parts(facts)).rstrip() + "\n"


def _parts(facts: Facts) -> Iterator[str]:
    lines = {database: measures.lines(database, its["found"]) for database, its in facts["databases"].items()}
    options = facts["options"]
    yield "# Benchmarks\n"
    yield f"Measured on {facts['date']}, in {facts['minutes']:.0f} minutes, on this machine:"
    yield f"{machine.sentence(facts['machine'])}."
    yield f"{options['runs']} runs, {options['tasks']:,} tasks a drain, tables of {options['rows']:,} rows."
    if flushes := measures.flushes(facts):
        yield f"Before each measure a flush of 4 KiB took {min(flushes):.2f} to {max(flushes):.2f} ms.\n"
    if bars(facts):
        yield f"![Tasks per second, drained]({PLOT})\n"
    for database, found in lines.items():
        yield _verdict(database, [line for given in found.values() for line in given])
    for database, its in facts["databases"].items():
        yield f"## {TITLES[database]} {its['version']}\n"
        for name, found in its["found"].items():
            yield f"### {name.capitalize()}: {MEASURES[name]}\n"
            if name == "peers" and "failed" not in found:
                yield _contest(found)
            yield _table(("measure", "measured", "target", ""), _cells(lines[database][name]))
    durability = "; ".join(f"{TITLES[name]} with {DURABILITY[name]}" for name in facts["databases"])
    yield HOW.format(executors=EXECUTORS, durability=durability)


def _verdict(database: str, lines: Sequence[Line]) -> str:
    """How many targets were held, and each that was not."""
    judged = [line for line in lines if line.held is not None]
    missed = [f"\n  - {line.what.strip()}: {line.measured}{_of(line)}" for line in judged if not line.held]
    held = f"{len(judged) - len(missed)} of {len(judged)} targets held"
    return f"- **{TITLES[database]}**: {held}{', missed:' if missed else ''}{''.join(missed)}\n"


def _of(line: Line) -> str:
    return f" (target {line.target})" if line.target else ""


def _cells(lines: Iterable[Line]) -> Iterator[tuple[str, ...]]:
    for line in lines:
        indent = "&emsp;" * ((len(line.what) - len(line.what.lstrip())) // 2)
        mark = MARKS[line.held]
        yield (
            indent + line.what.lstrip(),
            line.measured,
            line.target,
            f"**{mark}**" if mark == "missed" else mark,
        )


def _contest(facts: Facts) -> str:
    """Who was compared, how it was run, and what it brought."""
    head = ("", "version", "drained, /s", "pickup, ms", "idle CPU, s/min", "keeps", "how it was run")
    return _table(head, [_our_row(facts["ours"]), *(_row(*item) for item in facts["theirs"].items())])


def _our_row(facts: Facts) -> tuple[str, ...]:
    rates, began = str(Spread.of(facts["per_second"])), _pickup(facts["pickup_ms"])
    return f"**{OURS}**", "", rates, began, "see above", "the result", f"runworkers --n {EXECUTORS}"


def _row(name: str, facts: Facts) -> tuple[str, ...]:
    version = facts.get("version", "")
    if "failed" in facts:
        return name, version, f"failed: {facts['failed']}", "", "", facts["keeps"], facts["settings"]
    return (
        name,
        version,
        str(Spread.of(facts["per_second"])),
        _pickup(facts["pickup_ms"]),
        f"{facts['idle_cpu_seconds_per_minute']:.1f}",
        facts["keeps"],
        facts["settings"],
    )


def _pickup(runs: Sequence[Facts]) -> str:
    found = Latencies.of(runs)
    return f"p50 {found.p50.middle:.1f}, p99 {found.p99.middle:.1f}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    shown = (" | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) for row in rows)
    return "\n".join(
        (f"| {' | '.join(head)} |", "| --- " * len(head) + "|", *(f"| {row} |" for row in shown), "")
    )


def bars(facts: Facts) -> dict[str, list[dict[str, object]]]:
    """What the plot shows: for each database the drains, ours first, and the better raw floor."""
    found = {TITLES[name]: _bars(name, its["found"]) for name, its in facts["databases"].items()}
    return {title: given for title, given in found.items() if given}


def _bars(database: str, found: Facts) -> list[dict[str, object]]:
    shown = []
    drain, peers = found.get("drain", {}), found.get("peers", {})
    if "raw_per_second" in drain:
        floors = [Spread.of(given) for given in drain["raw_per_second"].values()]
        shown.append(_bar(f"raw {DRIVERS[database]}", "raw", max(floors, key=lambda floor: floor.middle)))
    if ours := peers.get("ours", drain).get("per_second"):
        shown.append(_bar(OURS, "ours", Spread.of(ours)))
    theirs = {name: its["per_second"] for name, its in peers.get("theirs", {}).items() if "failed" not in its}
    return [*shown, *(_bar(name, "peer", Spread.of(rates)) for name, rates in theirs.items())]


def _bar(name: str, kind: str, rates: Spread) -> dict[str, object]:
    return {
        "name": name,
        "kind": kind,
        "middle": rates.middle,
        "least": min(rates.values),
        "most": max(rates.values),
    }
