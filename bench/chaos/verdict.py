"""Rule by rule: ok, violated, or unknown where its case never came up; and the story of what went wrong."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from bench.chaos.facts import NEVER, Ask, Change, Facts, Fault, Note
from bench.chaos.rules import RULES, Case, Rule, name_of

SHOWN = 3  # breaches of one rule, with their stories
OK, VIOLATED, UNKNOWN = "ok", "VIOLATED", "unknown"


@dataclass(frozen=True, slots=True)
class Verdict:
    rule: str
    says: str
    cases: int
    breaches: Sequence[Case]

    @property
    def word(self) -> str:
        return VIOLATED if self.breaches else OK if self.cases else UNKNOWN


def judge(facts: Facts) -> list[Verdict]:
    return [_judged(rule, facts) for rule in RULES]


def _judged(rule: Rule, facts: Facts) -> Verdict:
    cases = list(rule(facts))
    says = " ".join((rule.__doc__ or "").split())
    return Verdict(name_of(rule), says, len(cases), [case for case in cases if case.wrong])


def violated(verdicts: Sequence[Verdict]) -> set[str]:
    return {verdict.rule for verdict in verdicts if verdict.word == VIOLATED}


def missing(verdicts: Sequence[Verdict], must_come_up: Collection[str]) -> list[str]:
    """The rules that a run was made for, and whose case it had not."""
    return [it.rule for it in verdicts if it.word == UNKNOWN and it.rule in must_come_up]


def table(verdicts: Sequence[Verdict]) -> str:
    width = max(len(verdict.rule) for verdict in verdicts)
    return "\n".join(f"  {it.rule:<{width}}  {it.word:<8} {it.cases:>6}  {it.says}" for it in verdicts)


def evidence(facts: Facts, verdicts: Sequence[Verdict]) -> str:
    told = []
    for verdict in verdicts:
        for case in verdict.breaches[:SHOWN]:
            told.append(f"- {verdict.rule}: {case.task_id} {case.wrong}")
            told += [f"    {line}" for line in story_of(facts, case.task_id)] if case.task_id else []
        if len(verdict.breaches) > SHOWN:
            told.append(f"- {verdict.rule}: and {len(verdict.breaches) - SHOWN} more")
    return "\n".join(told)


def story_of(facts: Facts, task_id: str) -> list[str]:
    """All that is known of one task, in order of time, with what was done to those who had it."""
    changes, notes = facts.changes_of.get(task_id, ()), facts.notes_of.get(task_id, ())
    attempts = facts.attempts_of.get(task_id, ())
    told = [(change.at, _told_by_row(change)) for change in changes]
    told += [(note.at, _told_by_handler(note)) for note in notes]
    told += [(it.at, f"attempt {it.number}, fence {it.fence}: {it.outcome}") for it in attempts]
    asks = [ask for ask in facts.asks if task_id in (ask.task_id, *ask.ids)]
    told += [(ask.sent_at, f"client: {ask.verb}, {_told_to_client(ask)}") for ask in asks]
    if told:
        begin, end = min(told)[0], max(told)[0]
        pids = {change.worker for change in changes} | {note.pid for note in notes}
        told += [(it.began, _told_by_fault(it)) for it in facts.faults if _concerns(it, begin, end, pids)]
    return [f"{moment:.3f} {event}" for moment, event in sorted(told)]


def _concerns(fault: Fault, begin: float, end: float, pids: Collection[int]) -> bool:
    return fault.began <= end and fault.until >= begin and (fault.felt_by <= 0 or fault.felt_by in pids)


def _told_to_client(ask: Ask) -> str:
    return "no answer" if ask.told_at == NEVER else f"answered {ask.status} at {ask.told_at:.3f}"


def _told_by_row(it: Change) -> str:
    made = f"{it.old_status or 'made'} to {it.status}"
    return f"row: {made}, fence {it.fence}, attempt {it.attempt}, crashes {it.crashes}, worker {it.worker}"


def _told_by_handler(note: Note) -> str:
    beside = f" beside fence {note.other}" if note.other else ""
    return f"handler, pid {note.pid}: {note.kind} under fence {note.fence}{beside}"


def _told_by_fault(fault: Fault) -> str:
    until = "" if fault.until == NEVER else f" until {fault.until:.3f}"
    return f"fault: {fault.kind} {fault.who}, felt by {fault.felt_by}{until}"
