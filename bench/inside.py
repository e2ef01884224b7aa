"""What has to run in a process that has Django set up: ``python -m bench.inside NAME ARGUMENT…``.

Each function's answer is written to stdout as JSON.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Callable
from itertools import batched
from typing import Any

import django

FILLED_AT_ONCE = 1000
PAUSE_SECONDS = (0.02, 0.1)  # between two tasks for an idle pool; at random, to meet no rhythm of theirs


def fill(count: str) -> int:
    """So many tasks that do nothing, in a queue that is paused until ``resume``."""
    from tasks import lifecycle
    from tasks.contract import TaskSpec

    lifecycle.pause(["default"])
    spec = TaskSpec(handler="bench.noop")
    for batch in batched(range(int(count)), FILLED_AT_ONCE):
        lifecycle.enqueue([spec] * len(batch))
    return int(count)


def pause() -> int:
    from tasks import lifecycle

    return lifecycle.pause(["default"])


def resume() -> int:
    from tasks import lifecycle

    return lifecycle.resume(["default"])


def pickup(count: str) -> dict[str, int]:
    """Enqueue single tasks; id -> the moment just before its insert, in nanoseconds."""
    from tasks import lifecycle
    from tasks.contract import TaskSpec

    spec = TaskSpec(handler="bench.stamp")
    asked: dict[str, int] = {}
    for _ in range(int(count)):
        time.sleep(random.uniform(*PAUSE_SECONDS))
        before = time.monotonic_ns()
        [made] = lifecycle.enqueue([spec])
        asked[made.id.hex] = before
    return asked


def inserts(requests: str, size: str) -> float:
    """Rows per second: so many commits of so many tasks each, by the service's own statement."""
    from bench.floor import inserted

    return inserted(int(requests), int(size))


def floor(size: str) -> tuple[int, float]:
    from bench.floor import drained

    return drained(int(size))


def table(rows: str, queues: str) -> int:
    from bench.filling import fill_table

    return fill_table(int(rows), int(queues))


def backlog(rows: str, queues: str = "1") -> int:
    from bench.filling import fill_ready

    return fill_ready(int(rows), int(queues))


def claims(samples: str, *limits: str) -> dict[str, list[int]]:
    from bench.claiming import durations

    return durations(int(samples), [int(limit) for limit in limits])


def turns(samples: str, limit: str) -> list[int]:
    from bench.claiming import turns

    return turns(int(samples), int(limit))


def pages() -> dict[str, str]:
    from bench.filling import pages

    return pages()


def admin() -> dict[str, Any]:
    """A session, and the pages to ask for with it."""
    from bench import operator

    return {"cookie": operator.cookie(), "pages": operator.pages()}


FUNCTIONS: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (fill, pause, resume, pickup, inserts, floor, table, backlog, claims, turns, pages, admin)
}


def main() -> None:
    name, *arguments = sys.argv[1:]
    django.setup()
    print(json.dumps(FUNCTIONS[name](*arguments)))


if __name__ == "__main__":
    main()
