"""What clients were told is so, and nothing else is."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

from bench.chaos.facts import FINISHED_VALUES, Ask, Facts, Row
from bench.chaos.rules.case import CLOCK_SECONDS, Case, Rule
from tasks.decide import CRASH_BUDGET


def acknowledged(facts: Facts) -> Iterator[Case]:
    """What was acknowledged is there, as it was asked for, and was so when the answer came."""
    made_at = {change.task_id: change.at for change in facts.changes if not change.old_status}
    for ask in facts.asks:
        if not ask.made:
            continue
        if len(ask.ids) != len(ask.titles):
            yield Case("", f"{len(ask.titles)} tasks were asked for, and {len(ask.ids)} acknowledged")
        for id_, title in zip(ask.ids, ask.titles, strict=False):
            yield Case(id_, _lost(facts.rows.get(id_), title, made_at.get(id_, 0.0), ask.told_at))


def _lost(row: Row | None, title: str, made_at: float, told_at: float) -> str:
    if row is None:
        return f"was acknowledged ({title}), and is not in the database"
    if row.title != title:
        return f"was acknowledged as {title}, and is {row.title}"
    if made_at > told_at + CLOCK_SECONDS:
        return f"was acknowledged {made_at - told_at:.3f} s before it was written"
    return ""


def invented(facts: Facts) -> Iterator[Case]:
    """Every task was asked for, and made once; what ran is in the database."""
    sends = Counter(title for ask in facts.asks for title in ask.titles)
    titles = Counter(row.title for row in facts.rows.values())
    for row in facts.rows.values():
        if not sends[row.title]:
            yield Case(row.id, f"nobody has asked for it: {row.title}")
        elif titles[row.title] > sends[row.title]:
            yield Case(row.id, f"{sends[row.title]} requests made {titles[row.title]} tasks: {row.title}")
        else:
            yield Case(row.id)
    for note in facts.notes:
        if note.task_id not in facts.rows:
            yield Case(note.task_id, "has run, and is not in the database")


def resent(facts: Facts) -> Iterator[Case]:
    """A request that was sent again with its Idempotency-Key made its tasks once, and was told the same."""
    rows_of: defaultdict[str, list[str]] = defaultdict(list)
    for row in facts.rows.values():
        rows_of[row.title].append(row.id)
    wishes: defaultdict[str, list[Ask]] = defaultdict(list)
    for ask in facts.asks:
        if ask.keyed and ask.titles:
            wishes[ask.wish].append(ask)
    for asks in wishes.values():
        if len(asks) > 1:
            yield _resent(asks, [rows_of[title] for title in asks[0].titles])


def _resent(asks: list[Ask], rows: list[list[str]]) -> Case:
    answers = {ask.ids for ask in asks if ask.made}
    if many := [ids for ids in rows if len(ids) > 1]:
        return Case(many[0][0], f"one wish, sent {len(asks)} times, made {len(many[0])} tasks")
    if len(answers) > 1:
        first, second, *_ = sorted(answers)
        return Case(first[0], f"one wish was answered with two tasks, the other is {second[0]}")
    return Case(rows[0][0] if rows[0] else "")


def read_back(facts: Facts) -> Iterator[Case]:
    """Who reads what was acknowledged finds it."""
    for ask in facts.asks:
        if ask.verb != "read" or ask.status not in (200, 404):
            continue
        if ask.status == 404:
            yield Case(ask.task_id, "was acknowledged, and then not found")
        else:
            yield Case(ask.task_id, "" if ask.ids == (ask.task_id,) else f"was shown as {ask.ids}")


def finished(facts: Facts) -> Iterator[Case]:
    """Every task comes to its end; it fails only when its budget is spent, and is cancelled only if asked."""
    for row in facts.rows.values():
        yield Case(row.id, _unfinished(facts, row))


def _unfinished(facts: Facts, row: Row) -> str:
    if row.status not in FINISHED_VALUES:
        return f"has not finished: {row.status}"
    if row.status == "failed" and row.used < row.max_attempts and row.crashes < CRASH_BUDGET:
        return f"failed after {row.used} attempts of {row.max_attempts}, {row.crashes} crashes: {row.error}"
    if row.status == "cancelled" and not _was_cancelled(facts, row.id):
        return "was cancelled, and nobody asked for it"
    return ""


def _was_cancelled(facts: Facts, task_id: str) -> bool:
    return any(ask.verb == "cancel" for ask in facts.asks_of.get(task_id, ()))


def intact(facts: Facts) -> Iterator[Case]:
    """The database is whole."""
    yield Case("", "" if facts.integrity == "ok" else f"the database is damaged: {facts.integrity}")


RULES: tuple[Rule, ...] = (acknowledged, invented, resent, read_back, finished, intact)
