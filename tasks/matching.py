"""How each term of a search asks the database."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from django.db import connections
from django.db.models import BooleanField, Q
from django.db.models.expressions import RawSQL

from tasks import masking
from tasks.models import TaskQuerySet
from tasks.search import Scalar, Term, in_json

Condition = tuple[str, list[Any]]  # SQL and its parameters


def matching(tasks: TaskQuerySet, terms: Sequence[Term], *, names_only: bool = False) -> TaskQuerySet:
    """Those that have all the terms. ``names_only``: for who may not see payloads and errors, and so
    cannot find out by searching what is in them."""
    for term in terms:
        tasks = tasks.filter(_condition(tasks, term, names_only))
    return tasks


def is_secret(term: Term) -> bool:
    """Whether it asks for what only those may know who may see payloads."""
    return term.about in ("payload", "error")


def masked_name(term: Term) -> str | None:
    """The name on its path whose value no page shows, and which must not be found out by asking for it."""
    *within, last = term.path or ("",)
    asked = [*((name, "whatever it is") for name in within), (last, term.scalar)]
    return next((name for name, value in asked if isinstance(name, str) and masking.hides(name, value)), None)


def _condition(tasks: TaskQuerySet, term: Term, names_only: bool) -> Q:
    postgres = connections[tasks.db].vendor == "postgresql"
    if names_only and is_secret(term):
        return Q(pk__in=())
    if term.path:
        return Q(_sql((_value_postgres if postgres else _value_sqlite)(term)))
    contains = _contains_postgres if postgres else _contains_sqlite
    pattern = f"%{connections[tasks.db].ops.prep_for_like_query(term.text)}%"
    in_payload = f"%{connections[tasks.db].ops.prep_for_like_query(in_json(term.text))}%"
    names = Q(title__icontains=term.text) | Q(handler__icontains=term.text)
    payload = Q(_sql(contains("payload", (), in_payload)))
    error = Q(_sql(contains("error", ("type", "message"), pattern)))
    match term.about:
        case "title":
            return Q(title__icontains=term.text)
        case "payload":
            return payload
        case "error":
            return error
        case _:
            return names if names_only else names | payload | error


def _sql(condition: Condition) -> RawSQL:
    text, params = condition
    return RawSQL(text, params, output_field=BooleanField())  # noqa: S611 - the text is ours


# -- a text that contains another, in any case


def _contains_sqlite(column: str, members: Sequence[str], pattern: str) -> Condition:
    """``members``: of the column's JSON, whose texts count; without any the whole JSON does."""
    looks = [f"json_extract(tasks.{column}, '$.{name}')" for name in members] or [f"tasks.{column}"]
    return _any([f"coalesce({look}, '') LIKE %s ESCAPE '\\'" for look in looks], pattern)


def _contains_postgres(column: str, members: Sequence[str], pattern: str) -> Condition:
    looks = [f"tasks.{column} ->> '{name}'" for name in members] or [f"tasks.{column}::text"]
    return _any([f"coalesce({look}, '') ILIKE %s" for look in looks], pattern)


def _any(conditions: Sequence[str], param: str) -> Condition:
    return f"({' OR '.join(conditions)})", [param] * len(conditions)


# -- a value at a place in the payload: JSON's kinds are kept apart, but numbers are equal if they are


def _value_sqlite(term: Term) -> Condition:
    path = "$" + "".join(f"[{name}]" if isinstance(name, int) else f'."{name}"' for name in term.path)

    def compared(kinds: str, value: Scalar) -> Condition:
        return (
            f"(json_type(tasks.payload, %s) IN ({kinds}) AND json_extract(tasks.payload, %s) = %s)",
            [path, path, value],
        )

    return _either(
        term,
        text=lambda text: compared("'text'", text),
        number=lambda number: compared("'integer', 'real'", number),
        word=lambda word: ("(json_type(tasks.payload, %s) = %s)", [path, word]),
    )


def _value_postgres(term: Term) -> Condition:
    steps = ["%s::int" if isinstance(name, int) else "%s::text" for name in term.path]
    place, path = f"(tasks.payload -> {' -> '.join(steps)})", list(term.path)

    def compared(kind: str, cast: str, value: str) -> Condition:
        """CASE: nothing else keeps the cast from meeting another kind."""
        return (
            f"(CASE json_typeof({place}) WHEN '{kind}' THEN ({place} #>> '{{}}'){cast} = %s{cast} END)",
            [*path, *path, value],
        )

    return _either(
        term,
        text=lambda text: compared("string", "::text", text),
        number=lambda number: compared("number", "::numeric", repr(number)),
        word=lambda word: (
            (f"(json_typeof({place}) = 'null')", path)
            if word == "null"
            else compared("boolean", "::text", word)
        ),
    )


def _either(
    term: Term,
    *,
    text: Callable[[str], Condition],
    number: Callable[[int | float], Condition],
    word: Callable[[str], Condition],
) -> Condition:
    """What was typed without quotes may be the text or the value: ``42`` is both."""
    value = term.scalar
    if isinstance(value, str):
        return text(value)
    plain, plain_params = text(term.text)
    meant = word(term.text) if value is None or isinstance(value, bool) else number(value)
    return f"({plain} OR {meant[0]})", [*plain_params, *meant[1]]
