"""That the measuring tools work: what they say of the service is for people to judge."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings

from bench.samples import Latency, Spread


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
