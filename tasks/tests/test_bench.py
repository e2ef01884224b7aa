"""That the measuring tools work: what they say of the service is for people to judge."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from bench.chaos.facts import Change, EndedAttempt, Facts, Note, Row
from bench.chaos.verdict import breaches
from bench.samples import Latency, Spread

# One task that was acknowledged, paused, run again beside its first run, and completed.
ROW = Row(
    id="a1",
    title="client-1-1",
    status="completed",
    attempt=2,
    max_attempts=100,
    fence=2,
    crashes=0,
    releases=0,
    result="2",
    error=None,
)
CLAIM = Change(
    task_id="a1",
    at=1.0,
    old_status="pending",
    status="processing",
    old_fence=0,
    fence=1,
    old_attempt=0,
    attempt=1,
)
LAPSE = replace(CLAIM, at=8.0, old_status="processing", status="pending", old_fence=1, old_attempt=1)
SECOND_CLAIM = replace(CLAIM, at=9.0, old_fence=1, fence=2, old_attempt=1, attempt=2)
COMPLETION = replace(SECOND_CLAIM, at=9.5, old_status="processing", status="completed", old_fence=2)
START = Note(kind="start", at=1.1, task_id="a1", fence=1, pid=10)
SECOND_START = replace(START, at=9.1, fence=2, pid=11)
OVERLAP = replace(SECOND_START, kind="overlap", other="1")
END = replace(SECOND_START, kind="end", at=9.4)
FACTS = Facts(
    lease_seconds=5.0,
    sent=frozenset({"client-1-1", "client-1-2"}),
    acknowledged={"a1": "client-1-1"},
    answers={("POST", "201"): 1, ("POST", "503"): 1, ("GET", "200"): 1, ("GET", "none"): 1},
    rows={"a1": ROW},
    changes=[CLAIM, LAPSE, SECOND_CLAIM, COMPLETION],
    notes=[START, SECOND_START, OVERLAP, END],
    attempts=[EndedAttempt(task_id="a1", fence=1, outcome="lapsed", at=8.0)],
    pauses=[(1.2, 8.9)],
    trouble=[],
)


def test_what_may_happen_is_no_breach() -> None:
    assert breaches(FACTS) == []


def row(**fields: Any) -> dict[str, Any]:
    return {"rows": {"a1": replace(ROW, **fields)}}


BROKEN: dict[str, dict[str, Any]] = {
    "lost": {"rows": {}},
    "another's title": row(title="client-1-2"),
    "unfinished": row(status="pending"),
    "failed for no reason": row(status="failed", error="{}"),
    "failed before its third crash": row(status="failed", crashes=2, error="TaskCrashed"),
    "not asked for": {"sent": frozenset()},
    "two for one": {"rows": {"a1": ROW, "a2": replace(ROW, id="a2")}},
    "runs without a row": {"notes": [*FACTS.notes, replace(START, task_id="a2")]},
    "back from the end": {"changes": [*FACTS.changes, replace(LAPSE, old_status="completed")]},
    "deleted": {"changes": [*FACTS.changes, replace(COMPLETION, old_status="completed", status="deleted")]},
    "fence not raised": {"changes": [replace(CLAIM, fence=0), *FACTS.changes[1:]]},
    "fence lowered": {"changes": [*FACTS.changes[:3], replace(COMPLETION, fence=1)]},
    "completed twice": {"changes": [*FACTS.changes, COMPLETION]},
    "completed by a stale run": row(result="1"),
    "completed without a run": {"notes": FACTS.notes[:3]},
    "one lease run twice": {"notes": [*FACTS.notes, SECOND_START]},
    "overlap without a lapse": {"attempts": []},
    "overlap without a pause": {"pauses": []},
    "overlap after a short pause": {"pauses": [(1.2, 2.0)]},
    "overlap long after a pause": {"pauses": [(-20.0, -10.0)]},
    "a run that nobody counted": row(attempt=1),
    "more attempts than allowed": row(max_attempts=1),
    "an answer of 500": {"answers": {("POST", "500"): 1}},
    "not found after 201": {"answers": {("GET", "404"): 1}},
    "left over": {"trouble": ["left over at the end: pid 10"]},
    "damaged": {"integrity": "row 7 missing from index"},
}


@pytest.mark.parametrize("wrong", BROKEN.values(), ids=BROKEN)
def test_whatever_must_not_happen_is_a_breach(wrong: dict[str, Any]) -> None:
    assert breaches(replace(FACTS, **wrong))


def test_a_task_may_fail_that_was_killed_three_times() -> None:
    failed = replace(ROW, status="failed", crashes=3, error='{"type": "tasks.errors.TaskCrashed"}')

    assert breaches(replace(FACTS, rows={"a1": failed})) == []


def test_percentiles_are_of_all_samples() -> None:
    latency = Latency.of([number * 1_000_000 for number in range(100, 0, -1)])

    assert (latency.p50, latency.p99, latency.max) == (51, 100, 100)


def test_a_spread_names_its_middle_and_its_ends() -> None:
    assert str(Spread((3000.0, 1000.0, 2000.0))) == "2,000 (1,000 to 3,000)"


def test_a_spread_shows_one_number_where_all_runs_agree() -> None:
    assert f"{Spread((1.25, 1.25)):.1f}" == "1.2"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, cwd=settings.BASE_DIR, capture_output=True, text=True, timeout=110)


@pytest.mark.slow
@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_a_benchmark_measures_real_processes(tmp_path: Path, database: str) -> None:
    file = tmp_path / "facts.json"
    small = ("--only", "drain", "--tasks", "500", "--runs", "1")

    ended = run("bench", *small, "--databases", database, "--json", str(file))

    assert ended.returncode == 0, ended.stderr
    assert "drain of 500 no-op tasks" in ended.stdout
    found = json.loads(file.read_text())["databases"][database]["found"]
    assert found["drain"]["per_second"]["median"] > 0
    assert found["drain"]["raw_per_second"]["50"]["median"] > 0


@pytest.mark.slow
def test_the_service_holds_under_fire() -> None:
    ended = run("bench.chaos", "--seconds", "5")

    assert ended.returncode == 0, ended.stdout + ended.stderr
