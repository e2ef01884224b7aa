"""Tasks that nobody runs, leases that nobody takes back, workers that are not what they seem."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from itertools import groupby

from tasks import lifecycle, stats
from tasks.lifecycle.workers import ALIVE_FOR
from tasks.management.doctor.finding import ERROR, WARNING, Finding
from tasks.pending import Situation
from tasks.spans import span
from tasks.stats import COUNTED

LONG = timedelta(minutes=5)  # for a ready task to wait
PAUSED_LONG = timedelta(hours=1)
REAPED_WITHIN = timedelta(seconds=10)
OVERDUE = timedelta(seconds=30)


def look() -> Iterator[Finding]:
    situation = Situation()
    for queue in stats.queues_in_use():
        yield from _queue(queue, situation)
    yield from _parked()
    yield from _lapsed(situation)
    yield from _overdue(situation)
    yield from _workers(situation)


def _queue(queue: str, situation: Situation) -> Iterator[Finding]:
    oldest = stats.oldest_ready_in(queue)
    if oldest is None:
        return
    waited, number = situation.now - oldest, _capped(stats.ready_in(queue))
    serving = [worker for worker in situation.living if worker.serves(queue)]
    if paused := situation.paused.get(queue):
        if waited > PAUSED_LONG:
            by = f" by {paused.paused_by}" if paused.paused_by else ""
            yield Finding(
                WARNING,
                "queue-paused",
                f"Queue {queue} is paused{by}, and {number} tasks wait in it, the oldest for {span(waited)}.",
                f"Resume it with `manage.py tasks resume {queue}`.",
            )
    elif not serving:
        option = f" --queues {queue}" if situation.living else ""
        yield Finding(
            ERROR,
            "no-workers",
            f"{number} tasks of queue {queue} are ready, the oldest for {span(waited)}; no worker takes it.",
            f"Start one with `manage.py runworkers{option}`.",
        )
    else:
        known = {handler for worker in serving for handler in worker.handlers}
        strangers = stats.first_ready_handlers(queue) - known
        yield from (_unknown(handler, f"tasks of queue {queue}") for handler in sorted(strangers))
        if waited > LONG:
            yield Finding(
                WARNING,
                "workers-behind",
                f"{number} tasks of queue {queue} are ready, the oldest for {span(waited)}.",
                "Start more workers, or give them more executors (TASKSERVICE_WORKERS).",
            )


def _unknown(handler: str, whose: str) -> Finding:
    return Finding(
        ERROR,
        "no-handler",
        f"No live worker that could take them knows the handler {handler} of {whose}.",
        "Start a worker whose TASKSERVICE_APPS brings it, or cancel them: "
        f"`manage.py tasks cancel --all-matching --handler {handler}`.",
    )


def _parked() -> Iterator[Finding]:
    for handler, number in stats.parked().items():
        yield _unknown(handler, f"{_capped(number)} tasks that were set aside")


def _lapsed(situation: Situation) -> Iterator[Finding]:
    if number := stats.lapsed(situation.now - REAPED_WITHIN):
        yield Finding(
            ERROR,
            "leases-lapsed",
            f"The leases of {_capped(number)} processing tasks have run out, and nobody takes them back.",
            "Start a worker with `manage.py runworkers`: whichever queues it serves, it takes them back.",
        )


def _overdue(situation: Situation) -> Iterator[Finding]:
    wait = lifecycle.look().due_in
    if wait is not None and -wait > OVERDUE and situation.living:
        yield Finding(
            ERROR,
            "overdue",
            f"A scheduled task is due since {span(-wait)}, and no worker makes it ready.",
            "Look for database.failed in the workers' log.",
        )


def _workers(situation: Situation) -> Iterator[Finding]:
    if not situation.living:
        yield Finding(
            ERROR,
            "no-workers",
            "All workers drain, and take nothing more."
            if situation.draining
            else "No worker is running, so no task will.",
            f"Start {'another' if situation.draining else 'one'} with `manage.py runworkers`.",
        )
    stale = [seen for seen in situation.workers if situation.now - seen.last_seen_at >= ALIVE_FOR]
    if stale:
        first = stale[0]
        yield Finding(
            WARNING,
            "workers-stale",
            f"{len(stale)} workers ended without a word, {first.claimant.worker_id} "
            f"{span(situation.now - first.last_seen_at)} ago.",
            "Look at their logs, and for the kernel's out-of-memory killer; their rows go after a day.",
        )
    yield from _mixed(situation)


def _mixed(situation: Situation) -> Iterator[Finding]:
    """Workers of the same queues that know different handlers: other code, or other TASKSERVICE_APPS."""
    by_queues = sorted(situation.living, key=lambda worker: repr(worker.queues))
    for queues, group in groupby(by_queues, key=lambda worker: worker.queues):
        known = [frozenset(worker.handlers) for worker in group]
        if len(set(known)) > 1:
            served = "all queues" if queues is None else ", ".join(queues)
            others = sorted(frozenset.union(*known) - frozenset.intersection(*known))
            yield Finding(
                WARNING,
                "workers-mixed",
                f"Workers of {served} know different handlers: "
                f"only some know {', '.join(others[:5])}{', …' if len(others) > 5 else ''}.",
                "Let all run the same code with the same TASKSERVICE_APPS.",
            )


def _capped(number: int) -> str:
    return f"{COUNTED:,}+" if number > COUNTED else f"{number:,}"
