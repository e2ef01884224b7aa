"""What may become of a task by which verb, and what has become of one so far."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from tasks.states import FINISHED, Status

PENDING, PROCESSING = Status.PENDING, Status.PROCESSING
COMPLETED, FAILED, CANCELLED = Status.COMPLETED, Status.FAILED, Status.CANCELLED
FREE_RELEASES = 10  # by the promise, not by the code
SEEN_CRASHES = 3

MOVES = {
    "claim": {(PENDING, PENDING), (PENDING, PROCESSING)},  # the first: a task became ready
    "extend": {(PROCESSING, PROCESSING)},
    "settle": {(PROCESSING, end) for end in (PENDING, COMPLETED, FAILED, CANCELLED)},
    "reap": {(PROCESSING, end) for end in (PENDING, FAILED, CANCELLED)},
    "cancel": {(PENDING, CANCELLED), (PROCESSING, PROCESSING)},
    "retry": {(end, PENDING) for end in FINISHED},
    "run_now": {(PENDING, PENDING)},
    "expire": {(PENDING, FAILED)},
    "enqueue": {(PENDING, PENDING)},  # that is, a unique one was replaced
}


class Broken(AssertionError):
    """A rule does not hold."""

    def __init__(self, rule: str, detail: str) -> None:
        super().__init__(f"{rule}: {detail}")
        self.rule = rule


@dataclass
class Story:
    """What has become of a task since it was made, or since the last retry by hand."""

    starts: int = 0
    crashes: int = 0
    hand_backs: int = 0  # of begun runs
    free: int = 0  # of these
    completions_ever: int = 0
    told_cancelled: bool = False
    asked_to_stop: bool = False
    not_before: datetime | None = None  # the end of its backoff
