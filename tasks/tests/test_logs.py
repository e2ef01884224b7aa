"""The log: one event a line, and no value can forge another."""

from __future__ import annotations

import json
import logging
import sys
from datetime import datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks import logs

texts = st.text(alphabet=st.characters())  # every code point, lone surrogates too
FORGED = "x\n2026-01-01T00:00:00.000Z INFO task.settled transition=complete"


def record(
    message: str = "task.settled", error: BaseException | None = None, **fields: Any
) -> logging.LogRecord:
    exc_info = (type(error), error, error.__traceback__) if error else None
    made = logging.LogRecord("tasks.worker", logging.INFO, __file__, 1, message, (), exc_info)
    made.fields = fields
    return made


def as_text(made: logging.LogRecord) -> str:
    return logs.TextFormatter().format(made)


def as_json(made: logging.LogRecord) -> str:
    return logs.JsonFormatter().format(made)


def test_text_reads_as_time_level_event_and_fields() -> None:
    line = as_text(record(task_id=UUID(int=1), transition="back-off", attempt=2))

    moment, _, rest = line.partition(" ")
    assert datetime.fromisoformat(moment).utcoffset() is not None
    assert moment.endswith("Z")
    assert rest == f"INFO task.settled task_id={UUID(int=1)} transition=back-off attempt=2"


@pytest.mark.parametrize(
    "value", ["two words", "", 'a"b', "a=b", "a\nb", "a\tb", "a\x1b[31mb", "a\x85b", "a\u2028b"]
)
def test_a_value_that_is_not_one_plain_word_is_quoted(value: str) -> None:
    line = as_text(record(title=value))

    assert line.endswith(f" title={json.dumps(value)}")


@given(texts, texts)
def test_no_text_breaks_out_of_its_line(message: str, value: str) -> None:
    line = as_text(record(message, title=value, attempt=2))

    assert len(line.splitlines()) == 1
    assert line.isprintable()
    assert line.endswith(" attempt=2")


@given(texts, texts)
def test_no_json_breaks_out_of_its_line(message: str, value: str) -> None:
    line = as_json(record(message, title=value))

    assert line.isascii()
    assert len(line.splitlines()) == 1
    assert json.loads(line)["event"] == message
    assert json.loads(line)["title"] == value


def test_no_error_can_forge_an_event() -> None:
    try:
        raise ValueError(FORGED)
    except ValueError as error:
        lines = as_text(record(error=error)).splitlines()

    assert lines[0].endswith("INFO task.settled")
    assert [line for line in lines[1:] if not line.startswith(" ")] == []
    assert any("ValueError" in line for line in lines)


@given(texts)
def test_a_traceback_has_only_characters_that_every_terminal_and_file_takes(message: str) -> None:
    text = as_text(record(error=ValueError(message)))

    assert all(line.isprintable() for line in text.split("\n"))


def test_json_names_time_level_event_logger_and_fields() -> None:
    line = json.loads(as_json(record(task_id=UUID(int=1), attempt=2)))

    assert list(line) == ["time", "level", "event", "logger", "task_id", "attempt"]
    assert line["level"] == "info"
    assert line["task_id"] == str(UUID(int=1))


def test_json_keeps_a_traceback_in_its_one_line() -> None:
    line = as_json(record(error=ValueError(FORGED)))

    assert len(line.splitlines()) == 1
    assert FORGED in json.loads(line)["traceback"]


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_json_stays_json_for_numbers_it_does_not_know(number: float) -> None:
    def refuse(name: str) -> None:
        raise AssertionError(name)

    json.loads(as_json(record(value=number)), parse_constant=refuse)


def test_time_is_that_of_the_record_to_the_millisecond() -> None:
    made = record()
    made.created, made.msecs = 1768181839.9996, 999.6

    assert as_text(made).startswith("2026-01-12T01:37:19.999Z ")


@pytest.mark.parametrize("formatter", [as_text, as_json])
def test_records_of_others_are_formatted_too(formatter: Any) -> None:
    foreign = logging.LogRecord("gunicorn", logging.WARNING, __file__, 1, "%d requests", (3,), None)

    assert "3 requests" in formatter(foreign)


def test_an_event_goes_out_with_its_fields_but_for_none(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("tasks.tests")
    with caplog.at_level(logging.INFO, logger.name):
        logs.event(logger, logging.INFO, "task.settled", attempt=2, error=None)
        logs.event(logger, logging.DEBUG, "task.claimed", attempt=2)

    [sent] = caplog.records
    assert sent.fields == {"attempt": 2}  # type: ignore[attr-defined]  # ours
    assert sent.getMessage() == "task.settled"


def test_a_line_can_be_written_as_utf8(capsys: pytest.CaptureFixture[str]) -> None:
    sys.stdout.write(as_text(record("lone \ud800", title="\ud800")))

    assert "ud800" in capsys.readouterr().out


@pytest.mark.parametrize(("status", "kept"), [(500, True), (503, False), (None, True)])
def test_an_outage_that_the_api_has_told_of_is_not_told_again(status: int | None, kept: bool) -> None:
    record = logging.LogRecord("django.request", logging.ERROR, "", 0, "Service Unavailable", (), None)
    if status is not None:
        record.status_code = status

    assert logs.NoOutages().filter(record) == kept
