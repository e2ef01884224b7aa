"""What an operator reads: one event a line, and a summary every ten seconds of work."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Sequence

from tasks import failures, postgres, states, tally
from tasks.contract import Crashed, Lease, Outcome, Released, Succeeded
from tasks.decide import Decision
from tasks.lifecycle import Extension, Settlement
from tasks.logs import event
from tasks.models import Attempt
from tasks.states import Transition

logger = logging.getLogger("tasks.dispatcher")

SUMMARY_SECONDS = 10.0
_OUTCOMES = {Succeeded: "succeeded", **{kind: str(name) for kind, name in Attempt.OUTCOME_OF.items()}}
_LEVELS: dict[Transition, int] = {states.FAIL: logging.WARNING}


class Report:
    """Counts what was settled, and logs whatever is not an ordinary success."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._since = time.monotonic()
        self._totals: Counter[str] = Counter()
        self._tally = tally.here

    def claimed(self, leases: Sequence[Lease]) -> None:
        if leases:
            self._tally.claimed(leases)
        if logger.isEnabledFor(logging.DEBUG):
            for lease in leases:
                event(
                    logger,
                    logging.DEBUG,
                    "task.claimed",
                    task_id=lease.task_id,
                    handler=lease.handler,
                    queue=lease.queue,
                    attempt=lease.attempt,
                    fence=lease.fence,
                )

    def settled(self, settlement: Settlement) -> None:
        ended: Counter[tuple[str, str, type[Outcome], str]] = Counter()
        if failed := [entry for entry in settlement.written if entry[2].recorded]:
            failures.here.add(failed)
        for lease, outcome, decision in settlement.written:
            ended[lease.queue, lease.handler, type(outcome), decision.transition.name] += 1
            level = _level(lease, outcome, decision)
            if logger.isEnabledFor(level):
                _tell(level, lease, outcome, decision)
        for (*_, transition), count in ended.items():
            self._counts[transition] += count
        if ended:
            self._tally.settled(
                {(*key[:2], _OUTCOMES[key[2]], key[3]): count for key, count in ended.items()}
            )
            self._tally.count(tally.CRASHES, sum(count for key, count in ended.items() if key[2] is Crashed))
        for lease in settlement.lost:
            event(logger, logging.WARNING, "outcome.dropped", task_id=lease.task_id, fence=lease.fence)

    def reaped(self, settlement: Settlement) -> None:
        self._tally.count(tally.REAPED, len(settlement.written))
        self.settled(settlement)

    def renewed(self, extension: Extension) -> None:
        self._tally.count(tally.RENEWED, len(extension.held))
        self._tally.count(tally.LOST, len(extension.lost))

    def ran(self, seconds: dict[tuple[str, str], list[float]], *, busy: int) -> None:
        self._tally.busy = busy
        if seconds:
            self._tally.ran(seconds)

    def database_failed(self, what: str, error: Exception | None, failures: int) -> None:
        """The first failures in a row are told, then every tenth."""
        self._tally.count(tally.DATABASE, detail="worker")
        if failures <= 3 or failures % 10 == 0:
            told = {"during": what, "failures": failures, "error": repr(error), "hint": postgres.hint(error)}
            event(logger, logging.ERROR, "database.failed", **told)

    def now_and_then(self, now: float) -> None:
        if now - self._since < SUMMARY_SECONDS:
            return
        self._sum_up(now)

    def _sum_up(self, now: float) -> None:
        if self._counts:
            rate = round(self._counts.total() / (now - self._since), 1)
            event(logger, logging.INFO, "worker.summary", per_second=rate, **_fields(self._counts))
        self._totals += self._counts
        self._counts.clear()
        self._since = now

    def total(self) -> dict[str, int]:
        """All that was settled since the start, by transition."""
        return {
            name.replace("-", "_"): count for name, count in sorted((self._totals + self._counts).items())
        }


def _fields(counts: Counter[str]) -> dict[str, int]:
    return {name.replace("-", "_"): count for name, count in sorted(counts.items())}


def _level(lease: Lease, outcome: Outcome, decision: Decision) -> int:
    """DEBUG for what is ordinary: a success at once, and a lease that went to another executor."""
    if decision.transition is states.COMPLETE and lease.attempts_used == 1:
        return logging.DEBUG
    if decision.transition is states.RELEASE and outcome == Released(started=False):
        return logging.DEBUG
    return _LEVELS.get(decision.transition, logging.INFO)


def _tell(level: int, lease: Lease, outcome: Outcome, decision: Decision) -> None:
    error = decision.error
    event(
        logger,
        level,
        "task.settled",
        task_id=lease.task_id,
        handler=lease.handler,
        queue=lease.queue,
        transition=decision.transition.name,
        outcome=type(outcome).__name__.lower(),
        attempt=lease.attempt,
        of=lease.max_attempts + lease.attempts_before,
        error=error and error.type,
        run_at=decision.run_at and decision.run_at.isoformat(timespec="milliseconds"),
    )
