"""Each line of the log says which request, or which run of which task, it is of."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tasks import logs
from tasks.tests.api_client import Api, api
from tasks.tests.api_server import api_server
from tasks.tests.workers import RunWorkers, enqueue, run_workers, wait_finished

__all__ = ["api", "run_workers"]


def line(form: Callable[[], logging.Formatter], message: str = "api.busy", **fields: Any) -> str:
    record = logging.LogRecord("tasks", logging.INFO, "", 0, message, (), None)
    record.fields = fields
    return form().format(record)


def test_a_request_id_that_is_sane_is_taken_and_answered(api: Api) -> None:
    assert api.ask("GET", "/healthz", x_request_id="7f-a.B:1").headers["X-Request-Id"] == "7f-a.B:1"


@pytest.mark.parametrize("bad", ["", "two words", "a\x1b[31m", "é", "x" * 129, 'a"b', "a,b"])
def test_any_other_gets_a_new_one(api: Api, bad: str) -> None:
    given = api.ask("GET", "/healthz", x_request_id=bad).headers["X-Request-Id"]

    assert given != bad
    assert UUID(hex=given)


@pytest.mark.parametrize("form", [logs.TextFormatter, logs.JsonFormatter])
def test_lines_within_say_what_they_are_about(form: Callable[[], logging.Formatter]) -> None:
    with logs.about(request_id="7f"):
        inside = line(form, status=200)
    outside = line(form, status=200)

    assert "7f" in inside
    assert "200" in inside
    assert "7f" not in outside


def test_a_line_s_own_fields_win() -> None:
    with logs.about(task_id="general"):
        assert "task_id=own" in line(logs.TextFormatter, task_id="own")


@pytest.mark.django_db(transaction=True)
def test_what_a_handler_logs_names_its_task_in_its_threads_too(run_workers: RunWorkers) -> None:
    task_id = enqueue("fault.tell", payload={"word": "a\nb\x1b"})
    worker = run_workers("--n", "1", "--log-format", "json")

    wait_finished(task_id)

    told = [entry for entry in worker.log() if entry["logger"] == "shop"]
    assert [entry["event"] for entry in told] == ["told a\nb\x1b", "told a\nb\x1b in a thread"]
    for entry in told:
        assert (entry["task_id"], entry["attempt"], entry["handler"]) == (str(task_id), 1, "fault.tell")
    assert "\x1b" not in worker.output()


def test_the_access_log_is_an_event_a_request(tmp_path: Path) -> None:
    with api_server(tmp_path, LOG_FORMAT="text", GUNICORN_CMD_ARGS="--access-logfile -") as server:
        server.ask("GET", "/healthz?a=%0d%0aforged", **{"X-Request-Id": "7f"})
        server.ask("GET", "/nowhere")

    entries = [text for text in server.log.read_text().splitlines() if " api.request " in text]
    assert len(entries) == 2
    assert "method=GET path=/healthz status=200" in entries[0]
    assert "request_id=7f" in entries[0]


def test_the_access_log_is_json_where_that_is_wanted() -> None:
    atoms = {"m": "GET", "s": "200"}
    record = logging.LogRecord("gunicorn.access", logging.INFO, "", 0, "%(m)s", (atoms,), None)

    assert logs.AccessFields().filter(record)

    entry = json.loads(logs.JsonFormatter().format(record))
    assert (entry["event"], entry["method"], entry["status"]) == ("api.request", "GET", "200")
