"""What each peer is asked to do: ``python -m bench.peers.program PEER DEED ARGUMENT…``, in .venv-peers.

A peer is a module beside this one, with these functions:

- ``install()`` makes its tables;
- ``fill(count)`` enqueues so many no-op tasks, as fast as it can;
- ``work(ready)`` is a worker: when all is imported and connected it calls ``ready()``, and then it
  works until it is killed;
- ``enqueuer()`` is a context manager: a function that enqueues the stamp task number ``n``, and returns
  when that is committed.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cache
from importlib import import_module
from importlib.metadata import version
from typing import Protocol, cast

EFFECTS = "BENCH_EFFECTS"  # the file in which handlers say that they began
NOBODY = 0  # the number of a task that does nothing


class Peer(Protocol):
    def install(self) -> None: ...
    def fill(self, count: int) -> None: ...
    def work(self, ready: Callable[[], None]) -> None: ...
    def enqueuer(self) -> AbstractContextManager[Callable[[int], None]]: ...


def note(number: int = NOBODY) -> None:
    """Called by handlers: one line, with when this task began on the clock that all processes share."""
    os.write(_effects(), b"%d %d\n" % (number, time.monotonic_ns()))


@cache
def _effects() -> int:
    return os.open(os.environ[EFFECTS], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def ask(peer: Peer, count: int, least: float, most: float) -> list[int]:
    """Enqueue single tasks, numbered from 1; the moments just before, in nanoseconds."""
    asked: list[int] = []
    with peer.enqueuer() as enqueue:
        for number in range(1, count + 1):
            time.sleep(random.uniform(least, most))
            asked.append(time.monotonic_ns())
            enqueue(number)
    return asked


def wait_for_word() -> None:
    """Say that this worker is ready, and begin when all of them are."""
    print("ready", flush=True)
    sys.stdin.readline()


def main() -> None:
    name, deed, *arguments = sys.argv[1:]
    peer = cast(Peer, import_module(f"bench.peers.{name}"))
    match deed:
        case "install":
            peer.install()
            print(version(name.replace("_", "-")))
        case "fill":
            peer.fill(int(arguments[0]))
        case "work":
            peer.work(wait_for_word)
        case "ask":
            count, least, most = arguments
            print(json.dumps(ask(peer, int(count), float(least), float(most))))


if __name__ == "__main__":
    main()
