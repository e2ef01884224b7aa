"""``tasks retry`` and ``tasks cancel``: some tasks by their ids, or all that match, after a question."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import batched
from typing import Any
from uuid import UUID

from django.core.management.base import CommandError

from tasks import lifecycle
from tasks.limits import ROWS_AT_ONCE
from tasks.management.choosing import Matching, filters_of
from tasks.states import FINISHED, Status

Options = Mapping[str, Any]  # of the command line
Pull = Callable[[Sequence[UUID], Options], dict[str, int]]  # what a page came to: words -> how many

LIVE = frozenset({Status.PENDING, Status.PROCESSING})
DONE = {"queued again", "cancelled", "asked to stop"}


@dataclass(frozen=True, slots=True)
class Lever:
    name: str
    question: str
    statuses: frozenset[Status]  # that it can move at all
    pull: Pull
    moved: str  # what is said first, also when it is none


def _retry(ids: Sequence[UUID], options: Options) -> dict[str, int]:
    moved = lifecycle.retry(ids, run_at=options["run_at"], payload=options["payload"])
    return {"queued again": moved, "not finished, or not there": len(ids) - moved}


def _cancel(ids: Sequence[UUID], options: Options) -> dict[str, int]:
    answer = lifecycle.cancel(ids, reason=options["reason"])
    known = len(answer.cancelled) + len(answer.requested) + len(answer.finished)
    return {
        "cancelled": len(answer.cancelled),
        "asked to stop": len(answer.requested),
        "had finished": len(answer.finished),
        "not there": len(ids) - known,
    }


LEVERS = {
    "retry": Lever("retry", "Run {count} tasks again?", FINISHED, _retry, "queued again"),
    "cancel": Lever("cancel", "Cancel {count} tasks?", LIVE, _cancel, "cancelled"),
}


def run(lever: Lever, options: Mapping[str, Any], write: Callable[[str], object]) -> int:
    """The exit code: 0 if anything was moved."""
    filters = filters_of(options)
    _refuse_contradictions(options, filters)
    if options["ids"]:
        ids = list(dict.fromkeys(options["ids"]))
        return _all(lever, options, batched(ids, ROWS_AT_ONCE), len(ids), write)
    matching = Matching(filters, lever.statuses)
    count = matching.count()
    if options["dry_run"] or not count:
        write(f"{count:,} tasks match.")
        return 0 if count else 1
    if not options["yes"] and not _confirmed(lever.question.format(count=f"{count:,}")):
        write("Nothing was done.")
        return 1
    return _all(lever, options, matching.pages(), count, write)


def _refuse_contradictions(options: Mapping[str, Any], filters: Mapping[str, str]) -> None:
    if options["ids"] and (filters or options["all_matching"]):
        raise CommandError("Give ids, or --all-matching with filters, but not both.", returncode=2)
    if not options["ids"] and not (options["all_matching"] and filters):
        raise CommandError("Give ids, or --all-matching and at least one filter.", returncode=2)


def _confirmed(question: str) -> bool:
    if not sys.stdin.isatty():
        raise CommandError(
            f"{question} Nobody is there to ask: add --yes, or look with --dry-run.", returncode=2
        )
    return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")


def _all(
    lever: Lever,
    options: Options,
    pages: Iterable[Sequence[UUID]],
    asked: int,
    write: Callable[[str], object],
) -> int:
    total: dict[str, int] = {lever.moved: 0}
    try:
        for page in pages:
            for words, number in lever.pull(page, options).items():
                total[words] = total.get(words, 0) + number
    except KeyboardInterrupt:
        write(f"Interrupted: {_told(total, asked)}")
        raise CommandError("The rest was left as it is.", returncode=130) from None
    write(_told(total, asked))
    return 0 if any(total.get(words) for words in DONE) else 1


def _told(total: Mapping[str, int], asked: int) -> str:
    (first, number), *others = total.items()
    more = [f"{count:,} {words}" for words, count in others if count]
    return "; ".join([f"{number:,} of {asked:,} {first}", *more]) + "."
