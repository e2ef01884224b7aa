"""What a ``Listener`` has heard, of whichever line."""

from __future__ import annotations

import select

from tasks.tests.workers import wait_until
from tasks.worker.listener import AGAIN_SECONDS, Listener


def rings(listener: Listener, *, within: float = 0.0) -> bool:
    return bool(select.select([listener], [], [], within)[0])


def quiet(listener: Listener) -> None:
    while rings(listener, within=3 * AGAIN_SECONDS):
        listener.drain()


def listens(listener: Listener) -> None:
    """Once it does it says so, in case somebody rang before."""
    wait_until(lambda: rings(listener), "it listens")
    quiet(listener)
