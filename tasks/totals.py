"""The sums of what all processes have counted: each adds what it has, now and then, and any may read them."""

from __future__ import annotations

import atexit
import logging
import threading
from collections.abc import Callable, Mapping

from django.db import connections, transaction

from tasks import clock, failures, rollups
from tasks.lifecycle.again import again
from tasks.logs import event
from tasks.models import Total
from tasks.models.task import database
from tasks.tally import ONLY_BY_MINUTE, Bounded, Cell, Tally, here

logger = logging.getLogger(__name__)

WRITTEN_EVERY_SECONDS = 5.0
LAST_SECONDS = 2.0  # that the end of a process waits for

_ADD = """
INSERT INTO totals (name, queue, handler, detail, transition, value) VALUES (%s, %s, %s, %s, %s, %s)
ON CONFLICT (name, queue, handler, detail, transition) DO UPDATE SET value = totals.value + excluded.value
"""


def write_down(tally: Tally = here) -> None:
    """Add what has gathered; where that fails, it is kept for the next time."""
    failures.write_down()
    taken = tally.take()
    if not taken:
        return
    try:
        _add(taken)
    except BaseException:
        tally.put_back(taken)
        raise


@again
def _add(taken: Mapping[Cell, float]) -> None:
    """In the order of the cells: two that add at once must not wait for each other."""
    alias = database()
    known = Total.objects.using(alias).order_by("queue").values_list("queue", flat=True).distinct()
    queues = Bounded(known)
    bounded: dict[Cell, float] = {}
    for cell, count in taken.items():
        cell = cell._replace(queue=queues.name(cell.queue))
        bounded[cell] = bounded.get(cell, 0) + count
    sums = [(*cell, bounded[cell]) for cell in sorted(bounded) if cell.name not in ONLY_BY_MINUTE]
    now = clock.now(alias)
    with transaction.atomic(using=alias), connections[alias].cursor() as cursor:
        cursor.executemany(_ADD, sums)
        rollups.add(bounded, now=now)


def read() -> dict[Cell, float]:
    rows = Total.objects.using(database()).values_list(*Cell._fields, "value")
    return {Cell(*cell): value for *cell, value in rows}


def begin() -> None:
    """Write the tally of this process down from now on, and once more at its end."""
    writer = Writer()
    writer.start()
    atexit.register(writer.close)


class Writer:
    """Writes the tally of a process down, in a thread of its own: nothing waits for it, or fails with it.

    ``also`` is done each time before that.
    """

    def __init__(self, also: Callable[[], object] = lambda: None) -> None:
        self._also = also
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, name="totals", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Once more, and then no more; does not wait for it."""
        self._over.set()

    def close(self, within: float = LAST_SECONDS) -> None:
        """Once more, unless the database is stuck: it is waited for so many seconds."""
        self.stop()
        self._thread.join(within)

    def _work(self) -> None:
        over = False
        while not over:
            over = self._over.wait(WRITTEN_EVERY_SECONDS)
            try:
                self._also()
                write_down()
            except Exception as error:  # the database is gone: it is tried again, and others tell of it
                event(logger, logging.DEBUG, "totals.not-written", error=repr(error))
            finally:
                connections[database()].close()
