"""Every error raised on purpose; ``code`` is for programs and never changes, the text is for people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from math import ceil
from uuid import UUID


class TaskServiceError(Exception):
    """Something that was asked of the service cannot be done."""

    code = "error"


class TaskNotFound(TaskServiceError):
    code = "not-found"

    def __init__(self) -> None:
        super().__init__("task not found")


class TokenNotFound(TaskServiceError):
    code = "not-found"

    def __init__(self) -> None:
        super().__init__("token not found")


class QueueNotFound(TaskServiceError):
    code = "not-found"

    def __init__(self) -> None:
        super().__init__("queue not found")


class WorkerNotFound(TaskServiceError):
    code = "not-found"

    def __init__(self) -> None:
        super().__init__("worker not found")


class Unconfirmed(TaskServiceError):
    """What cannot be undone wants to hear the name of what it is done to."""

    code = "unconfirmed"
    pointer = "/confirm"  # RFC 6901, into the body

    def __init__(self, name: str) -> None:
        super().__init__(f"confirm must be the name of the queue, {name!r}: nothing was done")


class TooManyLogins(TaskServiceError):
    code = "rate-limited"

    def __init__(self, wait: timedelta) -> None:
        self.seconds = ceil(wait.total_seconds())
        long = self.seconds > 90
        number, unit = (ceil(self.seconds / 60), "minute") if long else (self.seconds, "second")
        super().__init__(f"Too many failed logins. Try again in {number} {unit}{'' if number == 1 else 's'}.")


class InvalidJson(TaskServiceError):
    code = "invalid-json"

    def __init__(self, reason: str) -> None:
        super().__init__("invalid JSON")
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldError:
    """What is wrong with one member of a body, one parameter of a query, or one header."""

    pointer: str | None = None  # RFC 6901, into the body
    parameter: str | None = None
    header: str | None = None
    code: str
    detail: str  # a sentence that names the field


class InvalidFields(TaskServiceError):
    """Says at once everything that is wrong."""

    code = "invalid-field"

    def __init__(self, fields: Sequence[FieldError]) -> None:
        more = [f"and {len(fields) - 3} more"] if len(fields) > 3 else []
        super().__init__("; ".join([*(field.detail for field in fields[:3]), *more]))
        self.fields = tuple(fields)


class UnknownHandler(TaskServiceError):
    code = "unknown-handler"

    def __init__(self, name: str, *, pointer: str | None = None, near: str | None = None) -> None:
        """``near``: one that was perhaps meant."""
        ask = "check the spelling, or add the app with it." if near is None else f"did you mean {near!r}?"
        super().__init__(f"No handler is called {name!r}: {ask}")
        self.name = name
        self.pointer = pointer  # RFC 6901, into the body that named it


class ConflictingState(TaskServiceError):
    """The task is in a state in which this cannot be done."""

    code = "conflict-state"

    def __init__(self, wish: str, status: str) -> None:
        super().__init__(f"A task that is {status} cannot be {wish}.")
        self.status = status


class KeyHeld(ConflictingState):
    """It had a unique key that another task has now."""

    def __init__(self, status: str, holder: UUID | None) -> None:
        """``holder``: None where whoever asks may not know of it."""
        super().__init__("retried", status)
        other = "another task" if holder is None else f"the task {holder}"
        self.args = (f"This task cannot be retried: {other} has its unique key.",)
        self.task_id = holder


class KeyInFlight(TaskServiceError):
    """A request with the same Idempotency-Key is being decided."""

    code = "idempotency-in-flight"

    def __init__(self) -> None:
        super().__init__("A request with this Idempotency-Key is being decided; ask again for its outcome.")


class KeyReused(TaskServiceError):
    """An Idempotency-Key came with another body than before, or by a token that sees other tasks."""

    code = "idempotency-mismatch"

    def __init__(self) -> None:
        super().__init__(
            "This Idempotency-Key was used with another body, or by a token that may see other tasks; "
            "take a new key for a new request."
        )


class DuplicateKey(TaskServiceError):
    """Another task has this unique key."""

    code = "duplicate"

    def __init__(self, task_id: UUID | None, why: str, *, at: str = "") -> None:
        super().__init__(f"{'Another task' if task_id is None else f'The task {task_id}'} {why}.")
        self.task_id = task_id  # None: one that this client may not know, or that was not made
        self.why, self.at = why, at
        self.pointer = f"{at}/unique/key"  # RFC 6901, into the body

    def unnamed(self) -> DuplicateKey:
        return DuplicateKey(None, self.why, at=self.at)


class NameTaken(TaskServiceError):
    code = "duplicate"

    def __init__(self, name: str) -> None:
        super().__init__(f"There is a token called {name!r} already.")


class TooLarge(TaskServiceError):
    code = "too-large"

    def __init__(self, what: str, *, limit_bytes: int) -> None:
        super().__init__(f"The {what} is larger than {limit_bytes:,} bytes.")


class Unavailable(TaskServiceError):
    """Something that the service depends on does not answer; the same request may work later."""

    code = "unavailable"


class Unauthenticated(TaskServiceError):
    """Who asks cannot be told."""

    code = "unauthenticated"

    def __init__(self) -> None:
        super().__init__("A valid token is needed: send it as 'Authorization: Bearer tsk_...'.")


class Forbidden(TaskServiceError):
    """The token is good, but not for this."""

    code = "forbidden"


class QueueFull(TaskServiceError):
    """Its workers have fallen behind; the same request may work later."""

    code = "rate-limited"

    def __init__(self, queue: str, limit: int) -> None:
        super().__init__(f"The queue {queue} has {limit:,} pending tasks, and takes no more for now.")


class TooManyRequests(TaskServiceError):
    """A token, or an address, asks more often than it may."""

    code = "rate-limited"

    def __init__(self, policy: str, limit: int, seconds: int, *, retry_after: int) -> None:
        super().__init__(f"More than {limit:,} requests in {seconds:,} s, which is the limit {policy}.")
        self.retry_after = retry_after


class ForeignOrigin(TaskServiceError):
    """A web page of another site asks, with the reach of whoever looks at it."""

    code = "forbidden"

    def __init__(self) -> None:
        super().__init__(
            "A page of another site may not do this. If it may, add its origin to CSRF_TRUSTED_ORIGINS."
        )


class UnstorableResult(TaskServiceError):
    """What a handler returned cannot be kept as JSON; another attempt would return the same."""

    code = "unstorable-result"


class ResultTooLarge(UnstorableResult):
    code = "result-too-large"

    def __init__(self, *, size_bytes: int, limit_bytes: int) -> None:
        super().__init__(
            f"The result has {size_bytes:,} bytes as JSON, {limit_bytes:,} are allowed. "
            "Store it elsewhere and return where."
        )


class Retry(Exception):
    """Raised by a handler: this attempt did not work, try again.

    ``in_`` is the wait before the next attempt; without it the backoff decides. Uses up an
    attempt like any failure.
    """

    def __init__(
        self, reason: str = "the handler asked for another attempt", *, in_: timedelta | None = None
    ) -> None:
        super().__init__(reason)
        if in_ is not None and not isinstance(in_, timedelta):
            raise TypeError("Retry: in_ must be a timedelta.")
        if in_ is not None and in_ < timedelta(0):
            raise ValueError("Retry: in_ must not be negative.")
        self.in_ = in_


class GiveUp(Exception):
    """Raised by a handler: no further attempt is worth it, the task has failed."""

    def __init__(self, reason: str = "the handler gave up") -> None:
        super().__init__(reason)


class TaskCancelled(Exception):
    """In a task's errors: somebody cancelled it."""


class TaskExpired(Exception):
    """In a task's errors: its ``expires_at`` passed before an attempt began."""


class TaskCrashed(Exception):
    """In a task's errors: the process that ran it died."""


class TaskTimedOut(Exception):
    """In a task's errors: an attempt ran longer than its timeout."""


class TaskReleased(Exception):
    """In a task's errors: shutdowns handed it back so often that it counted as an attempt."""


class LeaseLapsed(Exception):
    """In a task's errors: its worker was not heard of for a whole lease."""
