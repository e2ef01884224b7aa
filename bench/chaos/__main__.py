"""``python -m bench.chaos``: do harm for a while, let it settle, and judge; see ``--help``."""

from __future__ import annotations

import argparse
import json
import secrets
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from bench.chaos import verdict, witness
from bench.chaos.deeds import Harm
from bench.chaos.facts import Facts
from bench.chaos.places import Impossible, Place, place_named
from bench.chaos.profiles import PROFILES, Profile
from bench.chaos.scene import GRACE_SECONDS, LEASE_SECONDS, Scene, adopt_orphans, environment
from bench.databases import NAMES
from bench.service import Failed, Service, wait_until

STEP = 0.05

# exit codes
HELD, BROKEN, NOT_SEEN, FAILED, SKIPPED = 0, 1, 3, 4, 77


def main(arguments: Sequence[str] | None = None, *, more: Mapping[str, str] | None = None) -> int:
    """``more`` variables for the service."""
    options = parsed(arguments)
    profile = replace(PROFILES[options.profile], **options.changed)
    if options.database not in profile.databases:
        print(f"chaos: SKIPPED: the profile {options.profile} is for {', '.join(profile.databases)}")
        return SKIPPED
    folder = Path(tempfile.mkdtemp(prefix="taskservice-chaos-"))
    print(f"chaos: seed {options.seed}, {options.profile} on {options.database}, in {folder}", flush=True)
    try:
        with place_named(options.database, folder, small=profile.small_disk) as place:
            facts, done = run(profile, place, folder, options.seed, more or {})
    except Impossible as reason:
        shutil.rmtree(folder)
        print(f"chaos: SKIPPED: {reason}")
        return SKIPPED
    except Failed as reason:
        print(f"chaos: FAILED, and says nothing: {reason}\neverything is kept in {folder}")
        return FAILED
    print(f"  done to it: {done}\n  {summary(facts)}")
    return report(facts, profile, folder, options.json, keep=options.keep)


def run(
    profile: Profile, place: Place, folder: Path, seed: int, more: Mapping[str, str]
) -> tuple[Facts, str]:
    adopt_orphans()
    with socket.create_server(("127.0.0.1", 0), backlog=2048) as listener:
        service = Service(folder, {**place.variables, **environment(str(folder), more)}, place.database)
        service.migrate()
        place.watch()
        scene = Scene(service, place, listener, seed)
        try:
            harm = rage(scene, profile, seed)
        finally:
            scene.destroy()
            (folder / "journal").write_text("\n".join(scene.journal) + "\n")
    return gathered(scene), ", ".join(f"{name} {count}" for name, count in harm.done.most_common())


def rage(scene: Scene, profile: Profile, seed: int) -> Harm:
    scene.open(profile.tasks, profile.threads)
    harm = Harm(scene, profile.schedule(seed, scene.place.kind), rest=profile.rest)
    began = time.monotonic()
    while profile.goes_on(time.monotonic() - began, busy=harm.left or scene.suffers):
        harm.strike_when_due()
        scene.tick()
        time.sleep(STEP)
    scene.tell("peace")
    scene.hush()
    try:
        wait_until(scene.settled, "all tasks finished", patience=profile.patience)
        scene.close()
    except Failed as failure:
        scene.tell(str(failure))
        scene.lives += [part.life() for part in scene.parts if part.alive]
    return harm


def gathered(scene: Scene) -> Facts:
    rows, kind = scene.place.database.rows, scene.place.kind
    return Facts(
        lease_seconds=LEASE_SECONDS,
        grace_seconds=GRACE_SECONDS,
        asks=witness.asks_in(scene.service.folder),
        rows=witness.rows_from(rows(witness.TASKS)),
        changes=witness.changes_from(rows(witness.CHANGES)),
        notes=witness.notes_in(scene.service.folder),
        attempts=witness.attempts_from(rows(witness.ATTEMPTS_OF[kind])),
        faults=scene.faults,
        lives=scene.lives,
        survivals=scene.survivals,
        left_over=scene.left_over,
        integrity=scene.place.integrity(),
    )


def summary(facts: Facts) -> str:
    told = [ask.status for ask in facts.asks]
    runs = sum(note.kind == "start" for note in facts.notes)
    overlaps = sum(note.kind == "overlap" for note in facts.notes)
    return (
        f"{len(told)} requests, {told.count(503)} answered 503, {told.count(0)} not at all; "
        f"{len(facts.rows)} tasks, {runs} runs, {overlaps} overlaps, {len(facts.changes)} changes of rows"
    )


def report(facts: Facts, profile: Profile, folder: Path, file: Path | None, *, keep: bool) -> int:
    verdicts = verdict.judge(facts)
    print(verdict.table(verdicts))
    if file is not None:
        file.write_text(json.dumps({it.rule: it.word for it in verdicts}))
    if verdict.violated(verdicts):
        print(f"VIOLATED; everything is kept in {folder}\n{verdict.evidence(facts, verdicts)}")
        return BROKEN
    if absent := verdict.missing(verdicts, profile.must):
        print(f"NOT SEEN: no case of {', '.join(absent)}; everything is kept in {folder}")
        return NOT_SEEN
    if not keep:
        shutil.rmtree(folder)
    return HELD


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    profiles = "".join(f"\n  {name:<14} {profile.says}" for name, profile in PROFILES.items())
    parser = argparse.ArgumentParser(
        prog="python -m bench.chaos",
        description="Harms an API and two workers while clients ask for tasks, and checks what must hold.",
        epilog=f"profiles:{profiles}\n\nexit codes: 0 held; 1 violated; 3 a case that the profile is made for"
        " did not come up; 4 the run itself failed; 77 skipped",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--profile", choices=PROFILES, default="short")
    parser.add_argument("--database", choices=NAMES, default="sqlite")
    parser.add_argument(
        "--seed",
        type=int,
        default=secrets.randbelow(10_000),
        help="chooses the same deeds again (default: any)",
    )
    parser.add_argument("--seconds", type=float, help="of harm, instead of the profile's")
    parser.add_argument("--patience", type=float, help="seconds in which all tasks have to finish afterwards")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the verdicts there")
    parser.add_argument("--keep", action="store_true", help="what was seen, even if all held")
    options = parser.parse_args(arguments)
    given = {name: getattr(options, name) for name in ("seconds", "patience")}
    options.changed = {name: value for name, value in given.items() if value is not None}
    return options


if __name__ == "__main__":
    sys.exit(main())
