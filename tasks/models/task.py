"""The one table that everything turns around."""

from __future__ import annotations

from typing import Any

from django.db import models, router
from django.db.models import F, Q

from tasks.fingerprint import FINGERPRINT_CHARS
from tasks.grants import Grant
from tasks.ids import new_task_id
from tasks.limits import REASON_CHARS
from tasks.models.exact_json import ExactJsonField
from tasks.states import FINISHED_VALUES, Status, Transition, WaitingFor
from tasks.unique import KEY_CHARS, UniqueWhile

UNFINISHED = (Status.PENDING, Status.PROCESSING)


class TaskQuerySet(models.QuerySet["Task"]):
    def move(self, transition: Transition, **changes: Any) -> int:
        """Apply one transition to every selected row that may take it.

        A single guarded UPDATE: rows whose status is not among
        ``transition.sources`` are left alone, so of two callers racing for
        a row one gets it. Returns the number of rows moved.
        """
        movable = self.filter(status__in=transition.sources)
        return movable.update(status=transition.target, **changes)

    def visible_to(self, grant: Grant) -> TaskQuerySet:
        """What such a request may know of; all else is unknown to it."""
        seen = self if grant.sees_all else self.of_owner(grant.owner)
        return seen if grant.queues is None else seen.filter(queue__in=grant.queues)

    def of_owner(self, owner: str) -> TaskQuerySet:
        """By the index of the tasks that have one: SQLite takes it only for its very condition."""
        return self.filter(owner=owner).exclude(owner="") if owner else self.filter(owner="")


class Task(models.Model):
    """A piece of work that was asked for. Written by ``lifecycle`` alone."""

    # what was asked
    id = models.UUIDField(primary_key=True, default=new_task_id, editable=False)
    title = models.CharField(max_length=1000, blank=True)
    handler = models.CharField(max_length=255, help_text="Its public name, or package.module.function.")
    args = ExactJsonField(default=list, help_text="Positional arguments, from Django code only.")
    payload = ExactJsonField(default=dict, help_text="Keyword arguments.")
    owner = models.CharField(max_length=64, blank=True)
    queue = models.CharField(max_length=64, default="default")
    priority = models.SmallIntegerField(default=0, help_text="Higher runs sooner, from -100 to 100.")
    tags = models.JSONField(default=list)
    run_at = models.DateTimeField(null=True, help_text="Not before this time.")
    expires_at = models.DateTimeField(null=True, help_text="Never start after this time.")
    max_attempts = models.PositiveIntegerField(default=5, help_text="Of the present budget.")
    timeout_seconds = models.FloatField(null=True, help_text="How long one attempt may run; empty: no limit.")
    traceparent = models.CharField(  # noqa: DJ001 - null: none; to add such a column rewrites no table
        max_length=55, null=True, blank=True, help_text="The W3C trace context that it was asked for in."
    )
    created_at = models.DateTimeField()

    # one at a time with this key: how long it counts, the index below says
    unique_key = models.CharField(max_length=KEY_CHARS, null=True)  # noqa: DJ001 - null: none
    unique_while = models.CharField(  # noqa: DJ001 - null: it does not count any more
        max_length=16, choices=UniqueWhile, null=True
    )
    unique_until = models.DateTimeField(null=True, help_text="Then another may have its key.")
    unique_fence = models.BigIntegerField(null=True, help_text="The fence with which it took its key.")

    # where it stands
    status = models.CharField(max_length=16, choices=Status, default=Status.PENDING)
    ready_at = models.DateTimeField(null=True, help_text="Since when a worker could have taken it.")
    waiting_for = models.CharField(max_length=16, choices=WaitingFor, null=True)  # noqa: DJ001 - null: nothing
    attempt = models.PositiveIntegerField(default=0, help_text="Goes up in the claim.")
    attempts_before = models.PositiveIntegerField(default=0, help_text="Used up in earlier budgets.")
    crashes = models.PositiveIntegerField(default=0, help_text="Seen deaths of its process.")
    releases = models.PositiveIntegerField(default=0, help_text="Started runs that a shutdown handed back.")

    # who has it
    fence = models.BigIntegerField(default=0, help_text="Raised by each claim, never lowered.")
    lease_expires_at = models.DateTimeField(null=True)
    worker_id = models.CharField(max_length=128, blank=True, help_text="The last one that had it.")
    cancel_requested_at = models.DateTimeField(null=True)
    cancel_reason = models.CharField(max_length=REASON_CHARS, null=True)  # noqa: DJ001 - null: none was given
    attempted_at = models.DateTimeField(null=True, help_text="Start of the last attempt.")
    started_at = models.DateTimeField(null=True, help_text="Start of the first attempt.")

    # how it ended
    finished_at = models.DateTimeField(null=True)
    result = ExactJsonField(null=True)
    error = ExactJsonField(null=True, help_text="The last error.")
    fingerprint = models.CharField(  # noqa: DJ001 - null: none; to add such a column rewrites no table
        max_length=FINGERPRINT_CHARS, null=True, help_text="Of the last attempt that failed."
    )

    objects = TaskQuerySet.as_manager()

    class Meta:
        db_table = "tasks"
        ordering = ("-id",)  # newest first: ids are in order of creation
        permissions = (
            ("retry_task", "Can retry tasks"),
            ("cancel_task", "Can cancel tasks"),
            ("view_payload", "Can view payloads, results and errors"),
        )
        indexes = (
            # claim: the ready tasks of a queue, in the order in which they are claimed
            models.Index(
                fields=["queue", "-priority", "ready_at", "id"],
                name="task_ready_idx",
                condition=Q(status=Status.PENDING, ready_at__isnull=False),
            ),
            # promote: what is due next
            models.Index(
                fields=["run_at"], name="task_timetable_idx", condition=Q(waiting_for=WaitingFor.TIME)
            ),
            # park: what a worker that knows the handler sets free
            models.Index(
                fields=["handler"], name="task_parked_idx", condition=Q(waiting_for=WaitingFor.HANDLER)
            ),
            # reap
            models.Index(
                fields=["lease_expires_at"], name="task_lease_idx", condition=Q(status=Status.PROCESSING)
            ),
            # expire
            models.Index(
                fields=["expires_at"],
                name="task_expiry_idx",
                condition=Q(status=Status.PENDING, expires_at__isnull=False),
            ),
            # cancel: what a dispatcher has been asked to stop
            models.Index(
                fields=["worker_id"],
                name="task_cancel_idx",
                condition=Q(status=Status.PROCESSING, cancel_requested_at__isnull=False),
            ),
            # prune; on SQLite no list has this condition, so that none is sorted by it
            models.Index(
                fields=["status", "finished_at"],
                name="task_finished_idx",
                condition=Q(status__in=FINISHED_VALUES, finished_at__isnull=False),
            ),
            # lists of one owner's, newest first
            models.Index(fields=["owner", "id"], name="task_owner_idx", condition=~Q(owner="")),
            # lists of what is rare among a million completed ones, newest first
            models.Index(fields=["id"], name="task_failed_idx", condition=Q(status=Status.FAILED)),
            models.Index(fields=["id"], name="task_cancelled_idx", condition=Q(status=Status.CANCELLED)),
            # what failed in the same way, newest first
            models.Index(
                fields=["fingerprint", "id"],
                name="task_failure_idx",
                condition=Q(status=Status.FAILED, fingerprint__isnull=False),
            ),
            # the numbers of a queue, and its lists; neither is touched by what runs and succeeds
            models.Index(
                fields=["queue", "id"], name="task_failed_queue_idx", condition=Q(status=Status.FAILED)
            ),
            models.Index(
                fields=["queue"],
                name="task_waiting_queue_idx",
                condition=Q(status=Status.PENDING, ready_at__isnull=True),
            ),
        )
        constraints = (
            # a unique key counts while a row is in here. No statement ends that: a new status does, or the
            # fence, or whoever takes over a key whose time is over. statements.HOLDS says the same
            models.UniqueConstraint(
                fields=["owner", "unique_key"],
                name="task_unique_idx",
                condition=Q(unique_while=UniqueWhile.TTL)
                | Q(unique_while=UniqueWhile.LIVE, status__in=UNFINISHED)
                | Q(unique_while=UniqueWhile.PENDING, status=Status.PENDING, fence=F("unique_fence")),
            ),
            models.CheckConstraint(
                name="task_unique_while_known",
                condition=Q(unique_while__isnull=True)
                | Q(
                    unique_while__in=UniqueWhile.values, unique_key__isnull=False, unique_fence__isnull=False
                ),
            ),
            models.CheckConstraint(
                name="task_unique_ttl_ends",
                condition=Q(unique_while__isnull=True)
                | ~Q(unique_while=UniqueWhile.TTL)
                | Q(unique_until__isnull=False),
            ),
            models.CheckConstraint(name="task_status_known", condition=Q(status__in=Status.values)),
            models.CheckConstraint(
                name="task_lease_iff_processing",
                condition=Q(status=Status.PROCESSING, lease_expires_at__isnull=False)
                | (~Q(status=Status.PROCESSING) & Q(lease_expires_at__isnull=True)),
            ),
            models.CheckConstraint(
                name="task_finished_at_iff_finished",
                condition=Q(status__in=FINISHED_VALUES, finished_at__isnull=False)
                | (~Q(status__in=FINISHED_VALUES) & Q(finished_at__isnull=True)),
            ),
            models.CheckConstraint(
                name="task_pending_is_ready_or_waits",
                condition=~Q(status=Status.PENDING)
                | Q(ready_at__isnull=False, waiting_for__isnull=True)
                | Q(ready_at__isnull=True, waiting_for__isnull=False),
            ),
            models.CheckConstraint(
                name="task_waits_for_time_until_run_at",
                condition=Q(waiting_for__isnull=True)
                | ~Q(waiting_for=WaitingFor.TIME)
                | Q(run_at__isnull=False),
            ),
            models.CheckConstraint(
                name="task_waits_only_while_pending",
                condition=Q(status=Status.PENDING) | Q(waiting_for__isnull=True),
            ),
        )

    def __str__(self) -> str:
        return self.title or self.handler


def database() -> str:
    """The alias of the database that the queue lives in. Every statement and ``atomic`` names it."""
    return router.db_for_write(Task)
