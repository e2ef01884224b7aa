"""``python -m bench.chaos``: do harm for a while, let it settle, and judge; see ``--help``."""

from __future__ import annotations

import argparse
import random
import secrets
import shutil
import socket
import sys
import tempfile
import time
from pathlib import Path

from bench.chaos import verdict
from bench.chaos.facts import Facts, gather, install_witness
from bench.chaos.killer import NAMES, Killer
from bench.chaos.scene import LEASE_SECONDS, Scene, adopt_orphans, variables
from bench.service import Failed, Service, wait_until

SETTLE_SECONDS = 90.0
STEP = 0.05
SHOWN = 10  # breaches, with their evidence


def main() -> None:
    options = arguments()
    adopt_orphans()
    folder = Path(tempfile.mkdtemp(prefix="taskservice-chaos-"))
    print(f"chaos: seed {options.seed}, {options.seconds:g} s, in {folder}", flush=True)
    with socket.create_server(("127.0.0.1", 0), backlog=2048) as listener:
        service = Service(folder, variables(str(folder)))
        service.migrate()
        install_witness(service)
        scene = Scene(service, listener, options.seed)
        killer = Killer(scene, random.Random(options.seed), options.deeds)
        try:
            rage(scene, killer, options.seconds)
        finally:
            scene.destroy()
            (folder / "deeds").write_text("\n".join(scene.journal.deeds) + "\n")
    found = facts_of(scene)
    print(summary(found, killer))
    sys.exit(judge(found, folder))


def rage(scene: Scene, killer: Killer, seconds: float) -> None:
    scene.open()
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        killer.strike_when_due()
        scene.tick()
        time.sleep(STEP)
    scene.journal.tell("peace")
    scene.hush()
    try:
        wait_until(scene.settled, "all tasks finished", patience=SETTLE_SECONDS)
        scene.close()
    except Failed as failure:
        scene.journal.accuse(str(failure))


def facts_of(scene: Scene) -> Facts:
    return gather(
        scene.service,
        lease_seconds=LEASE_SECONDS,
        pauses=[(pause.began, pause.until) for pause in scene.pauses],
        trouble=scene.journal.trouble,
    )


def summary(facts: Facts, killer: Killer) -> str:
    rows = facts.rows.values()
    starts = sum(note.kind == "start" for note in facts.notes)
    asked = {status: count for (method, status), count in facts.answers.items() if method == "POST"}
    deeds = ", ".join(f"{name} {count}" for name, count in killer.done.most_common())
    return "\n".join(
        (
            f"  done to it  {killer.done.total()}: {deeds}",
            f"  requests    {asked.get('201', 0)} acknowledged, {asked.get('503', 0)} refused with 503, "
            f"{asked.get('none', 0)} without an answer",
            f"  tasks       {sum(row.status == 'completed' for row in rows)} completed, "
            f"{sum(map(verdict.died_of_kills, rows))} failed after {verdict.CRASH_BUDGET} kills, "
            f"{starts} runs, {len(verdict.overlaps(facts))} overlaps",
        )
    )


def judge(facts: Facts, folder: Path) -> int:
    """The exit code: 1, with the evidence, if anything is broken."""
    found = verdict.breaches(facts)
    if not found:
        shutil.rmtree(folder)
        print("  held: nothing lost, nothing invented, nothing done twice, nobody left over")
        return 0
    print(f"BROKEN: {len(found)} times; everything is kept in {folder}")
    for task_id, sentence in found[:SHOWN]:
        print(f"- {task_id} {sentence}")
        for line in verdict.story_of(facts, task_id) if task_id else ():
            print(f"    {line}")
    return 1


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.chaos",
        description="Kills, stops and restarts an API and two workers at random while clients ask for tasks.",
    )
    parser.add_argument("--seconds", type=float, default=30, metavar="N", help="of harm (default: 30)")
    parser.add_argument(
        "--seed",
        type=int,
        default=secrets.randbelow(10_000),
        metavar="N",
        help="chooses the same deeds again, though not to the millisecond (default: any)",
    )
    parser.add_argument(
        "--deeds", type=deeds, default=NAMES, metavar="A,B", help=f"of {', '.join(NAMES)} (default: all)"
    )
    return parser.parse_args()


def deeds(text: str) -> list[str]:
    given = text.split(",")
    if strangers := set(given) - set(NAMES):
        raise argparse.ArgumentTypeError(f"no such deed: {', '.join(sorted(strangers))}")
    return given


if __name__ == "__main__":
    main()
