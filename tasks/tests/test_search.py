"""The language of the search box: what is understood, and what is answered to the rest."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks import search
from tasks.search import BadSearch, Search, Term, bounds, parse

NOW = datetime(2026, 1, 12, 12, tzinfo=UTC)


def test_columns_become_filters_and_the_rest_stays_as_it_was_typed() -> None:
    typed = 'queue:mail two "and three" STATUS:Failed error:Timeout id:01A20BE6 payload.user:42'

    assert parse(typed) == Search(
        filters={"queue": "mail", "status": "failed", "id": "01a20be6"},
        terms=(
            Term("", "two"),
            Term("", "and three"),
            Term("error", "Timeout"),
            Term("payload", "42", ("user",)),
        ),
        rest='two "and three" error:Timeout payload.user:42',
    )


@pytest.mark.parametrize(
    ("typed", "term"),
    [
        ('title:"two words"', Term("title", "two words", quoted=True)),
        (r'"a \"quoted\" word"', Term("", 'a "quoted" word')),
        ('payload.items.0."a b".id:x', Term("payload", "x", ("items", 0, "a b", "id"))),
        ('payload."0":x', Term("payload", "x", ("0",))),
        ('payload.name:""', Term("payload", "", ("name",), quoted=True)),
        ("payload:ada", Term("payload", "ada")),
        ("https://example.com/a?b=c", Term("", "https://example.com/a?b=c")),
        ("12:30", Term("", "12:30")),
        ("100%_", Term("", "100%_")),
        ('"quue:x"', Term("", "quue:x")),
    ],
)
def test_a_term_is_read(typed: str, term: Term) -> None:
    assert parse(typed).terms == (term,)


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ("42", 42),
        ("-1.5e3", -1500.0),
        ("true", True),
        ("null", None),
        ('"42"', "42"),
        ('"true"', "true"),
        ("042", "042"),
        ("1e999", "1e999"),
        ("9" * 30, float("9" * 30)),
        ("Ada", "Ada"),
        ("٤٢", "٤٢"),
    ],
)
def test_a_value_is_a_scalar_of_json_unless_it_is_quoted(typed: str, value: search.Scalar) -> None:
    [term] = parse(f"payload.a:{typed}").terms

    assert term.scalar == value
    assert type(term.scalar) is type(value)


WRONG = [
    ("quue:mail", "Did you mean queue:?"),
    ("colour:red", "There are status, queue, handler"),
    ("colour:red", 'quote it: "colour:red"'),
    ("status:fialed", "Did you mean failed?"),
    ("status:lost", "It is one of pending"),
    ("queue:", "queue: needs a value"),
    ("queue:a/b", "queue: must be 1 to 64"),
    ("queue:a queue:b", "queue: is there twice"),
    ("queue.a:b", "queue has no parts"),
    ('say "hello', "is not closed"),
    ("id:xyz", "id: takes an id or its beginning"),
    ("id:01a2", "id: takes an id or its beginning"),
    ("created:yesterday", "created: takes an age"),
    ("created:<2y", "created: takes an age"),
    ("-status:failed", "cannot leave out"),
    ("payload.:x", "Write payload.NAME:VALUE"),
    ("payload.user:", "payload: needs a value"),
    (f"payload{'.a' * 11}:x", "at most 10 names"),
    ("payload.9999999999:x", "no list has a place"),
    (r'payload."a\"b":x', 'cannot have "'),
    ("a\0b", "NUL"),
    ("x" * 501, "at most 500 characters"),
    ("a " * 21, "at most 20 words"),
]


@pytest.mark.parametrize(("typed", "sentence"), WRONG)
def test_what_is_not_understood_is_named_in_a_sentence(typed: str, sentence: str) -> None:
    with pytest.raises(BadSearch) as refusal:
        parse(typed)

    assert sentence in str(refusal.value)


@pytest.mark.parametrize(
    ("typed", "after", "before"),
    [
        ("<2d", NOW - timedelta(days=2), None),
        (">90min", None, NOW - timedelta(minutes=90)),
        (">=1w", None, NOW - timedelta(weeks=1)),
        (">2026-01-01", datetime(2026, 1, 1, tzinfo=UTC), None),
        ("<2026-01-01T12:00:00+02:00", None, datetime(2026, 1, 1, 10, tzinfo=UTC)),
        ("2026-01-01", datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)),
    ],
)
def test_an_age_is_counted_back_and_a_time_is_one(
    typed: str, after: datetime | None, before: datetime | None
) -> None:
    assert bounds(typed, NOW) == (after, before)


def test_an_age_of_a_thousand_years_is_only_very_long_ago() -> None:
    assert bounds("<999999w", NOW)[0] == datetime(1970, 1, 1, tzinfo=UTC)


@given(st.text(max_size=60) | st.text(alphabet=' :".\\-payloadstus0<>', max_size=60))
def test_any_text_is_a_search_or_gets_a_sentence(typed: str) -> None:
    try:
        found = parse(typed)
    except BadSearch as refusal:
        assert str(refusal)
    else:
        assert parse(found.rest).terms == found.terms
