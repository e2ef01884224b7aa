"""The language of the search box: ``queue:mail error:Timeout payload.user:42 "two words"``. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from math import isfinite
from uuid import UUID

from tasks.limits import HANDLER_CHARS, QUEUE_RULE, TAG_CHARS, is_queue_name
from tasks.states import Status

SEARCH_CHARS = 500
TERMS = 20
PATH_NAMES = 10  # of a payload.a.b.c
WORKER_CHARS = 128

Scalar = str | int | float | bool | None


class BadSearch(ValueError):
    """What is wrong with a search, in a sentence for whoever typed it."""


@dataclass(frozen=True, slots=True)
class Term:
    """Something that a task has to have. ``about``: title, payload or error; empty: any of them."""

    about: str
    text: str
    path: tuple[str | int, ...] = ()  # into the payload, where this very value has to be
    quoted: bool = False

    @property
    def scalar(self) -> Scalar:
        """The JSON value that is meant: ``42`` is a number, ``"42"`` a text."""
        return self.text if self.quoted else _scalar(self.text)


@dataclass(frozen=True, slots=True)
class Search:
    """``filters`` by the name of their qualifier; ``rest`` is what was typed of the terms alone."""

    filters: dict[str, str] = field(default_factory=dict)
    terms: tuple[Term, ...] = ()
    rest: str = ""


_QUOTED = r'"(?:[^"\\]|\\.)*"'
_WORD = re.compile(rf'(?:[^\s"]+|{_QUOTED})+|"')
_HEAD = re.compile(rf'([A-Za-z_]\w*)((?:\.(?:[^\s".:]+|{_QUOTED}))*):(?!//)')
_NAME = re.compile(rf'\.(?:([^\s".:]+)|({_QUOTED}))')
_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,18})")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_ID = re.compile(r"[0-9a-f]{6,32}")
_AGE = re.compile(r"([0-9]{1,6})(s|min|m|h|d|w)")
_AGES = {"s": "seconds", "m": "minutes", "min": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def parse(text: str) -> Search:
    """Raises BadSearch."""
    if "\0" in text:
        raise BadSearch("A search cannot contain the character NUL.")
    if len(text) > SEARCH_CHARS:
        raise BadSearch(f"A search has at most {SEARCH_CHARS} characters.")
    filters: dict[str, str] = {}
    terms: list[Term] = []
    rest: list[str] = []
    for word in _WORD.findall(text):
        match _read(word):
            case (str(name), str(value)):
                if filters.setdefault(name, value) != value:
                    raise BadSearch(f"{name}: is there twice, and no task can be both.")
            case Term() as term if term.text or term.path:
                terms.append(term)
                rest.append(word)
    if len(terms) > TERMS:
        raise BadSearch(f"A search has at most {TERMS} words.")
    return Search(filters, tuple(terms), " ".join(rest))


def typed_terms(rest: str) -> Iterator[tuple[Term, str]]:
    """Each term of a ``Search.rest``, and how it was typed."""
    for word in _WORD.findall(rest):
        if isinstance(read := _read(word), Term):
            yield read, word


def _read(word: str) -> tuple[str, str] | Term:
    if word == '"':
        raise BadSearch('A quotation mark (") is not closed.')
    head = _HEAD.match(word)
    if head is None:
        _expect_no_qualifier(word)
        return Term("", unquoted(word))
    name, path, typed = head[1].lower(), head[2], word[head.end() :]
    value = unquoted(typed)
    if path and name != "payload":
        raise BadSearch(f"{name} has no parts: write {name}:{value or '…'}")
    if name in _FILTERS:
        return name, _FILTERS[name](_expect_value(name, value))
    if name in _TEXTS:
        names = tuple(_names(path))
        if not (names and typed):  # payload.user:"" is a question, title: is none
            _expect_value(name, value)
        return Term(name, value, names, quoted=typed.startswith('"'))
    raise BadSearch(_unknown(name, word))


def unquoted(text: str) -> str:
    return re.sub(_QUOTED, lambda found: re.sub(r"\\(.)", r"\1", found[0][1:-1]), text)


def _expect_no_qualifier(word: str) -> None:
    if word.startswith("-") and (head := _HEAD.match(word[1:])) and head[1].lower() in QUALIFIERS:
        raise BadSearch(f"A search cannot leave out what {word} names: it only says what a task has.")
    if word.lower().startswith("payload."):
        raise BadSearch("Write payload.NAME:VALUE, such as payload.user:42 or payload.items.0.id:7")


def _expect_value(name: str, value: str) -> str:
    if not value.strip():
        raise BadSearch(f"{name}: needs a value right behind it, such as {name}:{_EXAMPLES[name]}")
    return value


def _unknown(name: str, word: str) -> str:
    near = get_close_matches(name, QUALIFIERS, n=1)
    meant = f"Did you mean {near[0]}:? " if near else f"There are {', '.join(QUALIFIERS)}. "
    plain = word.replace('"', "")
    return f'There is no {name}: to search by. {meant}To look for the text, quote it: "{plain}"'


def _names(path: str) -> Iterator[str | int]:
    """A name of digits is a place in a list; in quotes it is a name."""
    found = list(_NAME.finditer(path))
    if len(found) > PATH_NAMES:
        raise BadSearch(f"payload: a path has at most {PATH_NAMES} names.")
    for part in found:
        name = part[1] or unquoted(part[2])
        if '"' in name or "\\" in name:
            raise BadSearch('payload: a name in a path cannot have " or \\ in it.')
        if part[1] and name.isdecimal() and name.isascii():
            if len(name) > 9:
                raise BadSearch(f"payload: no list has a place {name}.")
            yield int(name)
        else:
            yield name


def _scalar(text: str) -> Scalar:
    if text in ("true", "false", "null"):
        return {"true": True, "false": False, "null": None}[text]
    if _INTEGER.fullmatch(text) and -(2**63) <= int(text) < 2**63:
        return int(text)
    if _NUMBER.fullmatch(text) and isfinite(float(text)):
        return float(text)
    return text


# -- values of filters: each returns what is meant, or says what is wrong


def _status(value: str) -> str:
    if value.lower() in Status.values:
        return value.lower()
    near = get_close_matches(value.lower(), Status.values, n=1)
    meant = f"Did you mean {near[0]}?" if near else f"It is one of {', '.join(Status.values)}."
    raise BadSearch(f"There is no status {value}. {meant}")


def _queue(value: str) -> str:
    if not is_queue_name(value):
        raise BadSearch(f"queue: {QUEUE_RULE}.")
    return value


def _short(name: str, most: int) -> Callable[[str], str]:
    def short(value: str) -> str:
        if len(value) > most:
            raise BadSearch(f"{name}: has at most {most} characters.")
        return value

    return short


def _id(value: str) -> str:
    if id_range(value) is None:
        raise BadSearch("id: takes an id or its beginning: 6 to 32 of 0-9 and a-f.")
    return value.lower()


def _created(value: str) -> str:
    bounds(value, datetime.now(UTC))
    return value


def id_range(text: str) -> tuple[UUID, UUID] | None:
    """The smallest and the largest id that begin like this; None when no id can be meant."""
    start = text.strip().lower().replace("-", "")
    if not _ID.fullmatch(start):
        return None
    return UUID(start.ljust(32, "0")), UUID(start.ljust(32, "f"))


def bounds(value: str, now: datetime) -> tuple[datetime | None, datetime | None]:
    """After when, and before when: ``<2d`` younger than that, ``>2d`` older; a day, ``<`` or ``>`` a time.

    Raises BadSearch.
    """
    sign = value[:1] if value[:1] in "<>" else ""
    text = value[len(sign) :].removeprefix("=") if sign else value
    if sign and (age := _AGE.fullmatch(text)):
        moment = now - timedelta(**{_AGES[age[2]]: int(age[1])}) if _is_near(age) else _FIRST
        return (moment, None) if sign == "<" else (None, moment)
    try:
        given = datetime.fromisoformat(text)
        moment = given.astimezone(UTC) if given.tzinfo else given.replace(tzinfo=UTC)
        if sign:
            return (moment, None) if sign == ">" else (None, moment)
        if len(text) == len("2026-01-12"):
            return moment, moment + timedelta(days=1)
    except (ValueError, OverflowError):
        pass
    raise BadSearch(
        "created: takes an age (<2d is younger, >2d older; s, min, h, d, w) or a day (2026-01-12)."
    )


_FIRST = datetime(1970, 1, 1, tzinfo=UTC)


def _is_near(age: re.Match[str]) -> bool:
    """Not before there were such ids."""
    return timedelta(**{_AGES[age[2]]: int(age[1])}) < timedelta(days=20_000)


_FILTERS: dict[str, Callable[[str], str]] = {
    "status": _status,
    "queue": _queue,
    "handler": _short("handler", HANDLER_CHARS),
    "tag": _short("tag", TAG_CHARS),
    "worker": _short("worker", WORKER_CHARS),
    "id": _id,
    "created": _created,
}
_TEXTS = ("title", "payload", "error")
QUALIFIERS = (*_FILTERS, *_TEXTS)
_EXAMPLES = {
    "status": "failed", "queue": "mail", "handler": "mail.send", "tag": "vip", "worker": "host-1",
    "id": "01a20be6", "created": "<2d", "title": "invoice", "payload": "ada", "error": "Timeout",
}  # fmt: skip


def in_json(text: str) -> str:
    """The text as it stands within a JSON text."""
    return json.dumps(text, ensure_ascii=False)[1:-1]
