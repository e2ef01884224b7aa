"""The service under fire: nothing of what it promises breaks, and what would break it is found."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE, STDOUT

import pytest
from django.conf import settings

from bench.chaos.__main__ import BROKEN, HELD, SKIPPED
from bench.chaos.parts import Part, expect_alive
from bench.chaos.profiles import PROFILES
from bench.chaos.verdict import UNKNOWN, VIOLATED
from bench.service import Failed
from tasks.tests.conftest import KIND
from tasks.tests.seeded.bugs import BUGS

SEED = 6  # of the runs that everybody makes; `make chaos` chooses another each time
# small, and all at once: what a minute can hold besides the run that must find nothing
TOGETHER = (
    "key-not-honoured",
    "cancel-lies",
    "backoff-ignored",
    "too-many-attempts",
    "begun-before-its-time",
)
OTHERS = [
    name
    for name, profile in PROFILES.items()
    if profile.must and KIND in profile.databases and name != "short"
]
OF_BOTH = pytest.mark.usefixtures("own_databases")  # so that PostgreSQL's run has it too


def chaos(module: str, *arguments: str, file: Path, within: float) -> tuple[int, dict[str, str], str]:
    """The exit code, the words of the verdict, and what was printed. Fails with that without a verdict."""
    file.unlink(missing_ok=True)  # of the run before
    command = [sys.executable, "-m", module, *arguments, "--database", KIND, "--json", str(file)]
    env = {**os.environ, "TMPDIR": str(file.parent)}  # what is kept for people to look at goes with the test
    try:
        ended = subprocess.run(
            command, cwd=settings.BASE_DIR, env=env, stdout=PIPE, stderr=STDOUT, text=True, timeout=within
        )
    except subprocess.TimeoutExpired as late:
        pytest.fail(f"no verdict within {within:g} s: {(late.output or b'').decode()}")
    if ended.returncode == SKIPPED:
        return SKIPPED, {}, ended.stdout
    assert file.exists(), f"no verdict, exit code {ended.returncode}: {ended.stdout}"
    return ended.returncode, json.loads(file.read_text()), ended.stdout


def test_a_part_that_falls_before_it_is_harmed_ends_the_run_with_what_it_said(tmp_path: Path) -> None:
    (tmp_path / "worker-1.log").write_text("no such attribute")
    fallen = subprocess.Popen([sys.executable, "-c", "raise SystemExit(7)"])
    fallen.wait()

    with pytest.raises(Failed, match="worker-1 ended by itself, exit code 7\nno such attribute"):
        expect_alive([Part("worker-1", lambda: fallen, fallen)], tmp_path)


@OF_BOTH
@pytest.mark.timeout(240)
def test_what_is_promised_holds_under_fire(tmp_path: Path) -> None:
    code, words, told = chaos("bench.chaos", "--seed", str(SEED), file=tmp_path / "verdict", within=230)

    assert code == HELD, told
    assert not [rule for rule in PROFILES["short"].must if words[rule] == UNKNOWN], told


@OF_BOTH
@pytest.mark.timeout(300)
def test_several_bugs_at_once_are_each_found_by_their_rule(tmp_path: Path) -> None:
    """A run of seconds may have no case of one of them: three are to have one of each."""
    wanted, found = {BUGS[bug].breaks for bug in TOGETHER}, set[str]()
    for seed in range(SEED, SEED + 3):
        arguments = (",".join(TOGETHER), "--profile", "calm", "--seconds", "8", "--patience", "12")
        given = (*arguments, "--seed", str(seed))
        code, words, told = chaos("tasks.tests.seeded", *given, file=tmp_path / "verdict", within=95)
        assert code == BROKEN, told
        found |= {rule for rule in words if words[rule] == VIOLATED}
        if wanted <= found:
            break

    assert wanted <= found, told


@pytest.mark.slow
@OF_BOTH
@pytest.mark.timeout(480)
@pytest.mark.parametrize("name", [name for name in BUGS if KIND in BUGS[name].databases])
def test_each_bug_is_found_by_its_rule(name: str, tmp_path: Path) -> None:
    """Some need a coincidence, such as a run elsewhere when a worker wakes: three runs are to have one."""
    bug, words = BUGS[name], dict[str, str]()
    for seed in range(SEED, SEED + 3):
        arguments = (name, "--profile", bug.profile, "--patience", "12", "--seed", str(seed))
        _, words, told = chaos("tasks.tests.seeded", *arguments, file=tmp_path / "verdict", within=150)
        if words[bug.breaks] == VIOLATED:
            break

    assert words[bug.breaks] == VIOLATED, told


@pytest.mark.slow
@OF_BOTH
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", OTHERS)
def test_each_profile_holds(name: str, tmp_path: Path) -> None:
    code, words, told = chaos("bench.chaos", "--profile", name, file=tmp_path / "verdict", within=580)

    if code == SKIPPED:
        pytest.skip(told)
    assert code == HELD, told
    assert not [rule for rule in PROFILES[name].must if words[rule] == UNKNOWN], told
