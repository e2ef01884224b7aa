"""What the address of a list of tasks chooses: its parameters, and the search in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Any

from django.http import QueryDict
from django.utils import timezone

from tasks import registry
from tasks.matching import is_secret, masked_name
from tasks.search import BadSearch, Term, bounds, id_range, parse
from tasks.selection import Selection
from tasks.states import Status

SPANS = {  # of "created"; anything that a search knows may stand there too
    "hour": ("past hour", "<1h"),
    "day": ("past 24 hours", "<1d"),
    "week": ("past 7 days", "<7d"),
    "month": ("past 30 days", "<30d"),
}
EVER = "ever"  # for where another span is the usual one
OLDER, NEWER = "older_than", "newer_than"
NOT_ALLOWED = (
    "You may not see payloads, results and errors, and so cannot search in them: ask for the "
    "permission “Can view payloads, results and errors”."
)
MASKED = "The value of {} is masked: no search finds out what it is."


class BadAddress(ValueError):
    """No page leads there."""


def _status(value: str, now: datetime) -> dict[str, str]:
    if value not in Status.values:
        raise BadAddress
    return {"status": value}


def _id(value: str, now: datetime) -> dict[str, str]:
    if id_range(value) is None:
        raise BadAddress
    return {"id": value}


def _created(value: str, now: datetime) -> dict[str, str]:
    if value == EVER:
        return {}
    try:
        after, before = bounds(SPANS[value][1] if value in SPANS else value, now)
    except BadSearch as error:
        raise BadAddress from error
    return _between(after, before)


def _created_before(value: str, now: datetime) -> dict[str, str]:
    try:
        moment = datetime.fromisoformat(value)
        aware = moment if timezone.is_aware(moment) else timezone.make_aware(moment)
        return _between(None, aware.astimezone(UTC))
    except (ValueError, OverflowError) as error:
        raise BadAddress from error


def _between(after: datetime | None, before: datetime | None) -> dict[str, str]:
    given = {"created_after": after, "created_before": before}
    return {name: moment.isoformat() for name, moment in given.items() if moment}


def _same(name: str) -> Callable[[str, datetime], dict[str, str]]:
    return lambda value, now: {name: value}


# By the parameter's name: the filters of a selection that a value stands for.
PARAMETERS: Mapping[str, Callable[[str, datetime], dict[str, str]]] = {
    "status": _status,
    "queue": _same("queue"),
    "handler": _same("handler"),
    "tag": _same("tag"),
    "worker": _same("worker"),
    "id": _id,
    "failure": _same("failure"),
    "created": _created,
    "created_before": _created_before,
}


@dataclass(frozen=True, slots=True)
class Chosen:
    """``complaint``: what is wrong with the search, which then finds nothing."""

    given: Mapping[str, str]  # parameter -> value
    selection: Selection
    query: str = ""
    complaint: str = ""

    @property
    def narrowed(self) -> bool:
        return bool(self.given or self.query)


def chosen(params: Mapping[str, str], *, may_see_payloads: bool, **more: Any) -> Chosen:
    """Of these parameters, ``q`` among them; others are nobody's. Raises BadAddress."""
    given = {name: value for name, value in params.items() if name in PARAMETERS and value}
    query = params.get("q", "").strip()
    if any("\0" in value for value in (*given.values(), query)):
        raise BadAddress
    now, filters = timezone.now(), dict[str, str]()
    for name, value in given.items():
        filters |= _both(filters, PARAMETERS[name](value, now))
    complaint, rest = "", ""
    try:
        search = parse(query)
        rest = search.rest
        for name, value in search.filters.items():
            filters |= _both(filters, PARAMETERS[name](_meant(name, value), now))
        complaint = _refused(search.terms, may_see_payloads=may_see_payloads)
    except BadSearch as error:
        complaint = str(error)
    selection = Selection(filters=filters, search=rest, names_only=not may_see_payloads, **more)
    return Chosen(given, selection, query, complaint)


def _refused(terms: Sequence[Term], *, may_see_payloads: bool) -> str:
    """Why they are not looked for; empty when they are."""
    if not may_see_payloads and any(map(is_secret, terms)):
        return NOT_ALLOWED
    name = next(filter(None, map(masked_name, terms)), None)
    return MASKED.format(name) if name else ""


def _both(filters: Mapping[str, str], more: Mapping[str, str]) -> dict[str, str]:
    """Two that end a time hold together: the earlier one counts."""
    end = "created_before"
    if end in filters and end in more:
        return {**more, end: min(filters[end], more[end], key=datetime.fromisoformat)}
    return dict(more)


def led_to(params: QueryDict) -> QueryDict | None:
    """The same, with what the search says of columns as parameters of their own; None: it says nothing.

    Raises BadSearch.
    """
    search = parse(params.get("q", ""))
    if not search.filters:
        return None
    led = params.copy()
    for name in (OLDER, NEWER):
        led.pop(name, None)
    for name, value in search.filters.items():
        led[name] = _meant(name, value)
    led["q"] = search.rest
    if not search.rest:
        del led["q"]
    return led


def _meant(name: str, value: str) -> str:
    return handler_meant(value) if name == "handler" else value


def handler_meant(text: str) -> str:
    """A handler's whole name, or the end of a known one: ``send`` for ``mail.send``. Raises BadSearch."""
    known = known_handlers()
    if text in known:
        return text
    ending = [name for name in known if name.lower().endswith(f".{text.lower()}")]
    if len(ending) > 1:
        raise BadSearch(f"handler:{text} could be {' or '.join(ending[:5])}: write one of them.")
    if ending:
        return ending[0]
    if "." not in text and (near := get_close_matches(text, [*known, *_ends(known)], n=1)):
        raise BadSearch(f"There is no handler {text} here. Did you mean handler:{near[0]}?")
    return text  # one that is no longer in the code still has its tasks


def known_handlers() -> list[str]:
    return sorted({registry.find(name).handler for name in registry.known()})


def _ends(names: list[str]) -> list[str]:
    return [name.rpartition(".")[2] for name in names]
