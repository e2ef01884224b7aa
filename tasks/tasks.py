"""The handlers of the service's own work, which call verbs; those to try it with are in ``handlers``."""
# the stubs of django.tasks know Django's own options alone
# mypy: disable-error-code="call-overload, untyped-decorator"

from __future__ import annotations

from uuid import UUID

from django.tasks import task

from tasks import operations
from tasks.context import ServiceContext


@task(queue_name=operations.QUEUE, max_attempts=20, timeout=None, takes_context=True)
def operate(context: ServiceContext, operation: int) -> dict[str, int]:
    """Carry out an operation. Not public: the admin alone makes such tasks."""
    return operations.run(operation, task_id=UUID(context.task_id))
