"""What must hold, whatever was done to the service: each rule yields a sentence for each breach."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from bench.chaos.facts import Change, Facts, Note, Row

Breach = tuple[str, str]  # the task's id, or "" when it is about none; a sentence

FINISHED = frozenset({"completed", "failed", "cancelled"})
CRASH_BUDGET = 3  # seen crashes after which a task fails for good
LAWFUL_ANSWERS = {
    "POST": frozenset({"201", "503", "none"}),
    "GET": frozenset({"200", "503", "none"}),
}


def breaches(facts: Facts) -> list[Breach]:
    return [breach for rule in RULES for breach in rule(facts)]


def acknowledged_tasks_are_known(facts: Facts) -> Iterator[Breach]:
    for id_, title in facts.acknowledged.items():
        if id_ not in facts.rows:
            yield id_, f"was acknowledged ({title}), and is not in the database"
        elif facts.rows[id_].title != title:
            yield id_, f"was acknowledged as {title}, and is {facts.rows[id_].title}"


def every_task_finishes(facts: Facts) -> Iterator[Breach]:
    """All of these handlers succeed, so that only the crash budget can fail one."""
    for row in facts.rows.values():
        if row.status not in FINISHED:
            yield row.id, f"has not finished: {row.status}"
        elif row.status != "completed" and not died_of_kills(row):
            yield row.id, f"ended {row.status}: {row.error}"


def died_of_kills(row: Row) -> bool:
    return row.status == "failed" and row.crashes >= CRASH_BUDGET and "TaskCrashed" in (row.error or "")


def nothing_is_invented(facts: Facts) -> Iterator[Breach]:
    titles = Counter(row.title for row in facts.rows.values())
    for row in facts.rows.values():
        if row.title not in facts.sent:
            yield row.id, f"nobody has asked for it: {row.title}"
        if titles[row.title] > 1:
            yield row.id, f"one request made {titles[row.title]} tasks: {row.title}"
    for note in facts.notes:
        if note.task_id not in facts.rows:
            yield note.task_id, "has run, and is not in the database"


def finished_tasks_stay_so(facts: Facts) -> Iterator[Breach]:
    for change in facts.changes:
        if change.old_status in FINISHED:
            yield change.task_id, f"was {change.old_status}, and became {change.status}"


def fences_only_rise(facts: Facts) -> Iterator[Breach]:
    """By one with each claim, and never else."""
    for change in facts.changes:
        claimed = change.old_status == "pending" and change.status == "processing"
        if change.fence - change.old_fence != int(claimed):
            move = f"{change.old_status} to {change.status}"
            yield change.task_id, f"its fence went from {change.old_fence} to {change.fence}, {move}"


def completions_are_by_the_newest_claim(facts: Facts) -> Iterator[Breach]:
    """Recorded once, with what the run under the last fence returned, which did run to its end."""
    completions = Counter(change.task_id for change in facts.changes if change.status == "completed")
    ends = {(note.task_id, note.fence) for note in facts.notes if note.kind == "end"}
    for row in facts.rows.values():
        if row.status != "completed":
            continue
        if completions[row.id] != 1:
            yield row.id, f"was completed {completions[row.id]} times"
        if row.result != str(row.fence):
            yield row.id, f"its result is of fence {row.result}, and the last claim was {row.fence}"
        if (row.id, row.fence) not in ends:
            yield row.id, f"is completed, and no run under fence {row.fence} came to its end"


def each_lease_begins_once(facts: Facts) -> Iterator[Breach]:
    starts = Counter((note.task_id, note.fence) for note in facts.notes if note.kind == "start")
    for (id_, fence), count in starts.items():
        if count > 1:
            yield id_, f"ran {count} times under fence {fence}"


def runs_overlap_only_after_a_pause(facts: Facts) -> Iterator[Breach]:
    """Two runs at once are lawful if the first one's lease lapsed because somebody could not renew it.

    A pause of anybody will do: who is stopped with the write gate in hand stops the others too.
    """
    lapsed = {(it.task_id, str(it.fence)) for it in facts.attempts if it.outcome == "lapsed"}
    for note in overlaps(facts):
        if (note.task_id, note.other) not in lapsed or not _paused_before(facts, note.at):
            yield note.task_id, f"fence {note.fence} began while fence {note.other} was still running"


def overlaps(facts: Facts) -> list[Note]:
    return [note for note in facts.notes if note.kind == "overlap"]


def _paused_before(facts: Facts, moment: float) -> bool:
    """Leases are renewed each third, so that one lapses after two thirds without anybody to renew it."""
    least = facts.lease_seconds / 2
    return any(
        end - begin >= least and begin < moment and end > moment - 2 * facts.lease_seconds
        for begin, end in facts.pauses
    )


def every_run_is_counted(facts: Facts) -> Iterator[Breach]:
    """As an attempt, or as a release of one that had begun; and there are no more than the budget allows."""
    starts = Counter(note.task_id for note in facts.notes if note.kind == "start")
    for row in facts.rows.values():
        if starts[row.id] > row.attempt + row.releases:
            counted = f"{row.attempt} attempts and {row.releases} releases"
            yield row.id, f"has begun {starts[row.id]} times, but has only {counted}"
        if row.attempt > row.max_attempts:
            yield row.id, f"has had {row.attempt} attempts of {row.max_attempts}"


def answers_are_honest(facts: Facts) -> Iterator[Breach]:
    for (method, status), count in facts.answers.items():
        if status not in LAWFUL_ANSWERS[method]:
            yield "", f"{count} requests ({method}) were answered with {status}"


def processes_behave(facts: Facts) -> Iterator[Breach]:
    yield from (("", trouble) for trouble in facts.trouble)
    if facts.integrity != "ok":
        yield "", f"the database is damaged: {facts.integrity}"


RULES: tuple[Callable[[Facts], Iterator[Breach]], ...] = (
    acknowledged_tasks_are_known,
    every_task_finishes,
    nothing_is_invented,
    finished_tasks_stay_so,
    fences_only_rise,
    completions_are_by_the_newest_claim,
    each_lease_begins_once,
    runs_overlap_only_after_a_pause,
    every_run_is_counted,
    answers_are_honest,
    processes_behave,
)


def story_of(facts: Facts, task_id: str) -> list[str]:
    """All that is known of one task, in order of time: the evidence."""
    told = [(change.at, _told_by_row(change)) for change in facts.changes if change.task_id == task_id]
    told += [(note.at, _told_by_handler(note)) for note in facts.notes if note.task_id == task_id]
    told += [
        (attempt.at, f"attempt recorded: fence {attempt.fence} {attempt.outcome}")
        for attempt in facts.attempts
        if attempt.task_id == task_id
    ]
    return [f"{moment:.3f} {event}" for moment, event in sorted(told)]


def _told_by_row(change: Change) -> str:
    return f"row: {change.old_status} to {change.status}, fence {change.fence}, attempt {change.attempt}"


def _told_by_handler(note: Note) -> str:
    beside = f" beside fence {note.other}" if note.other else ""
    return f"handler, pid {note.pid}: {note.kind} under fence {note.fence}{beside}"
