"""What crosses every border keeps its meaning, or is refused there."""

from __future__ import annotations

import enum
import json
import math
from collections import OrderedDict
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from http import HTTPStatus
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.contract import (
    MESSAGE_CHARS,
    TRACEBACK_CHARS,
    Cancelled,
    Crashed,
    ErrorReport,
    Failed,
    Lapsed,
    Lease,
    Outcome,
    Released,
    Succeeded,
    TimedOut,
    lease_from_wire,
    lease_to_wire,
    outcome_from_wire,
    outcome_to_wire,
)
from tasks.storable import storable_text, to_json

texts = st.text(alphabet=st.characters())  # every code point, lone surrogates too
storable = st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
)
json_values = st.recursive(
    scalars | storable, lambda inner: st.lists(inner) | st.dictionaries(storable, inner), max_leaves=20
)

# --- JSON


@given(json_values)
def test_json_text_reads_back_as_the_same_value(value: Any) -> None:
    text = to_json(value)

    assert json.loads(text) == value
    assert text.encode().decode() == text
    assert "\0" not in text


class Colour(enum.StrEnum):
    RED = "red"


class Point(NamedTuple):
    x: int
    y: int


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (HTTPStatus.OK, "200"),
        (Colour.RED, '"red"'),
        (Point(1, 2), "[1,2]"),
        ((1, (2,)), "[1,[2]]"),
        (OrderedDict(b=1, a=2), '{"b":1,"a":2}'),
        (True, "true"),
        (-(2**63), "-9223372036854775808"),
        ("ä😀", '"ä😀"'),
    ],
    ids=repr,
)
def test_what_python_takes_for_json_is_stored(value: Any, text: str) -> None:
    assert to_json(value) == text


class Huge(enum.IntEnum):
    VALUE = 2**63


def nested(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels - 1):
        value = [value]
    return value


CIRCLE: list[Any] = []
CIRCLE.append(CIRCLE)

REFUSED = [
    math.nan,
    math.inf,
    -math.inf,
    [1, {"a": math.nan}],
    2**63,
    -(2**63) - 1,
    Huge.VALUE,
    "a\0b",
    {"a\0b": 1},
    ["\ud800"],
    {"\udfff": 1},
    {1: 2},
    {None: 1},
    {"a": {(1, 2): 3}},
    {1, 2},
    b"bytes",
    datetime(2026, 1, 1, tzinfo=UTC),
    timedelta(1),
    UUID(int=1),
    Decimal(1),
    object(),
    nested(70),
    nested(100_000),
    CIRCLE,
]


@pytest.mark.parametrize("value", REFUSED, ids=lambda value: type(value).__name__)
def test_what_no_database_or_no_json_carries_is_refused(value: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        to_json(value)


def test_sixty_four_levels_are_deep_enough() -> None:
    assert to_json(nested(64)) == "[" * 64 + "]" * 64


# --- text


@given(texts)
def test_storable_text_has_no_nul_and_no_surrogate_and_stays_as_it_is_the_second_time(text: str) -> None:
    once = storable_text(text)

    assert "\0" not in once
    assert once.encode().decode() == once
    assert storable_text(once) == once


@given(storable)
def test_storable_text_changes_nothing_else(text: str) -> None:
    assert storable_text(text) == text


def test_storable_text_shows_what_it_took_out() -> None:
    assert storable_text("a\0b\ud800c") == "a\\0b\\ud800c"


@given(texts, texts, texts)
def test_an_error_report_can_always_be_stored(kind: str, message: str, traceback: str) -> None:
    report = ErrorReport.bounded(kind, message, traceback)

    to_json([report.type, report.message, report.traceback])


def test_an_error_report_is_bounded_and_keeps_the_end_of_its_traceback() -> None:
    report = ErrorReport.of(ValueError, "m" * 5_000_000, "x" * 5_000_000 + "the error")

    assert report.type == "builtins.ValueError"
    assert len(report.message) == MESSAGE_CHARS
    assert len(report.traceback) == TRACEBACK_CHARS
    assert report.traceback.endswith("the error")


# --- the wire

durations = st.timedeltas(min_value=timedelta(0), max_value=timedelta.max)
reports = st.builds(ErrorReport.bounded, texts, texts, texts)
OUTCOMES: dict[type, st.SearchStrategy[Outcome]] = {
    Succeeded: st.builds(Succeeded, json_values.map(to_json)),
    Failed: st.builds(Failed, reports, st.booleans(), st.none() | durations),
    Crashed: st.builds(Crashed, storable),
    TimedOut: st.builds(TimedOut, durations, storable),
    Cancelled: st.builds(Cancelled, storable),
    Lapsed: st.builds(Lapsed),
    Released: st.builds(Released, st.booleans()),
}


def test_every_outcome_has_a_round_trip_here() -> None:
    assert set(OUTCOMES) == set(Outcome.__args__)


@pytest.mark.parametrize("kind", OUTCOMES, ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_an_outcome_survives_the_wire(kind: type, data: st.DataObject) -> None:
    outcome = data.draw(OUTCOMES[kind])

    assert outcome_from_wire(json.loads(json.dumps(outcome_to_wire(outcome)))) == outcome


@pytest.mark.parametrize(
    "wire",
    [{}, {"outcome": "Task"}, {"outcome": "Failed"}, {"outcome": "Lapsed", "more": 1}, {"outcome": None}],
)
def test_what_is_no_outcome_is_refused(wire: dict[str, Any]) -> None:
    with pytest.raises((KeyError, TypeError)):
        outcome_from_wire(wire)


# --- leases

numbers = st.integers(0, 2**63 - 1)
moments = st.datetimes(timezones=st.just(UTC))
any_lease = st.builds(
    Lease,
    task_id=st.uuids(),
    fence=numbers,
    handler=storable,
    args=json_values.map(to_json),
    payload=json_values.map(to_json),
    attempt=numbers,
    attempts_before=numbers,
    max_attempts=numbers,
    crashes=numbers,
    releases=numbers,
    timeout=st.none() | durations,
    worker_id=storable,
    claimed_at=st.none() | moments,
    queue=storable,
    cancel_requested=st.booleans(),
)


@settings(max_examples=30)  # a lease is long to make up
@given(any_lease)
def test_a_lease_survives_the_wire(held: Lease) -> None:
    assert lease_from_wire(json.loads(json.dumps(lease_to_wire(held)))) == held


def lease(**fields: Any) -> Lease:
    return Lease(task_id=uuid4(), fence=1, handler="demo.echo", args="[]", payload="{}", **fields)


@pytest.mark.parametrize(
    ("attempt", "before", "budget", "used", "left"),
    [(1, 0, 5, 1, 4), (5, 0, 5, 5, 0), (6, 5, 5, 1, 4), (9, 5, 3, 4, 0), (1, 0, 1, 1, 0)],
)
def test_attempts_are_counted_within_the_budget(
    attempt: int, before: int, budget: int, used: int, left: int
) -> None:
    held = lease(attempt=attempt, attempts_before=before, max_attempts=budget)

    assert (held.attempts_used, held.attempts_left) == (used, left)
