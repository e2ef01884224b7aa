"""That what the bench says is what it measured: lines, ratios and the page are made of the facts alone."""

from __future__ import annotations

import json
from argparse import ArgumentTypeError
from copy import deepcopy
from typing import Any

import pytest

from bench import measures, options, page
from bench.report import Facts, Line, at_least, at_most, table

RATE = {"median": 12_000.0, "runs": [11_000.0, 12_000.0, 13_000.0]}
LATENCY = {"samples": 100, "p50": 2.0, "p95": 3.0, "p99": 4.0, "max": 5.0}
PEER = {
    "version": "1.0",
    "settings": "3 processes",
    "keeps": "the result",
    "per_second": {"median": 400.0, "runs": [400.0, 400.0, 400.0]},
    "pickup_ms": [{**LATENCY, "p99": 4.0}],
    "idle_cpu_seconds_per_minute": 1.5,
}
FACTS: Facts = {
    "date": "2026-11-24",
    "minutes": 3.0,
    "machine": {
        "cores": 2,
        "cpu": "a CPU",
        "memory_gb": 4.0,
        "system": "Linux 6",
        "python": "3.13.0",
        "sqlite": "3.40.1",
        "folder": "/tmp",
        "file_system": "ext4",
        "load": 0.1,
    },
    "options": {"tasks": 500, "runs": 3, "rows": 6000},
    "databases": {
        "sqlite": {
            "version": "3.40.1",
            "found": {
                "drain": {
                    "flush_ms": 0.2,
                    "tasks": 500,
                    "per_second": RATE,
                    "raw_per_second": {"50": {"median": 24_000.0, "runs": [24_000.0]}},
                    "leases_per_turn": 50.0,
                    "cpu_seconds_per_1000": {"loop": 0.01, "ledger": 0.02, "executors": 0.03},
                },
                "pickup": {"flush_ms": 0.4, "enqueue_ms": [LATENCY], "http_ms": [LATENCY]},
                "peers": {
                    "flush_ms": 0.3,
                    "ours": {"per_second": RATE, "pickup_ms": [LATENCY]},
                    "theirs": {"django-tasks-db": PEER, "Huey": PEER},
                },
            },
        }
    },
}


def changed(*path: str, to: Any) -> Facts:
    facts = deepcopy(FACTS)
    place: Any = facts["databases"]["sqlite"]["found"]
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = to
    return facts


def lines(facts: Facts) -> dict[str, Line]:
    found = measures.lines("sqlite", facts["databases"]["sqlite"]["found"])
    return {line.what.strip(): line for given in found.values() for line in given}


def rate(median: float) -> Facts:
    return {"median": median, "runs": [median] * 3}


@pytest.mark.parametrize(("value", "held"), [(1.29, True), (1.3, True), (1.31, False)])
def test_a_target_is_held_up_to_its_very_value(value: float, held: bool) -> None:
    assert at_most("claim", value, 1.3).held is held
    assert at_least("claim", -value, -1.3).held is held


def test_a_table_marks_what_is_held_and_what_is_missed() -> None:
    shown = table([at_least("a", 2, 1), at_least("b", 1, 2), Line("c", "3")]).splitlines()

    assert [row.split()[-1] for row in shown[2:]] == ["held", "missed", "3"]


@pytest.mark.parametrize(("median", "held"), [(12_000.0, True), (11_999.0, False)])
def test_a_drain_is_judged_by_its_median(median: float, held: bool) -> None:
    facts = changed("drain", "per_second", to=rate(median))

    assert lines(facts)["drain of 500 no-op tasks, --n 3"].held is held


@pytest.mark.parametrize(
    ("peer", "theirs", "held"),
    [
        ("django-tasks-db", 400.0, True),
        ("django-tasks-db", 401.0, False),
        ("Huey", 1000.0, True),
        ("Huey", 1001.0, False),
    ],
)
def test_a_ratio_is_judged_by_the_target_of_its_peer(peer: str, theirs: float, held: bool) -> None:
    facts = changed("peers", "theirs", peer, to={**PEER, "per_second": rate(theirs)})

    assert lines(facts)[f"our drain / that of {peer}"].held is held


@pytest.mark.parametrize(("p99", "held"), [(4.0, True), (3.9, False)])
def test_pickup_is_compared_with_the_best_of_the_peers(p99: float, held: bool) -> None:
    facts = changed("peers", "theirs", "Huey", to={**PEER, "pickup_ms": [{**LATENCY, "p99": p99}]})

    assert lines(facts)["our pickup p99, beside the best of theirs"].held is held


def test_a_ratio_is_of_what_ran_in_the_same_round() -> None:
    twice_as_slow_in_the_end = {"median": 366.0, "runs": [366.6, 400.0, 200.0]}
    facts = changed("peers", "theirs", "Huey", to={**PEER, "per_second": twice_as_slow_in_the_end})

    assert lines(facts)["our drain / that of Huey"].measured == "30.0 (30.0 to 65.0) times"


def test_a_peer_that_fails_says_so_and_the_others_stay() -> None:
    broken = {"settings": "3 processes", "keeps": "the result", "failed": "Failed: a worker has ended"}
    facts = changed("peers", "theirs", "Huey", to=broken)

    text = page.page(facts)

    assert "| Huey |  | failed: Failed: a worker has ended |" in text
    assert "our drain / that of django-tasks-db" in text
    assert measures.has_failed(facts)


def test_a_measure_that_fails_says_so_and_counts_as_missed() -> None:
    facts = changed("pickup", to={"flush_ms": 0.1, "failed": "Failed: not within 60 s: all tasks finished"})

    found = measures.lines("sqlite", facts["databases"]["sqlite"]["found"])

    assert found["pickup"] == [
        Line("pickup", "failed: Failed: not within 60 s: all tasks finished", held=False)
    ]
    assert measures.has_failed(facts)


def test_a_figure_that_misses_its_target_is_no_failure() -> None:
    assert not measures.has_failed(changed("drain", "per_second", to=rate(1.0)))


def test_the_page_begins_with_every_target_that_was_missed() -> None:
    text = page.page(changed("drain", "per_second", to=rate(11_999.0)))

    summary, _, _ = text.partition("## SQLite")
    assert "- **SQLite**: 4 of 5 targets held, missed:" in summary
    assert "drain of 500 no-op tasks, --n 3: 11,999 /s (target ≥ 12,000 /s)" in summary
    assert "our drain" not in summary


def test_the_page_says_where_how_often_and_how_durably_was_measured() -> None:
    text = page.page(FACTS)

    for words in (
        "2026-11-24",
        "2 cores (a CPU)",
        "3 runs",
        "500 tasks a drain",
        "0.20 to 0.40 ms",
        "synchronous=FULL",
    ):
        assert words in text


def test_saved_facts_make_the_same_page() -> None:
    assert page.page(json.loads(json.dumps(FACTS))) == page.page(FACTS)


def test_the_plot_shows_raw_ours_and_every_peer_that_was_drained() -> None:
    facts = changed("peers", "theirs", "Huey", to={"settings": "", "keeps": "", "failed": "Failed: no"})

    [bars] = page.bars(facts).values()

    assert [bar["name"] for bar in bars] == ["raw sqlite3", page.OURS, "django-tasks-db"]
    assert bars[1] == {
        "name": page.OURS,
        "kind": "ours",
        "middle": 12_000.0,
        "least": 11_000.0,
        "most": 13_000.0,
    }


def test_names_are_taken_in_the_order_of_the_table() -> None:
    assert options.measures("peers, drain,peers") == ("drain", "peers")


@pytest.mark.parametrize("text", ["drains", "", "drain,"])
def test_a_name_that_nobody_knows_is_refused(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="no such name"):
        options.measures(text)
