"""How tasks may change, and who may run them when."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from bench.chaos.facts import FINISHED_VALUES, Change, Facts, Note, pid_of
from bench.chaos.rules.case import CLOCK_SECONDS, SLACK_SECONDS, Case, Rule
from tasks.states import TRANSITIONS

MOVES = {("", "pending")} | {
    (source.value, transition.target.value) for transition in TRANSITIONS for source in transition.sources
}
LOSE = ("kill", "pause", "stop", "database", "stall")  # for these a lease may lapse


def moves(facts: Facts) -> Iterator[Case]:
    """A task changes its status only as the table of transitions says, and only by a claim begins to run."""
    for change in facts.changes:
        move = (change.old_status, change.status)
        if move[0] == move[1] and change.fence == change.old_fence:
            continue
        wrong = "" if move in MOVES else f"went from {move[0] or 'nothing'} to {move[1]}"
        if move == ("processing", "processing"):
            wrong = f"was claimed under fence {change.fence} while it ran under {change.old_fence}"
        yield Case(change.task_id, wrong)


def no_way_back(facts: Facts) -> Iterator[Case]:
    """What has finished changes only by a retry that somebody asked for, once for each."""
    for task_id, changes in facts.changes_of.items():
        back = [change for change in changes if change.old_status in FINISHED_VALUES]
        if back:
            yield Case(task_id, _unasked(facts, task_id, back))
        elif changes[-1].status in FINISHED_VALUES:
            yield Case(task_id)


def _unasked(facts: Facts, task_id: str, back: list[Change]) -> str:
    asks = [ask for ask in facts.asks_of.get(task_id, ()) if ask.verb == "retry"]
    for number, change in enumerate(back, 1):
        wishes = {ask.wish for ask in asks if ask.sent_at <= change.at + CLOCK_SECONDS}
        if number > len(wishes):
            return f"was {change.old_status}, became {change.status}, and had {len(wishes)} retries"
    return ""


def fences(facts: Facts) -> Iterator[Case]:
    """Each claim raises the fence by one, and nothing else touches it."""
    for change in facts.changes:
        claimed = int(change.old_status == "pending" and change.status == "processing")
        if change.old_status and (claimed or change.fence != change.old_fence):
            step = change.fence - change.old_fence
            move = f"{change.old_status} to {change.status}"
            wrong = f"its fence went from {change.old_fence} to {change.fence}, {move}"
            yield Case(change.task_id, "" if step == claimed else wrong)


def one_completion(facts: Facts) -> Iterator[Case]:
    """A task is completed once, by the newest claim, with what that run returned when it came to its end."""
    ended = {(note.task_id, note.fence) for note in facts.notes if note.kind == "end"}
    for task_id, changes in facts.changes_of.items():
        since_retry = 0
        for change in changes:
            since_retry = 0 if change.retries else since_retry
            if change.status == "completed" and change.old_status:
                since_retry += 1
                yield Case(task_id, _ill_completed(change, since_retry, ended))


def _ill_completed(change: Change, count: int, ended: set[tuple[str, int]]) -> str:
    if count > 1:
        return f"was completed {count} times"
    if change.result != str(change.fence):
        return f"its result is of fence {change.result or 'none'}, and the last claim was {change.fence}"
    if (change.task_id, change.fence) not in ended:
        return f"was completed, and no run under fence {change.fence} came to its end"
    return ""


def late_writes(facts: Facts) -> Iterator[Case]:
    """A run that ends when its task has been taken back changes nothing any more."""
    completed = {(it.task_id, it.result) for it in facts.changes if it.status == "completed"}
    for note in facts.notes:
        end = facts.ends.get((note.task_id, note.fence))
        if note.kind == "end" and end is not None and end.at + CLOCK_SECONDS < note.at:
            stale = (note.task_id, str(note.fence)) in completed
            wrong = f"its run under fence {note.fence} ended after it was taken back, and was recorded"
            yield Case(note.task_id, wrong if stale else "")


def one_at_a_time(facts: Facts) -> Iterator[Case]:
    """Two runs of a task overlap only if the lease of the first has lapsed, as it could not be renewed."""
    starts = Counter((note.task_id, note.fence) for note in facts.notes if note.kind == "start")
    overlapping = {(note.task_id, note.fence): note for note in facts.notes if note.kind == "overlap"}
    for (task_id, fence), count in starts.items():
        if count > 1:
            yield Case(task_id, f"ran {count} times under fence {fence}")
        elif overlap := overlapping.get((task_id, fence)):
            yield Case(task_id, _unlawful(facts, overlap))
        elif fence > 1:
            yield Case(task_id)


def _unlawful(facts: Facts, overlap: Note) -> str:
    lapse = facts.outcomes.get((overlap.task_id, overlap.other))
    if lapse is None or lapse.outcome != "lapsed" or not _could_lapse(facts, lapse.at, lapse.worker_id):
        return f"fence {overlap.fence} began while fence {overlap.other} was still running"
    return ""


def _could_lapse(facts: Facts, at: float, worker_id: str) -> bool:
    """A lease is renewed each third of it, so that something must have happened within the last."""
    begin = at - 2 * facts.lease_seconds - SLACK_SECONDS
    return facts.disturbed(begin, at + CLOCK_SECONDS, pid_of(worker_id), kinds=LOSE)


def leases_hold(facts: Facts) -> Iterator[Case]:
    """A lease lapses only if its worker died or could not renew it, however long a task takes."""
    for attempt in facts.attempts:
        if attempt.outcome == "lapsed":
            held = not _could_lapse(facts, attempt.at, attempt.worker_id)
            wrong = f"its lease {attempt.fence} lapsed, and nothing was done to worker {attempt.worker_id}"
            yield Case(attempt.task_id, wrong if held else "")
    for key, end in facts.ends.items():
        claim = facts.claims.get(key)
        if claim is not None and end.status == "completed" and end.at - claim.at > facts.lease_seconds:
            yield Case(end.task_id)


def outcomes_arrive(facts: Facts) -> Iterator[Case]:
    """What a run came to is recorded, unless somebody died or was held up between its end and that."""
    for note in facts.notes:
        key = (note.task_id, note.fence)
        claim, end = facts.claims.get(key), facts.ends.get(key)
        if note.kind != "end" or claim is None or end is None or end.cancel_requested:
            continue
        if note.at > end.at + CLOCK_SECONDS:  # a late one: its lease had been taken back
            continue
        if end.status != "completed" and facts.disturbed(note.at - 0.1, end.at, claim.worker, note.pid):
            continue
        lost = f"its run under fence {note.fence} came to its end, and the task became {end.status}"
        yield Case(note.task_id, "" if end.status == "completed" else lost)


def never_early(facts: Facts) -> Iterator[Case]:
    """No attempt begins before ``run_at``."""
    for ask in facts.asks:
        if ask.run_at is None or not ask.made:
            continue
        for id_ in ask.ids:
            if any(other.verb == "retry" for other in facts.asks_of.get(id_, ())):
                continue  # a retry asks for it now
            starts = [note.at for note in facts.notes_of.get(id_, ()) if note.kind == "start"]
            if starts:
                early = ask.run_at - min(starts)
                yield Case(id_, f"began {early:.3f} s before its time" if early > CLOCK_SECONDS else "")


RULES: tuple[Rule, ...] = (
    moves, no_way_back, fences, one_completion, late_writes, one_at_a_time, leases_hold, outcomes_arrive,
    never_early,
)  # fmt: skip
