"""``tasks retry`` and ``tasks cancel``: some tasks by their ids, or all that match, after a question."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import batched
from typing import Any
from uuid import UUID

from django.core.management.base import CommandError

from tasks.limits import ROWS_AT_ONCE
from tasks.management.choosing import Matching, filters_of
from tasks.operations import VERBS, Verb, added
from tasks.selection import Counted

DONE = {"queued again", "cancelled", "asked to stop"}


@dataclass(frozen=True, slots=True)
class Lever:
    verb: Verb
    which: str  # of the tasks that match it can move at all
    question: str
    given: tuple[str, ...]  # options that its verb takes


LEVERS = {
    "retry": Lever(VERBS["retry"], "finished", "Run {tasks} again?", ("run_at", "payload")),
    "cancel": Lever(VERBS["cancel"], "unfinished", "Cancel {tasks}?", ("reason",)),
}


def run(lever: Lever, options: Mapping[str, Any], write: Callable[[str], object]) -> int:
    """The exit code: 0 if anything was moved."""
    filters = filters_of(options)
    _refuse_contradictions(options, filters)
    if options["ids"]:
        ids = list(dict.fromkeys(options["ids"]))
        return _all(lever, options, batched(ids, ROWS_AT_ONCE), write)
    matching = Matching(filters, lever.verb)
    counted = matching.count()
    if options["dry_run"] or not counted.number:
        write(f"{_tasks(counted, lever.which)} {'matches' if _is_one(counted) else 'match'}.")
        return 0 if counted.number or not counted.whole else 1
    if not options["yes"] and not _confirmed(lever.question.format(tasks=_tasks(counted, lever.which))):
        write("Nothing was done.")
        return 1
    return _all(lever, options, matching.pages(), write)


def _tasks(counted: Counted, which: str) -> str:
    """``1 finished task``, ``10,000+ finished tasks``."""
    more = "" if counted.whole else "+"
    return f"{counted.number:,}{more} {which} task{'' if _is_one(counted) else 's'}"


def _is_one(counted: Counted) -> bool:
    return counted == Counted(1, whole=True)


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
    options: Mapping[str, Any],
    pages: Iterable[Sequence[UUID]],
    write: Callable[[str], object],
) -> int:
    total, asked = {lever.verb.moved: 0}, 0
    given = {name: options[name] for name in lever.given}
    try:
        for page in pages:
            total = added(total, lever.verb.pull(page, **given))
            asked += len(page)
    except KeyboardInterrupt:
        write(f"Interrupted: {_told(total, asked)}")
        raise CommandError("The rest was left as it is.", returncode=130) from None
    write(_told(total, asked))
    return 0 if any(total.get(words) for words in DONE) else 1


def _told(total: Mapping[str, int], asked: int) -> str:
    (first, number), *others = total.items()
    more = [f"{count:,} {words}" for words, count in others if count]
    return "; ".join([f"{number:,} of {asked:,} {first}", *more]) + "."
