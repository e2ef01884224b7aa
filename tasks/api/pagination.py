"""Pages by key, newest first: nothing is counted, skipped or shown twice, whatever is written meanwhile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.core import signing
from django.db.models import Model, QuerySet
from django.http import HttpResponse

from tasks.api.answers import json_answer
from tasks.errors import FieldError, InvalidFields

DEFAULT_LIMIT = 50
MAX_LIMIT = 200
WALK = 50_000  # rows that one page looks at

ESTIMATED, EXACT = 1_000, 1_000_000  # where counting ends

OLDER, NEWER = "lt", "gt"
_REST = {"lt": "gte", "gte": "lt", "gt": "lte", "lte": "gt"}  # what a look leaves to the other direction


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page begins, and which way it looks: a comparison with a row's key."""

    look: str
    key: str

    @property
    def newer(self) -> bool:
        return self.look.startswith("g")

    def rest(self) -> Place:
        """All that is not in this direction, for the way back from an empty page."""
        return Place(_REST[self.look], self.key)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What a client wants to see of the list at ``path``."""

    path: str
    filters: Mapping[str, str]
    limit: int = DEFAULT_LIMIT
    count: str = "none"
    place: Place | None = None  # None: the newest

    def url(self, place: Place | None) -> str | None:
        """Of the page at that place, with the same filters and limit."""
        if place is None:
            return None
        query = {**self.filters, "limit": self.limit, "cursor": _cursor(place, self.filters, self.path)}
        query |= {} if self.count == "none" else {"count": self.count}
        return f"{self.path}?{urlencode(query)}"


def _cursor(place: Place, filters: Mapping[str, str], path: str) -> str:
    """Opaque, and signed for the list at this path: what comes back is what went out."""
    return _signer(path).sign_object([place.look, place.key, dict(filters)])


def parse_cursor(text: str, path: str) -> tuple[Place, Mapping[str, str]]:
    """The place, and the filters of its list. Raises InvalidFields for a text that ``url`` did not make."""
    try:
        look, key, filters = _signer(path).unsign_object(text)
    except (signing.BadSignature, ValueError):
        raise bad_cursor() from None
    return Place(look, key), filters


def _signer(path: str) -> signing.Signer:
    return signing.Signer(salt=f"tasks.api.pagination {path}")


def bad_cursor() -> InvalidFields:
    return InvalidFields([FieldError(code="bad-cursor", detail="bad cursor", parameter="cursor")])


@dataclass(frozen=True, slots=True)
class Page[Row: Model]:
    items: list[Row]  # newest first
    older: Place | None  # where the next page begins; None: there is none
    newer: Place | None


def page_of[Row: Model](
    rows: QuerySet[Row], wanted: Listing, *, among: QuerySet[Row] | None = None, walk: int | None = None
) -> Page[Row]:
    """The wanted page of rows whose primary keys grow with time.

    ``among``: rows that an index lists, for filters that none serves. Only ``walk`` of them (``WALK``) are
    looked at, so that a rare match among millions costs nobody a second: such a page may hold
    fewer than its limit, or nothing, and still have a next one.
    """
    place = wanted.place
    newer = place is not None and place.newer
    edge = None if among is None else _edge(_ahead(among, place), walk or WALK)
    ahead = _ahead(rows, place)
    if edge is not None:
        ahead = ahead.filter(pk__lte=edge) if newer else ahead.filter(pk__gte=edge)
    found = list(ahead[: wanted.limit + 1])  # one more, to know whether there are more
    items = found[: wanted.limit]
    last = items[-1].pk if len(found) > len(items) else edge
    onward = None if last is None else Place(NEWER if newer else OLDER, str(last))
    back = _way_back(items, place)
    return Page(items[::-1], older=back, newer=onward) if newer else Page(items, older=onward, newer=back)


def _ahead[Row: Model](rows: QuerySet[Row], place: Place | None) -> QuerySet[Row]:
    """The rows in the order in which the page meets them."""
    if place is None:
        return rows.order_by("-pk")
    return rows.filter(**{f"pk__{place.look}": place.key}).order_by("pk" if place.newer else "-pk")


def _edge(ahead: QuerySet[Any], walk: int) -> Any:
    """The key at which the walk ends; None when there are not so many rows."""
    return next(iter(ahead.values_list("pk", flat=True)[walk : walk + 1]), None)


def _way_back(items: list[Any], place: Place | None) -> Place | None:
    if place is None:
        return None
    return Place(OLDER if place.newer else NEWER, str(items[0].pk)) if items else place.rest()


def page_answer(items: list[Any], page: Page[Any], wanted: Listing, **members: Any) -> HttpResponse:
    """The page with the way to its neighbours, in the body and as ``Link``."""
    after, before = wanted.url(page.older), wanted.url(page.newer)
    links = [f'<{url}>; rel="{rel}"' for url, rel in ((after, "next"), (before, "prev")) if url]
    headers = {"Link": ", ".join(links)} if links else {}
    return json_answer({"items": items, "next": after, "previous": before, **members}, headers=headers)


def counted(matches: QuerySet[Any], wanted: Listing, *, among: QuerySet[Any]) -> dict[str, Any]:
    """The member ``count``, if it is wanted: how many match, or at least how many.

    An estimate looks at the newest ``WALK`` rows, and no further than ``ESTIMATED``; an exact count
    at the newest ``EXACT``.
    """
    if wanted.count == "none":
        return {}
    most, rows = (EXACT, EXACT) if wanted.count == "exact" else (ESTIMATED, WALK)
    edge = _edge(_ahead(among, None), rows)
    if edge is not None:
        matches = matches.filter(pk__gte=edge)
    found = matches.order_by().values("pk")[: most + 1].count()
    exact = found <= most and edge is None
    return {"count": {"value": min(found, most), "relation": "eq" if exact else "gte"}}
