"""The checker of the chaos run finds what must not happen, and says "unknown" where it has seen nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from bench.chaos.facts import EVERYBODY, Facts, Fault, Life, Survival
from bench.chaos.profiles import PROFILES
from bench.chaos.rules import NAMES
from bench.chaos.verdict import OK, UNKNOWN, evidence, judge, missing, table, violated
from tasks.tests.chaos_tale import FAULTS, FIRST, LIVES, SECOND, THIRD, facts_of, stories, worker_id

FACTS = facts_of(stories())


def words(facts: Facts) -> dict[str, str]:
    return {verdict.rule: verdict.word for verdict in judge(facts)}


def varied(what: str, things: Any) -> Facts:
    fields: dict[str, Any] = {what: things}
    return replace(FACTS, **fields)


def changed(what: str, **where: Any) -> Callable[..., Facts]:
    """The facts with other fields in all that match."""

    def facts(**fields: Any) -> Facts:
        def matches(thing: Any) -> bool:
            return all(getattr(thing, name) == value for name, value in where.items())

        found = getattr(FACTS, what)
        assert any(map(matches, found)), where
        return varied(what, [replace(it, **fields) if matches(it) else it for it in found])

    return facts


def without(what: str, **where: Any) -> Facts:
    left = [it for it in getattr(FACTS, what) if any(getattr(it, name) != where[name] for name in where)]
    assert len(left) < len(getattr(FACTS, what)), where
    return varied(what, left)


def with_more(what: str, *things: Any) -> Facts:
    return varied(what, [*getattr(FACTS, what), *things])


def row(task_id: str, **fields: Any) -> Facts:
    return replace(FACTS, rows={**FACTS.rows, task_id: replace(FACTS.rows[task_id], **fields)})


def change_of(task_id: str, **where: Any) -> Any:
    found = [
        it for it in FACTS.changes_of[task_id] if all(getattr(it, name) == where[name] for name in where)
    ]
    return found[-1]


def reopened() -> Facts:
    done = change_of("a1", status="completed")
    return with_more("changes", replace(done, at=50, old_status="completed", status="pending"))


def completed_twice() -> Facts:
    return with_more("changes", replace(change_of("a1", status="completed"), at=50))


def claimed_once_more(task_id: str, at: float, **fields: Any) -> Facts:
    claim = change_of(task_id, status="processing")
    again = {"at": at, "claimed_at": at, "old_fence": claim.fence, "fence": claim.fence + 1}
    again |= {"old_attempt": claim.attempt, "attempt": claim.attempt + 1}
    return with_more("changes", replace(claim, **{**again, **fields}))


NO_PAUSE = tuple(fault for fault in FAULTS if fault.kind != "pause")
START = FACTS.notes_of["a1"][0]

BROKEN: dict[str, tuple[str, Facts]] = {
    "lost": ("acknowledged", replace(FACTS, rows={id_: it for id_, it in FACTS.rows.items() if id_ != "a1"})),
    "another's title": ("acknowledged", row("a1", title="quick-c-10")),
    "written after it was acknowledged": (
        "acknowledged",
        changed("changes", task_id="a1", old_status="")(at=1.9),
    ),
    "not asked for": ("invented", row("a1", title="quick-x-1")),
    "made more often than asked for": (
        "invented",
        replace(
            FACTS, rows={**FACTS.rows, **{id_: replace(FACTS.rows["a2"], id=id_) for id_ in ("c1", "c2")}}
        ),
    ),
    "runs without a row": ("invented", with_more("notes", replace(START, task_id="c1"))),
    "sent again and made twice": (
        "resent",
        replace(FACTS, rows={**FACTS.rows, "c1": replace(FACTS.rows["a1"], id="c1")}),
    ),
    "sent again and told another": ("resent", changed("asks", verb="create", sent_at=1.5)(ids=("a2",))),
    "not found after 201": ("read-back", changed("asks", verb="read")(status=404)),
    "shown as another": ("read-back", changed("asks", verb="read")(ids=("a2",))),
    "unfinished": ("finished", row("a1", status="pending")),
    "failed for no reason": ("finished", row("a1", status="failed")),
    "failed before its third crash": ("finished", row("a6", crashes=2)),
    "cancelled by nobody": ("finished", row("a2", status="cancelled")),
    "damaged": ("intact", replace(FACTS, integrity="row 7 missing from index")),
    "completed without a claim": (
        "moves",
        changed("changes", task_id="a1", status="completed")(old_status="pending"),
    ),
    "deleted": ("moves", with_more("changes", replace(change_of("a1"), at=50, status="deleted"))),
    "claimed while it runs": ("moves", claimed_once_more("a2", 8, old_status="processing")),
    "back from its end": ("no-way-back", reopened()),
    "retried twice for one wish": (
        "no-way-back",
        with_more("changes", replace(change_of("a4", status="pending"), at=50, old_status="completed")),
    ),
    "fence not raised": ("fences", changed("changes", task_id="a1", status="processing")(fence=0)),
    "fence lowered": ("fences", changed("changes", task_id="a2", status="completed")(fence=1)),
    "completed twice": ("one-completion", completed_twice()),
    "completed by a stale run": (
        "one-completion",
        changed("changes", task_id="a2", status="completed")(result="1"),
    ),
    "completed without a run": ("one-completion", without("notes", task_id="a1", kind="end")),
    "a late write": ("late-writes", changed("changes", task_id="a2", status="completed")(result="1")),
    "one lease run twice": ("one-at-a-time", with_more("notes", START)),
    "overlap without a lapse": ("one-at-a-time", without("attempts", task_id="a2")),
    "overlap without a pause": ("one-at-a-time", replace(FACTS, faults=NO_PAUSE)),
    "overlap long after a pause": (
        "one-at-a-time",
        changed("faults", kind="pause")(began=-30.0, until=-20.0),
    ),
    "overlap after somebody else's pause": ("one-at-a-time", changed("faults", kind="pause")(felt_by=SECOND)),
    "a lapse without a reason": ("leases-hold", replace(FACTS, faults=NO_PAUSE)),
    "an outcome that is lost": (
        "outcomes-arrive",
        changed("changes", task_id="a1", status="completed")(status="pending"),
    ),
    "early": ("never-early", changed("asks", run_at=5.5)(run_at=5.9)),
    "an attempt not counted": (
        "every-claim-counts",
        changed("changes", task_id="a1", status="processing")(attempt=0),
    ),
    "a failed attempt given back": (
        "every-claim-counts",
        changed("changes", task_id="a3", at=3.2)(attempt=0),
    ),
    "attempts that go up by themselves": (
        "every-claim-counts",
        changed("changes", task_id="a1", status="completed")(attempt=2),
    ),
    "a run without a claim": ("every-claim-counts", changed("notes", task_id="a1")(fence=7)),
    "a run of another attempt": ("every-claim-counts", changed("notes", task_id="a1")(attempt=2)),
    "more attempts than allowed": ("max-attempts", row("a3", max_attempts=1)),
    "handed back too often": ("free-releases", row("a9", releases=11)),
    "no backoff": ("backoff", changed("changes", task_id="a3", fence=2)(claimed_at=3.3)),
    "a crash that did not count": ("crashes", changed("changes", task_id="a7", status="pending")(crashes=0)),
    "a fourth run after three crashes": (
        "crashes",
        changed("changes", task_id="a6", status="failed")(status="pending"),
    ),
    "begun after it was cancelled": ("cancelled-for-good", without("asks", verb="retry")),
    "told cancelled and was not": (
        "cancelled-for-good",
        changed("changes", task_id="a4", status="cancelled")(at=5.0),
    ),
    "a cancel that nobody heard": (
        "cancelled-while-running",
        changed("changes", task_id="a5", status="cancelled")(at=18.0),
    ),
    "waits again after a cancel": (
        "cancelled-while-running",
        changed("changes", task_id="a5", status="cancelled")(status="pending"),
    ),
    "refused a cancel in time": ("refused", changed("asks", status=409)(sent_at=0.9, told_at=1.0)),
    "told retried and was not": ("retried", without("changes", task_id="a4", old_status="cancelled")),
    "a crash settled late": ("crashes-are-seen", changed("changes", task_id="a7", status="pending")(at=24.0)),
    "never settled": ("crashes-are-seen", without("changes", task_id="a7", at=18.7)),
    "taken back late": (
        "leases-are-taken-back",
        changed("changes", task_id="a8", old_status="processing")(at=39.0),
    ),
    "an orphan": ("no-orphans", replace(FACTS, survivals=[Survival(pid=11, worker=FIRST, seconds=5.0)])),
    "left over": ("no-orphans", replace(FACTS, left_over=["pid 10"])),
    "a stop that takes too long": (
        "clean-stops",
        replace(changed("lives", pid=THIRD)(ended_at=50.0), faults=FAULTS[:-1]),
    ),
    "a stop that fails": ("clean-stops", changed("lives", pid=THIRD)(code=1)),
    "a claim after SIGTERM": (
        "clean-stops",
        claimed_once_more("a9", 36.5, old_status="pending", worker_id=worker_id(THIRD)),
    ),
    "a stop that keeps its leases": (
        "clean-stops",
        changed("changes", task_id="a9", old_status="processing", status="pending")(at=39.0),
    ),
    "ended by itself": ("nobody-falls", changed("lives", pid=FIRST)(killed=False)),
    "an answer of 500": ("honest-answers", changed("asks", verb="read")(status=500)),
    "503 for no reason": ("honest-answers", without("faults", kind="database")),
    "503 without Retry-After": ("honest-answers", changed("asks", status=503)(retry_after=False)),
    "503 after a long time": ("quick-refusals", changed("asks", status=503)(told_at=55.0)),
    "not back after the database": (
        "back-after-the-database",
        replace(
            changed("changes", task_id="b1", status="processing")(at=55.0),
            changes=[it for it in FACTS.changes if it.at < 44.3],
        ),
    ),
}


def test_what_may_happen_is_ok_by_every_rule() -> None:
    assert words(FACTS) == dict.fromkeys(NAMES, OK), evidence(FACTS, judge(FACTS))


@pytest.mark.parametrize(("rule", "facts"), BROKEN.values(), ids=BROKEN)
def test_whatever_must_not_happen_is_found_by_its_rule(rule: str, facts: Facts) -> None:
    assert rule in violated(judge(facts))


def test_each_rule_is_broken_by_some_test() -> None:
    assert {rule for rule, _ in BROKEN.values()} == set(NAMES)


def test_a_rule_whose_case_never_came_up_is_unknown_and_not_ok() -> None:
    nothing = Facts(lease_seconds=4, grace_seconds=4, rows={})

    verdicts = judge(nothing)

    assert {it.rule: it.word for it in verdicts if it.rule != "intact"} == dict.fromkeys(
        set(NAMES) - {"intact"}, UNKNOWN
    )
    assert missing(verdicts, {"acknowledged", "intact"}) == ["acknowledged"]


@pytest.mark.parametrize("name", PROFILES)
def test_what_a_profile_must_see_are_rules(name: str) -> None:
    assert PROFILES[name].must <= set(NAMES)


@pytest.mark.parametrize("name", PROFILES)
def test_the_seed_alone_decides_what_is_done_and_when(name: str) -> None:
    profile = PROFILES[name]
    database = profile.databases[0]

    schedule = profile.schedule(7, database)

    assert schedule == profile.schedule(7, database)
    assert len(schedule) < 2 or schedule != profile.schedule(8, database)
    assert schedule == sorted(schedule, key=lambda deed: deed.at)
    assert all(deed.at < profile.seconds for deed in schedule)


def test_a_stall_of_the_machine_is_nobodys_fault() -> None:
    stall = Fault(kind="stall", who="machine", felt_by=EVERYBODY, began=2.5, until=6.0)

    assert words(replace(FACTS, faults=[*NO_PAUSE, stall])) == dict.fromkeys(NAMES, OK)


def test_a_second_run_by_a_retry_may_complete_again() -> None:
    again = stories()["a1"].retried(50).claimed(50.1, SECOND).completed(50.2)

    assert violated(judge(facts_of(stories() | {"a1": again}))) == set()


def test_a_task_without_a_worker_to_take_it_is_nobodys_fault() -> None:
    late = changed("changes", task_id="a8", old_status="processing")(at=39.0)

    alone = replace(late, lives=[life for life in LIVES if life.pid not in (SECOND, THIRD)])

    assert "leases-are-taken-back" not in violated(judge(alone))


def test_a_worker_may_refuse_to_start_without_a_database() -> None:
    refused = Life(name="worker-1", pid=40, began=42, ended_at=43, code=1)

    assert "nobody-falls" not in violated(judge(with_more("lives", refused)))
    assert "nobody-falls" in violated(judge(with_more("lives", replace(refused, began=30))))


def test_the_evidence_tells_the_story_of_the_task() -> None:
    facts = replace(FACTS, faults=NO_PAUSE)

    told = evidence(facts, judge(facts))

    assert "one-at-a-time: a2 fence 2 began while fence 1 was still running" in told
    assert "row: pending to processing, fence 1, attempt 1, crashes 0, worker 10" in told
    assert "handler, pid 21: overlap under fence 2 beside fence 1" in told


def test_the_table_has_a_line_for_each_rule_with_its_cases() -> None:
    lines = table(judge(FACTS)).splitlines()

    assert len(lines) == len(NAMES)
    assert lines[0].split()[:3] == ["acknowledged", OK, "12"]
