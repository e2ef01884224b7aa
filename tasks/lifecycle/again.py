"""What PostgreSQL has ended so that others could go on is done again: nothing of it was written."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from functools import wraps

from django.db import OperationalError, connections

from tasks import postgres
from tasks.logs import event
from tasks.models.task import database

logger = logging.getLogger(__name__)

PAUSES = (0.02, 0.05, 0.1)  # seconds, at most, before the second attempt and those after it


def again[**P, R](transaction: Callable[P, R]) -> Callable[P, R]:
    """Do it up to three times more, with the same arguments: no iterators.

    Not within a caller's transaction: all of that is lost, and to repeat it is the caller's affair.
    """

    @wraps(transaction)
    def repeating(*args: P.args, **kwargs: P.kwargs) -> R:
        if connections[database()].in_atomic_block:
            return transaction(*args, **kwargs)
        for pause in PAUSES:
            try:
                return transaction(*args, **kwargs)
            except OperationalError as error:
                if not postgres.gave_way(error):
                    raise
                reason = str(error).partition("\n")[0]
                event(logger, logging.INFO, "database.again", during=transaction.__name__, reason=reason)
            time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - so that two don't meet again
        return transaction(*args, **kwargs)

    return repeating
