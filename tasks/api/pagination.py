"""Pages by key, in order of time: nothing is counted, skipped or shown twice under writes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.core import signing
from django.db.models import Model, QuerySet
from django.http import HttpResponse

from tasks.api.answers import answer, json_bytes, within_json
from tasks.errors import FieldError, InvalidFields

DEFAULT_LIMIT = 50
MAX_LIMIT = 200
WALK = 50_000  # rows that one page looks at
PAGE_BYTES = 8 * 2**20  # after which a page ends, with one item at least
ROWS_OF_A_PART = 64  # read at once, of which each may have half a megabyte
SORTS = NEWEST_FIRST, OLDEST_FIRST = "-created_at", "created_at"  # what the primary key serves

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
    sort: str = NEWEST_FIRST
    place: Place | None = None  # None: where the list begins

    @property
    def oldest_first(self) -> bool:
        return self.sort == OLDEST_FIRST

    def url(self, place: Place | None) -> str | None:
        """Of the page at that place, with the same filters and limit."""
        if place is None:
            return None
        query: dict[str, Any] = {**self.filters, "limit": self.limit}
        query |= {} if self.sort == NEWEST_FIRST else {"sort": self.sort}
        query |= {"cursor": self._cursor(place)}
        query |= {} if self.count == "none" else {"count": self.count}
        return f"{self.path}?{urlencode(query)}"

    def _cursor(self, place: Place) -> str:
        """Opaque, and signed for the list at this path: what comes back is what went out."""
        sort = [] if self.sort == NEWEST_FIRST else [self.sort]
        return _signer(self.path).sign_object([place.look, place.key, dict(self.filters), *sort])


def parse_cursor(text: str, path: str) -> tuple[Place, Mapping[str, str], str]:
    """The place, and the filters and order of its list. Raises InvalidFields for what is not of ``url``."""
    try:
        look, key, filters, *sort = _signer(path).unsign_object(text)
    except (signing.BadSignature, ValueError):
        raise bad_cursor() from None
    return Place(look, key), filters, sort[0] if sort else NEWEST_FIRST


def _signer(path: str) -> signing.Signer:
    return signing.Signer(salt=f"tasks.api.pagination {path}")


def bad_cursor() -> InvalidFields:
    return InvalidFields([FieldError(code="bad-cursor", detail="bad cursor", parameter="cursor")])


@dataclass(frozen=True, slots=True)
class Page:
    items: list[bytes]  # JSON, in the order of the list
    older: Place | None  # where the page of older ones begins; None: there is none
    newer: Place | None


def page_of[Row: Model](
    rows: QuerySet[Row],
    wanted: Listing,
    show: Callable[[Row], Any],
    *,
    among: QuerySet[Row] | None = None,
    walk: int | None = None,
) -> Page:
    """The wanted page of rows whose primary keys grow with time, each as ``show`` says.

    ``among``: rows that an index lists, for filters that none serves. Only ``walk`` of them (``WALK``) are
    looked at, so that a rare match among millions costs nobody a second: such a page may hold
    fewer than its limit, or nothing, and still have a next one.
    """
    place = wanted.place
    up = place.newer if place else wanted.oldest_first
    edge = None if among is None else _edge(_ahead(among, place, up=up), walk or WALK)
    ahead = _ahead(rows, place, up=up)
    if edge is not None:
        ahead = ahead.filter(pk__lte=edge) if up else ahead.filter(pk__gte=edge)
    keys, items, more = _read(ahead, wanted.limit, show, up=up)
    last = keys[-1] if more else edge
    onward = None if last is None else Place(NEWER if up else OLDER, str(last))
    back = _way_back(keys, place)
    shown = items if up == wanted.oldest_first else items[::-1]
    return Page(shown, older=back, newer=onward) if up else Page(shown, older=onward, newer=back)


def _ahead[Row: Model](rows: QuerySet[Row], place: Place | None, *, up: bool = False) -> QuerySet[Row]:
    """The rows in the order in which the page meets them; ``up``: from older to newer."""
    if place is not None:
        rows = rows.filter(**{f"pk__{place.look}": place.key})
    return rows.order_by("pk" if up else "-pk")


def _edge(ahead: QuerySet[Any], walk: int) -> Any:
    """The key at which the walk ends; None when there are not so many rows."""
    return next(iter(ahead.values_list("pk", flat=True)[walk : walk + 1]), None)


def _read[Row: Model](
    ahead: QuerySet[Row], limit: int, show: Callable[[Row], Any], *, up: bool
) -> tuple[list[Any], list[bytes], bool]:
    """Keys, items, and whether there are more: than the limit, or than ``PAGE_BYTES`` have room for."""
    keys: list[Any] = []
    items: list[bytes] = []
    room = PAGE_BYTES
    for row in _in_parts(ahead, limit + 1, up=up):  # one more, to know whether there are more
        item = within_json(show(row)) if len(items) < limit else b""
        room -= len(item)
        if len(items) == limit or (items and room < 0):
            return keys, items, True
        keys.append(row.pk)
        items.append(item)
    return keys, items, False


def _in_parts[Row: Model](ahead: QuerySet[Row], most: int, *, up: bool) -> Iterator[Row]:
    """Read as they are needed: of many large rows only a part is in memory."""
    rows = ahead
    while most > 0:
        part = list(rows[: min(most, ROWS_OF_A_PART)])
        yield from part
        most -= len(part)
        if len(part) < ROWS_OF_A_PART:
            return
        rows = ahead.filter(**{"pk__gt" if up else "pk__lt": part[-1].pk})


def _way_back(keys: list[Any], place: Place | None) -> Place | None:
    if place is None:
        return None
    return Place(OLDER if place.newer else NEWER, str(keys[0])) if keys else place.rest()


def page_of_names(
    names: Sequence[str], wanted: Listing, show: Callable[[Sequence[str]], Iterable[Any]]
) -> Page:
    """The wanted page of a list that is short enough to be known whole, in this order: of sorted names."""
    place = wanted.place
    if place is None:
        chosen = names[: wanted.limit]
    elif place.newer:  # what leads to newer ones elsewhere leads back here
        chosen = [name for name in names if name < place.key][-wanted.limit :]
    else:
        chosen = [name for name in names if name > place.key][: wanted.limit]
    before, after = (chosen[0], chosen[-1]) if chosen else (place.key, place.key) if place else ("", "")
    return Page(
        [within_json(item) for item in show(chosen)] if chosen else [],
        older=Place(OLDER, after) if names and names[-1] > after else None,
        newer=Place(NEWER, before) if names and names[0] < before else None,
    )


def counted_names(names: Sequence[str], wanted: Listing) -> dict[str, Any]:
    """The member ``count`` of such a list, if it is wanted."""
    return {} if wanted.count == "none" else {"count": {"value": len(names), "relation": "eq"}}


def page_answer(
    page: Page, wanted: Listing, *, first: Sequence[Any] = (), members: Mapping[str, Any] | None = None
) -> HttpResponse:
    """The page with the way to its neighbours, in the body and as ``Link``. ``first``: items that lead it."""
    neighbours = (page.newer, page.older) if wanted.oldest_first else (page.older, page.newer)
    after, before = map(wanted.url, neighbours)
    links = [f'<{url}>; rel="{rel}"' for url, rel in ((after, "next"), (before, "prev")) if url]
    headers = {"Link": ", ".join(links)} if links else {}
    items = b",".join([*map(within_json, first), *page.items])
    rest = json_bytes({"next": after, "previous": before, **(members or {})})
    return answer(b'{"items":[%b],%b' % (items, rest[1:]), status=200, headers=headers)


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
