"""What the processes of ``test_races`` do: ``python -m tasks.tests.racers``.

Reads from stdin a JSON list of [name, argument…]. Starts a process for each, all begin at once,
and writes the list of their answers.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import django


def claim_all(worker_id: str) -> list[Any]:
    """Claim and complete until nothing is left; hand back the first run of every third task."""
    from django.utils import timezone

    from tasks import lifecycle
    from tasks.contract import Outcome, Released, Succeeded
    from tasks.models import Task
    from tasks.states import FINISHED
    from tasks.tests.rows import claimant

    claimed, completed = [], []
    while Task.objects.exclude(status__in=FINISHED).exists():
        leases = lifecycle.claim(claimant(worker_id=worker_id), limit=7, now=timezone.now())
        claimed += [[str(lease.task_id), lease.fence] for lease in leases]
        back = {lease.key for lease in leases if lease.fence == 1 and lease.task_id.int % 3 == 0}
        outcomes: list[tuple[Any, Outcome]] = [
            (lease, Released(started=True) if lease.key in back else Succeeded()) for lease in leases
        ]
        written = lifecycle.settle(outcomes, now=timezone.now()).written
        completed += [str(lease.task_id) for lease, _, _ in written if lease.key not in back]
    return [claimed, completed]


def claim_what_is_there(worker_id: str) -> list[str]:
    from django.utils import timezone

    from tasks import lifecycle
    from tasks.tests.rows import claimant

    claimed: list[str] = []
    while leases := lifecycle.claim(claimant(worker_id=worker_id), limit=2, now=timezone.now()):
        claimed += [str(lease.task_id) for lease in leases]
    return claimed


def cancel_each(*ids: str) -> list[list[str]]:
    from tasks import lifecycle

    cancelled, requested = [], []
    for id_ in ids:
        answer = lifecycle.cancel([UUID(id_)])
        cancelled += [str(done) for done in answer.cancelled]
        requested += [str(asked) for asked in answer.requested]
    return [cancelled, requested]


def retry_each(*ids: str) -> int:
    from tasks import lifecycle

    return sum(lifecycle.retry([UUID(id_)]) for id_ in ids)


def settle_what_is_held(worker_id: str, reverse: str) -> list[str]:
    """Complete, one by one, what the rows say this worker holds."""
    from django.utils import timezone

    from tasks import lifecycle
    from tasks.contract import Lease, Succeeded
    from tasks.models import Task
    from tasks.states import Status

    held = [
        Lease(task_id=id_, fence=fence, handler="demo.echo", args="[]", payload="{}", attempt=1)
        for id_, fence in Task.objects.filter(worker_id=worker_id, status=Status.PROCESSING).values_list(
            "id", "fence"
        )
    ]
    written: list[str] = []
    for lease in sorted(held, key=lambda held: held.key, reverse=reverse == "reverse"):
        settlement = lifecycle.settle([(lease, Succeeded())], now=timezone.now())
        written += [str(ended.task_id) for ended, _, _ in settlement.written]
    return written


def reap_all() -> list[str]:
    from django.utils import timezone

    from tasks import lifecycle
    from tasks.models import Task
    from tasks.states import Status

    reaped: list[str] = []
    while Task.objects.filter(status=Status.PROCESSING).exists():
        settlement = lifecycle.reap(now=timezone.now() + timedelta(hours=1), limit=1)
        reaped += [str(lease.task_id) for lease, _, _ in settlement.written]
    return reaped


def enqueue_many(title: str, count: str) -> list[str]:
    from tasks import lifecycle
    from tasks.contract import TaskSpec

    spec = TaskSpec(handler="demo.echo", title=title)
    return [str(lifecycle.enqueue([spec])[0].id) for _ in range(int(count))]


RACERS: dict[str, Callable[..., Any]] = {
    racer.__name__: racer
    for racer in (
        claim_all,
        claim_what_is_there,
        cancel_each,
        retry_each,
        settle_what_is_held,
        reap_all,
        enqueue_many,
    )
}


def run(lane: int, name: str, arguments: list[str], start: Any, answers: Any) -> None:
    from django.db import connection

    try:
        connection.ensure_connection()
        start.wait(30)
        answers.put((lane, RACERS[name](*arguments)))
    except BaseException:
        answers.put((lane, None))  # nobody waits for it for ever
        raise


def main() -> None:
    django.setup()
    racers = json.load(sys.stdin)
    fork = multiprocessing.get_context("fork")  # no thread and no connection yet: it saves each its start
    start, answers = fork.Barrier(len(racers)), fork.SimpleQueue()
    running = [
        fork.Process(target=run, args=(lane, name, arguments, start, answers))
        for lane, (name, *arguments) in enumerate(racers)
    ]
    for process in running:
        process.start()
    given = dict(answers.get() for _ in running)
    for process in running:
        process.join()
        if process.exitcode:
            sys.exit(f"{process.name} ended with {process.exitcode}")
    json.dump([given[lane] for lane in range(len(running))], sys.stdout)


if __name__ == "__main__":
    main()
