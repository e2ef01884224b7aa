"""The query of a list, checked: filters, limit and cursor. Everything that is wrong is said at once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from django.http import HttpRequest

from tasks.api.pagination import (
    DEFAULT_LIMIT,
    MAX_LIMIT,
    NEWEST_FIRST,
    Listing,
    bad_cursor,
    parse_cursor,
)
from tasks.errors import FieldError, InvalidFields
from tasks.filtering import Filter
from tasks.members import ERRORS_SHOWN

Rule = tuple[Callable[[str], bool], str]  # what a value has to be, and the same in words
COUNTS = ("none", "estimate", "exact")

_PAGING: Mapping[str, Rule] = {
    "limit": (
        lambda text: text.isascii() and text.isdecimal() and len(text) < 10 and 1 <= int(text) <= MAX_LIMIT,
        f"must be a whole number from 1 to {MAX_LIMIT}",
    ),
    "cursor": (bool, "must not be empty"),
    "count": (lambda text: text in COUNTS, f"must be one of {', '.join(COUNTS)}"),
}


def listing_from(request: HttpRequest, filters: Mapping[str, Filter], sorts: Collection[str] = ()) -> Listing:
    """What a request asks for; ``sorts``: the orders it may choose. Raises InvalidFields.

    A cursor brings the filters and the order of its list; given beside it, they must be the same.
    """
    params, path = request.GET, request.path
    rules = {**{name: (known.fits, known.words) for name, known in filters.items()}, **_PAGING}
    if sorts:
        rules["sort"] = (lambda text: text in sorts, f"must be one of {', '.join(sorts)}")
    errors = [error for name in params for error in _errors(name, params.getlist(name), rules)]
    if errors:
        raise InvalidFields(errors[:ERRORS_SHOWN])
    given = {name: params[name] for name in filters if name in params}
    limit = int(params.get("limit", DEFAULT_LIMIT))
    count = params.get("count", "none")
    if "cursor" not in params:
        sort = params.get("sort", NEWEST_FIRST)
        return Listing(path=path, filters=given, limit=limit, count=count, sort=sort)
    place, its_filters, sort = parse_cursor(params["cursor"], path)
    if (given and given != its_filters) or params.get("sort", sort) != sort:
        raise bad_cursor()
    return Listing(path=path, filters=its_filters, limit=limit, count=count, sort=sort, place=place)


def _errors(name: str, values: list[str], rules: Mapping[str, Rule]) -> list[FieldError]:
    if name not in rules:
        text = f"{name[:100]} is not a known parameter (known: {', '.join(rules)})"
        return [FieldError(code="unknown", detail=text, parameter=name[:100])]
    if len(values) > 1:
        return [FieldError(code="repeated", detail=f"{name} is given more than once", parameter=name)]
    fits, words = rules[name]
    if not fits(values[0]):
        return [FieldError(code="invalid", detail=f"{name} {words}", parameter=name)]
    return []
