"""What a request to the API may do: which scopes there are, and whose tasks it makes and sees."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from enum import StrEnum


class Scope(StrEnum):
    CREATE = "tasks:create"
    READ = "tasks:read"
    MANAGE = "tasks:manage"  # cancel, retry, change, delete
    QUEUES = "queues"  # pause, resume and purge queues, drain workers: for the tasks of every owner
    METRICS = "metrics"  # /metrics, which speaks of every queue
    ADMIN = "admin"  # all of it, for the tasks of every owner; and tokens


USUAL = (Scope.CREATE, Scope.READ, Scope.MANAGE)  # of a token that says nothing else
NOT_BOTH = "the scope admin is for every queue"


def fit(scopes: Collection[Scope], queues: Collection[str] | None) -> bool:
    """Whether a token can have both; ``NOT_BOTH`` says why not. One that makes tokens has no bounds."""
    return queues is None or Scope.ADMIN not in scopes


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """``owner``: whose tasks it makes. ``sees_all``: those of every owner. ``queues`` None: all of them."""

    owner: str = ""
    scopes: frozenset[Scope] = frozenset(Scope)
    queues: tuple[str, ...] | None = None
    sees_all: bool = False

    def allows(self, scope: Scope) -> bool:
        return scope in self.scopes or Scope.ADMIN in self.scopes

    @property
    def sees_whole_queues(self) -> bool:
        """How its queues stand, whosever tasks are in them; else no more of them than its own tasks."""
        return self.sees_all or self.allows(Scope.QUEUES)

    def for_all_queues(self) -> Grant:
        return replace(self, queues=None)

    def serves(self, queues: Collection[str]) -> bool:
        return self.queues is None or set(queues) <= set(self.queues)


EVERYBODY = Grant(sees_all=True)  # without authentication
