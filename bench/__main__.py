"""``python -m bench``: measure, and print tables; see ``--help``."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from bench import machine, measures, page
from bench.databases import TITLES, kind_named
from bench.options import Options, arguments
from bench.peers.contest import PYTHON
from bench.report import Facts, table
from bench.service import ROOT


def main() -> None:
    given = arguments()
    if given.source:
        facts = json.loads(given.source.read_text())
    else:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
        options = Options(tasks=given.tasks, runs=given.runs, rows=given.rows)
        facts = measured(given.databases, given.only, options, given.json)
    show(facts)
    if given.write:
        write(facts, given.write)
    sys.exit(measures.has_failed(facts))


def measured(
    databases: tuple[str, ...], names: tuple[str, ...], options: Options, file: Path | None
) -> Facts:
    began = datetime.now(UTC)
    facts: Facts = {
        "date": f"{began:%Y-%m-%d}",
        "machine": machine.facts(),
        "options": {"tasks": options.tasks, "runs": options.runs, "rows": options.rows},
        "databases": {},
    }
    for database in databases:
        with kind_named(database) as kind:
            found: Facts = {}
            facts["databases"][database] = {"version": kind.version, "found": found}
            for name in names:
                found[name] = measures.take(name, kind, options)
                facts["minutes"] = round((datetime.now(UTC) - began).total_seconds() / 60, 1)
                if file:
                    file.write_text(json.dumps(facts, indent=2) + "\n")
    return facts


def show(facts: Facts) -> None:
    print(machine.sentence(facts["machine"]))
    for database, its in facts["databases"].items():
        lines = measures.lines(database, its["found"])
        print(f"\n{TITLES[database]} {its['version']}\n")
        print(table(line for found in lines.values() for line in found))


def write(facts: Facts, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "benchmarks.md").write_text(page.page(facts))
    command = [str(PYTHON), "-m", "bench.plot", str((folder / page.PLOT).absolute())]
    subprocess.run(command, cwd=ROOT, input=json.dumps(page.bars(facts)), text=True, check=True)


if __name__ == "__main__":
    main()
