"""The verbs: everything that happens to a task. Every door calls these, and nothing else writes status.

enqueue(specs)  enqueue_each(specs)  make tasks, all or none; or all that no unique key forbids
promote(now)                         make ready what is due
claim(claimant, limit, now)          take ready tasks: leases
extend(leases, by, now)              go on holding them
settle(outcomes, now)                record what attempts came to
release(leases, now)                 hand back what was not begun
reap(now, limit, ...)                take back what nobody holds any more
cancel(ids)  retry(ids)              by hand
holder_of_its_key(id)                why a retry moved nothing
change(id, changes)  run_now(id)     while it is pending
delete(ids)                          what does not run
expire, park, unpark                 what time and missing workers do to pending tasks
pause(queues)  resume(queues)        hold a queue back, let it go on
reserve, keep, forget, is_taken      requests that are sent again
prune, any_outlived                  finished tasks are not kept for ever
present, absent                      which workers live, and what they know
drain(workers)                       ask them to take nothing more, and to end
purge(queue)                         cancel what is pending in it
look  asked_to_stop                  what a worker asks before it does anything
"""

from __future__ import annotations

from tasks.lifecycle.changing import change, delete, run_now
from tasks.lifecycle.intake import enqueue, enqueue_each
from tasks.lifecycle.leasing import (
    Extension,
    Sight,
    asked_to_stop,
    claim,
    extend,
    look,
    promote,
    release,
)
from tasks.lifecycle.once import KEPT_FOR, forget, is_taken, keep, reserve
from tasks.lifecycle.pruning import PRUNED_AT_ONCE, any_outlived, prune
from tasks.lifecycle.queues import pause, resume
from tasks.lifecycle.settling import REFUSED, Settlement, reap, settle, settle_singly
from tasks.lifecycle.steering import Cancellation, cancel, holder_of_its_key, purge, retry
from tasks.lifecycle.waiting import expire, park, unpark
from tasks.lifecycle.workers import absent, drain, handlers_of_the_living, living, present

__all__ = [
    "KEPT_FOR",
    "PRUNED_AT_ONCE",
    "REFUSED",
    "Cancellation",
    "Extension",
    "Settlement",
    "Sight",
    "absent",
    "any_outlived",
    "asked_to_stop",
    "cancel",
    "change",
    "claim",
    "delete",
    "drain",
    "enqueue",
    "enqueue_each",
    "expire",
    "extend",
    "forget",
    "handlers_of_the_living",
    "holder_of_its_key",
    "is_taken",
    "keep",
    "living",
    "look",
    "park",
    "pause",
    "present",
    "promote",
    "prune",
    "purge",
    "reap",
    "release",
    "reserve",
    "resume",
    "retry",
    "run_now",
    "settle",
    "settle_singly",
    "unpark",
]
