"""How the service's processes behave, and how soon what they held goes on elsewhere."""

from __future__ import annotations

from collections.abc import Iterator

from bench.chaos.facts import API, EVERYBODY, NEVER, Ask, Change, Facts, Fault, Life
from bench.chaos.rules.case import CLOCK_SECONDS, SLACK_SECONDS, Case, Rule

SETTLED_SECONDS = 2.0  # after an executor's death that its dispatcher saw
REAPED_SECONDS = 5.0  # after a lease that nobody renews
OUTLIVE_SECONDS = 2.0  # for an executor without its dispatcher
STOP_SECONDS = 10.0  # beyond the grace
CLAIM_SECONDS = 1.0  # after SIGTERM
START_SECONDS = 5.0  # in which a worker asks for its database
BACK_SECONDS = 5.0  # after the database
REFUSED_SECONDS = 10.0  # for a 503
FELT_SECONDS = 7.0  # after a fault: requests that waited for it are still being refused
LAWFUL = {
    "create": {200, 201, 409, 503},
    "batch": {200, 201, 409, 503},
    "read": {200, 503},
    "cancel": {200, 202, 409, 503},
    "retry": {200, 409, 503},
}


def crashes_are_seen(facts: Facts) -> Iterator[Case]:
    """A task whose executor was killed is settled within two seconds, if its dispatcher lives."""
    deaths = {it.felt_by: it.began for it in facts.faults if it.kind == "kill" and it.who == "executor"}
    for key, claim in facts.claims.items():
        runs = [it for it in facts.notes_of.get(claim.task_id, ()) if it.fence == claim.fence]
        died_at = deaths.get(runs[0].pid) if runs else None
        end = facts.ends.get(key)
        if died_at is None or any(it.kind != "start" for it in runs) or runs[0].at > died_at:
            continue
        ended_at = NEVER if end is None else end.at
        deadline = died_at + SETTLED_SECONDS + SLACK_SECONDS
        if ended_at > deadline and facts.disturbed(died_at - SLACK_SECONDS, deadline, claim.worker):
            continue
        late = f"its executor was killed, and fence {claim.fence} ended only {ended_at - died_at:.1f} s later"
        yield Case(claim.task_id, late if ended_at > deadline else "")


def leases_are_taken_back(facts: Facts) -> Iterator[Case]:
    """What a dead worker held is taken back within a lease and five seconds, if another worker is there."""
    for life in facts.lives:
        if life.works and life.killed:
            for key, claim in facts.claims.items():
                end = facts.ends.get(key)
                if (
                    claim.worker == life.pid
                    and claim.at < life.ended_at
                    and (end is None or end.at > life.ended_at)
                ):
                    yield from _taken_back(facts, life, claim, NEVER if end is None else end.at)


def _taken_back(facts: Facts, life: Life, claim: Change, at: float) -> Iterator[Case]:
    deadline = life.ended_at + facts.lease_seconds + REAPED_SECONDS + SLACK_SECONDS
    if at > deadline and not _somebody_works(facts, deadline - REAPED_SECONDS - SLACK_SECONDS, deadline):
        return
    late = f"its worker was killed, and fence {claim.fence} ended only {at - life.ended_at:.1f} s later"
    yield Case(claim.task_id, late if at > deadline else "")


def _somebody_works(facts: Facts, begin: float, end: float) -> bool:
    """Throughout, with nothing in the way."""
    return any(
        life.spans(begin - SLACK_SECONDS, end) and not facts.disturbed(begin - SLACK_SECONDS, end, life.pid)
        for life in facts.lives
        if life.works
    )


def no_orphans(facts: Facts) -> Iterator[Case]:
    """Executors end within two seconds of their dispatcher's death, and nobody is left over at the end."""
    for it in facts.survivals:
        long = f"executor {it.pid} outlived dispatcher {it.worker} by {it.seconds:.1f} s"
        yield Case("", long if it.seconds > OUTLIVE_SECONDS + SLACK_SECONDS else "")
    for who in facts.left_over:
        yield Case("", f"left over at the end: {who}")


def clean_stops(facts: Facts) -> Iterator[Case]:
    """SIGTERM: nothing is claimed after a second, all is settled or handed back, exit code 0 in time."""
    for life in facts.lives:
        if life.asked_at is not None and not life.killed:
            kinds = ("pause", "stall", "database")
            if not facts.disturbed(life.asked_at - SLACK_SECONDS, life.ended_at, life.pid, kinds=kinds):
                yield Case("", _unclean(facts, life, life.asked_at))


def _unclean(facts: Facts, life: Life, asked_at: float) -> str:
    took = life.ended_at - asked_at
    if took > facts.grace_seconds + STOP_SECONDS:
        return f"{life.name} took {took:.1f} s to stop"
    if life.code != 0:
        return f"{life.name} was stopped with SIGTERM, and its exit code was {life.code}"
    mine = [claim for claim in facts.claims.values() if life.works and claim.worker == life.pid]
    late = [it for it in mine if it.at > asked_at + CLAIM_SECONDS + CLOCK_SECONDS]
    if late:
        return f"{life.name} claimed {late[0].task_id} {late[0].at - asked_at:.1f} s after SIGTERM"
    ends = ((claim, facts.ends.get((claim.task_id, claim.fence))) for claim in mine)
    kept = [claim for claim, end in ends if end is None or end.at > life.ended_at + CLOCK_SECONDS]
    return f"{life.name} stopped, and still held {kept[0].task_id}" if kept else ""


def nobody_falls(facts: Facts) -> Iterator[Case]:
    """No part of the service ends by itself; but it may refuse to start without a database."""
    for life in facts.lives:
        fell = life.code is not None and life.asked_at is None and not life.killed
        if fell and facts.disturbed(life.began, life.began + START_SECONDS, kinds=("database",)):
            continue
        yield Case("", f"{life.name} ended by itself, exit code {life.code}" if fell else "")


def honest_answers(facts: Facts) -> Iterator[Case]:
    """No 5xx but 503, and that only in a fault and with Retry-After; nothing else that may not be."""
    for ask in facts.asks:
        if not ask.status:
            continue
        in_fault = _is_excused(facts, ask)
        if wrong := _dishonest(ask, in_fault=in_fault):
            yield Case(ask.task_id, f"{ask.verb} was answered with {ask.status}{wrong}")
        elif ask.status == 503 or facts.disturbed(ask.sent_at, ask.told_at, kinds=("database",)):
            yield Case(ask.task_id)


def _dishonest(ask: Ask, *, in_fault: bool) -> str:
    if ask.status not in LAWFUL[ask.verb]:
        return ", which it may never be"
    if ask.status != 503:
        return ""
    if not in_fault:
        return " while nothing was wrong"
    if not ask.retry_after:
        return " without Retry-After"
    return ""


def _is_excused(facts: Facts, ask: Ask) -> bool:
    kinds = ("database", "pause", "stall", "stop")
    return facts.disturbed(ask.sent_at - FELT_SECONDS, ask.told_at, API, kinds=kinds)


def quick_refusals(facts: Facts) -> Iterator[Case]:
    """A 503 comes within ten seconds."""
    for ask in facts.asks:
        took = ask.told_at - ask.sent_at
        if ask.status == 503 and not facts.disturbed(ask.sent_at, ask.told_at, API, kinds=("pause", "stall")):
            slow = took > REFUSED_SECONDS + SLACK_SECONDS
            yield Case(ask.task_id, f"{ask.verb} was refused after {took:.1f} s" if slow else "")


def back_after_the_database(facts: Facts) -> Iterator[Case]:
    """Workers go on within five seconds of the database's return, without a restart."""
    claimed = [claim.at for claim in facts.claims.values()]
    for fault in facts.faults:
        deadline = fault.until + BACK_SECONDS + SLACK_SECONDS
        if fault.kind != "database" or not _lived_through(facts, fault, deadline):
            continue
        waits = _waiting_throughout(facts, fault.until, deadline)
        moved = any(fault.until < at <= deadline for at in claimed)
        if moved or waits:
            wrong = f"the database ({fault.who}) was back, {len(waits)} tasks waited, and nobody took one"
            yield Case(waits[0] if waits else "", "" if moved else wrong)


def _lived_through(facts: Facts, fault: Fault, deadline: float) -> bool:
    """Some worker has, and nothing else was done to it afterwards."""
    others = [it for it in facts.faults if it is not fault and it.meets(fault.until, deadline)]
    felt_by = {it.felt_by for it in others}
    through = {it.pid for it in facts.lives if it.works and it.spans(fault.began, deadline)}
    return EVERYBODY not in felt_by and bool(through - felt_by)


def _waiting_throughout(facts: Facts, begin: float, end: float) -> list[str]:
    return [
        task_id for task_id in facts.changes_of if facts.statuses_between(task_id, begin, end) == {"pending"}
    ]


RULES: tuple[Rule, ...] = (
    crashes_are_seen, leases_are_taken_back, no_orphans, clean_stops, nobody_falls, honest_answers,
    quick_refusals, back_after_the_database,
)  # fmt: skip
