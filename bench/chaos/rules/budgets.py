"""How often a task may run, and how long it waits in between."""

from __future__ import annotations

from collections.abc import Iterator

from bench.chaos.facts import Change, EndedAttempt, Facts
from bench.chaos.kinds import BACKOFF
from bench.chaos.rules.case import CLOCK_SECONDS, Case, Rule
from tasks.decide import CRASH_BUDGET, FREE_RELEASES

WAITS = ("failed", "crashed", "timed-out")  # outcomes that another attempt has to wait after
STEPS = 20  # of the backoff, by which it has come to its maximum
COSTS = (*WAITS, "lapsed")  # that an attempt


def every_claim_counts(facts: Facts) -> Iterator[Case]:
    """A claim uses an attempt, which only a release gives back; and nothing runs without a claim."""
    for change in facts.changes:
        if change.old_status == "pending" and change.status == "processing":
            yield Case(change.task_id, _miscounted(change, change.old_attempt + 1))
        elif change.attempt != change.old_attempt and change.old_status:
            yield Case(change.task_id, _ill_given_back(facts, change))
    for note in facts.notes:
        if note.kind == "start" and (claim := facts.claims.get((note.task_id, note.fence))):
            yield Case(note.task_id, _miscounted(claim, note.attempt))
        elif note.kind == "start" and note.task_id in facts.rows:
            yield Case(note.task_id, f"ran under fence {note.fence}, which no claim has given out")


def _miscounted(claim: Change, expected: int) -> str:
    found = claim.attempt
    return "" if found == expected else f"claim {claim.fence} is attempt {found}, and should be {expected}"


def _ill_given_back(facts: Facts, change: Change) -> str:
    outcome = facts.outcomes.get((change.task_id, change.old_fence))
    if outcome is not None and outcome.outcome in COSTS:
        return f"attempt {change.old_attempt} has {outcome.outcome}, and was given back"
    if not change.ends or change.attempt != change.old_attempt - 1:
        move = f"{change.old_status} to {change.status}"
        return f"its attempts went from {change.old_attempt} to {change.attempt}, {move}"
    return ""


def max_attempts(facts: Facts) -> Iterator[Case]:
    """No more attempts than it may have, until somebody retries it; a case is one that came so far."""
    for task_id, changes in facts.changes_of.items():
        row = facts.rows.get(task_id)
        before = 0
        for change in changes:
            before = change.attempt if change.retries else before
            if row is None or not change.claims:
                continue
            used = change.attempt - before
            if used >= row.max_attempts:
                over = f"was claimed for attempt {used} of {row.max_attempts}"
                yield Case(task_id, over if used > row.max_attempts else "")


def free_releases(facts: Facts) -> Iterator[Case]:
    """A run that a shutdown hands back is free, and not more than ten times."""
    for row in facts.rows.values():
        if row.releases:
            billed = any(it.outcome == "released" for it in facts.attempts_of.get(row.id, ()))
            free = row.releases > FREE_RELEASES and not billed
            yield Case(row.id, f"was handed back {row.releases} times for nothing" if free else "")


def backoff(facts: Facts) -> Iterator[Case]:
    """After a failure the next attempt waits for its backoff."""
    for attempt in facts.attempts:
        claim = facts.claims.get((attempt.task_id, attempt.fence + 1))
        if attempt.outcome in WAITS and claim is not None:
            before = _retried_at_attempt(facts, attempt, claim)
            if before is not None:
                yield Case(attempt.task_id, _hurried(attempt, claim, attempt.number - before))


def _retried_at_attempt(facts: Facts, attempt: EndedAttempt, claim: Change) -> int | None:
    """How many attempts were made before its budget began; None: somebody retried it in between."""
    before = 0
    for change in facts.changes_of[attempt.task_id]:
        if change is claim:
            return before
        if change.retries:
            if change.fence >= attempt.fence:
                return None
            before = change.attempt
    return before


def _hurried(attempt: EndedAttempt, claim: Change, used: int) -> str:
    least = min(BACKOFF.max, BACKOFF.initial * BACKOFF.factor ** min(used - 1, STEPS)).total_seconds() / 2
    waited = claim.claimed_at - attempt.at
    if waited < least - CLOCK_SECONDS:
        return f"was claimed {waited:.3f} s after its attempt {used} {attempt.outcome}, and not {least:g} s"
    return ""


def crashes(facts: Facts) -> Iterator[Case]:
    """Each seen crash counts, and the third one is the last."""
    for attempt in facts.attempts:
        end = facts.ends.get((attempt.task_id, attempt.fence))
        if attempt.outcome != "crashed" or end is None:
            continue
        if end.crashes != end.old_crashes + 1:
            yield Case(attempt.task_id, f"crashed under fence {attempt.fence}, and that was not counted")
        elif end.crashes >= CRASH_BUDGET and end.status == "pending":
            yield Case(attempt.task_id, f"has crashed {end.crashes} times, and is to run again")
        else:
            yield Case(attempt.task_id)


RULES: tuple[Rule, ...] = (every_claim_counts, max_attempts, free_releases, backoff, crashes)
