"""How the admin writes times, states and values."""

from __future__ import annotations

import html
import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.admin import words
from tasks.masking import masked
from tasks.models import Task
from tasks.states import Status

NOW = datetime(2026, 1, 12, 1, 37, 19, 123456, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0 ms"),
        (0.0351, "35 ms"),
        (1.24, "1.2 s"),
        (41.9, "41 s"),
        (60, "1 min"),
        (185, "3 min 5 s"),
        (11_100, "3 h 5 min"),
        (3_600 * 50, "2 d 2 h"),
        (86_400 + 1, "1 d 1 s"),
    ],
)
def test_a_duration_has_two_units_at_most(seconds: float, text: str) -> None:
    assert words.span(timedelta(seconds=seconds)) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "now"),
        (-0.4, "now"),
        (-59, "59 s ago"),
        (-60, "1 min ago"),
        (-3_599, "59 min ago"),
        (7_200, "in 2 h"),
        (-86_400 * 29, "29 d ago"),
        (-86_400 * 40, "03 Dec 2025"),
        (86_400 * 40, "21 Feb 2026"),
    ],
)
def test_an_age_is_one_word_and_a_date_when_it_is_long_ago(seconds: float, text: str) -> None:
    assert words.age(NOW + timedelta(seconds=seconds), NOW) == text


def test_the_exact_time_is_under_the_pointer() -> None:
    written = words.when(NOW - timedelta(minutes=5), NOW)

    assert 'title="2026-01-12 01:32:19.123 UTC"' in written
    assert ">5 min ago</time>" in written


@pytest.mark.parametrize(
    ("error", "took"),
    [
        (None, timedelta(seconds=2)),
        ({"type": "builtins.ValueError", "message": "", "attempt": 3}, timedelta(seconds=2)),
        ({"type": "tasks.errors.TaskCancelled", "message": "", "attempt": None}, None),  # while it waited
        ("no error of ours", timedelta(seconds=2)),
    ],
)
def test_what_a_task_took_is_the_time_of_the_attempt_that_ended_it(
    error: Any, took: timedelta | None
) -> None:
    task = Task(attempt=3, attempted_at=NOW, finished_at=NOW + timedelta(seconds=2), error=error)

    assert words.took(task) == took


def test_attempts_are_counted_within_the_budget() -> None:
    assert words.attempts(Task(attempt=7, attempts_before=5, max_attempts=5)) == "2 of 5"


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        ({"status": Status.COMPLETED}, ""),
        ({"status": Status.PROCESSING, "attempted_at": NOW - timedelta(seconds=12)}, "for 12 s"),
        ({"status": Status.PROCESSING, "cancel_requested_at": NOW}, "asked to stop"),
        ({"status": Status.PENDING, "ready_at": NOW - timedelta(minutes=3)}, "ready for 3 min"),
        ({"status": Status.PENDING, "waiting_for": "time", "run_at": NOW}, "due now"),
    ],
)
def test_a_status_is_told_further(columns: dict[str, Any], text: str) -> None:
    assert words.standing(Task(**columns), NOW) == text


@pytest.mark.parametrize("error", [None, [], "text", 7])
def test_what_is_no_error_has_no_line(error: Any) -> None:
    assert words.error_line(error) == ""


def test_a_long_error_is_cut_to_a_line() -> None:
    line = words.error_line({"type": "a.b.ValueError", "message": "x\n" * 500})

    assert line.startswith("ValueError: x x ")
    assert len(line) == words.ERROR_CHARS


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@settings(deadline=None)  # a busy machine is no error
@given(VALUES)
def test_coloured_json_is_the_same_json(value: Any) -> None:
    text = html.unescape(re.sub(r"<[^>]*>", "", words.pretty(value)))

    assert json.loads(text) == masked(json.loads(json.dumps(value)))


def test_json_is_shown_as_it_was_given_with_what_cannot_be_seen_written_out() -> None:
    text = html.unescape(re.sub(r"<[^>]*>", "", words.pretty({"ü😀": "a\u202eb\x7f\U000e0041"})))

    assert text == '{\n  "ü😀": "a\\u202eb\\u007f\\udb40\\udc41"\n}'


def test_large_json_is_shown_in_one_colour() -> None:
    written = words.pretty(["<b>"] * words.COLOURED_CHARS)

    assert "<span" not in written
    assert "<b>" not in written
