"""What clients were told of a cancel or a retry is true."""

from __future__ import annotations

from collections.abc import Iterator

from bench.chaos.facts import FINISHED_VALUES, NEVER, Ask, Facts
from bench.chaos.rules.case import CLOCK_SECONDS, SLACK_SECONDS, Case, Rule

SEEN_SECONDS = 1.0  # in which a running task hears that it is to stop


def cancelled_for_good(facts: Facts) -> Iterator[Case]:
    """Told that it is cancelled: no attempt begins afterwards."""
    for ask in facts.asks:
        if ask.verb == "cancel" and ask.status == 200:
            yield Case(ask.task_id, _goes_on(facts, ask))


def _goes_on(facts: Facts, ask: Ask) -> str:
    until = _next_retry(facts, ask)
    begun = [it for it in facts.notes_of.get(ask.task_id, ()) if it.kind == "start"]
    later = [note for note in begun if ask.told_at < note.at < until]
    if later:
        return f"fence {later[0].fence} began {later[0].at - ask.told_at:.3f} s after it was told cancelled"
    statuses = facts.statuses_between(ask.task_id, ask.sent_at, ask.told_at + CLOCK_SECONDS)
    return "" if "cancelled" in statuses else f"was told cancelled, and was {' and '.join(sorted(statuses))}"


def _next_retry(facts: Facts, ask: Ask) -> float:
    """What was answered without a change counts too: nobody knows that here."""
    retries = [it.sent_at for it in facts.asks_of.get(ask.task_id, ()) if it.verb == "retry"]
    return min((at for at in retries if at > ask.sent_at), default=NEVER)


def cancelled_while_running(facts: Facts) -> Iterator[Case]:
    """Told that it was asked to stop: the run hears it within a second, and the task never waits again."""
    for ask in facts.asks:
        if ask.verb != "cancel" or ask.status != 202:
            continue
        later = [change for change in facts.changes_of.get(ask.task_id, ()) if change.at > ask.sent_at]
        end = next((change for change in later if change.ends), None)
        if end is not None:
            yield Case(ask.task_id, _not_heard(facts, ask, end.at, end.status, end.worker))


def _not_heard(facts: Facts, ask: Ask, at: float, status: str, worker: int) -> str:
    if status not in FINISHED_VALUES:
        return f"was asked to stop while it ran, and became {status}"
    late = at - ask.told_at
    executors = {note.pid for note in facts.notes_of.get(ask.task_id, ())}
    excused = facts.disturbed(ask.sent_at - SEEN_SECONDS, at, worker, *executors)
    if late > SEEN_SECONDS + SLACK_SECONDS and not excused:
        return f"was asked to stop, and ran on for {late:.1f} s, until it was {status}"
    return ""


def refused(facts: Facts) -> Iterator[Case]:
    """Told that it is too late to cancel, or too early to retry: so it was."""
    for ask in facts.asks:
        if ask.verb not in ("cancel", "retry") or ask.status != 409:
            continue
        statuses = facts.statuses_between(ask.task_id, ask.sent_at - CLOCK_SECONDS, ask.told_at)
        finished = statuses & FINISHED_VALUES
        lawful = finished if ask.verb == "cancel" else statuses - FINISHED_VALUES
        wrong = f"was refused a {ask.verb}, and was {' and '.join(sorted(statuses))}"
        yield Case(ask.task_id, "" if lawful else wrong)


def retried(facts: Facts) -> Iterator[Case]:
    """Told that it was retried: it was, once."""
    first: dict[str, float] = {}
    for ask in facts.asks:
        first.setdefault(ask.wish, ask.sent_at)
    for ask in facts.asks:
        if ask.verb == "retry" and ask.status == 200:
            begin, end = first[ask.wish] - CLOCK_SECONDS, ask.told_at + CLOCK_SECONDS
            moved = [it for it in facts.changes_of.get(ask.task_id, ()) if it.retries and begin < it.at < end]
            yield Case(ask.task_id, "" if moved else "was told retried, and did not become pending")


RULES: tuple[Rule, ...] = (cancelled_for_good, cancelled_while_running, refused, retried)
