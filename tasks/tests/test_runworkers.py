"""``manage.py runworkers`` as a command: what it takes, what it says, how it starts and how it ends."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from uuid import UUID

import pytest
from django.core.management import CommandError, call_command

from tasks.models import Task, Worker
from tasks.states import Status
from tasks.tests.standing import APPS
from tasks.tests.workers import RunWorkers, enqueue, lines, run_workers, wait_finished, wait_until

__all__ = ["run_workers"]


def test_a_task_goes_from_pending_to_completed(run_workers: RunWorkers, tmp_path: Path) -> None:
    task_id = enqueue("fault.record", payload={"path": str(tmp_path / "ran")})

    worker = run_workers("--n", "1")
    task = wait_finished(task_id)

    assert task.status == Status.COMPLETED
    assert task.result == 1
    assert [words[0] for words in lines(tmp_path / "ran")] == ["start", "end"]
    assert worker.stop() == 0


# -- what it is told


def test_on_another_system_it_says_what_to_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")

    with pytest.raises(CommandError, match=r"Workers need Linux.*the image"):
        call_command("runworkers")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--n", "0"], "'0' is not a number from 1 to 256"),
        (["--n", "-1"], "'-1' is not a number from 1 to 256"),
        (["--n", "257"], "'257' is not a number from 1 to 256"),
        (["--n", "1.5"], "'1.5' is not a number from 1 to 256"),
        (["--n", "many"], "'many' is not a number from 1 to 256"),
        (["--n", ""], "'' is not a number from 1 to 256"),
        (["--queues", ""], "is not a list of queue names"),
        (["--queues", "a,,b"], "is not a list of queue names"),
        (["--queues", "a b"], "is not a list of queue names"),
        (["--log-format", "xml"], "invalid choice: 'xml'"),
    ],
)
def test_a_wrong_argument_is_refused_in_one_sentence(
    run_workers: RunWorkers, arguments: list[str], complaint: str
) -> None:
    worker = run_workers(*arguments)

    assert worker.wait() == 2
    last = worker.output().splitlines()[-1]
    assert last.startswith("manage.py runworkers: error: argument ")
    assert complaint in last
    assert "Traceback" not in worker.output()


def test_help_tells_what_there_is(run_workers: RunWorkers) -> None:
    worker = run_workers("--help")

    assert worker.wait() == 0
    for word in (
        "--n",
        "--queues",
        "--log-format",
        "TASKSERVICE_WORKERS",
        "TASKSERVICE_GRACE_SECONDS",
        "SIGTERM",
    ):
        assert word in worker.output()


def test_without_n_the_setting_says_how_many(run_workers: RunWorkers) -> None:
    worker = run_workers(TASKSERVICE_WORKERS="2")

    [started] = worker.wait_event("worker.started")
    assert started["executors"] == 2
    assert len(worker.wait_executors(2)) == 2


def test_a_worker_tells_the_table_who_it_is_while_it_lives(run_workers: RunWorkers) -> None:
    worker = run_workers("--n", "2", "--queues", "b, a,b")

    row = wait_until(Worker.objects.first, "it is in the table")

    assert row is not None
    assert (row.pid, row.executors, row.queues) == (worker.pid, 2, ["b", "a"])
    assert {"demo.sleep", "fault.noop"} <= set(row.handlers)
    assert worker.stop() == 0
    assert not Worker.objects.exists()


# -- what keeps it from starting


def make_app(folder: Path, name: str, **modules: str) -> dict[str, str]:
    """A Django app in a folder of its own; the environment that installs it."""
    package = folder / "apps" / name
    package.mkdir(parents=True)
    for module, source in {"__init__": "", **modules}.items():
        (package / f"{module}.py").write_text(textwrap.dedent(source))
    return {"TASKSERVICE_APPS": name, "PYTHONPATH": f"{Path(__file__).parents[2]}:{folder / 'apps'}"}


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("import not_installed_anywhere", "No module named 'not_installed_anywhere'"),
        ("1 / 0", "division by zero"),
        ("def (", "invalid syntax"),
    ],
)
def test_a_module_of_handlers_that_cannot_be_loaded_ends_the_start_with_a_sentence(
    run_workers: RunWorkers, tmp_path: Path, source: str, complaint: str
) -> None:
    worker = run_workers("--n", "1", **make_app(tmp_path, "shop", tasks=source))

    assert worker.wait() == 1
    assert complaint in worker.output()
    assert "shop" in worker.output()
    assert "Traceback" not in worker.output()


def test_an_app_that_is_not_there_ends_the_start_with_a_sentence(run_workers: RunWorkers) -> None:
    worker = run_workers("--n", "1", TASKSERVICE_APPS="nowhere")

    assert worker.wait() == 1
    assert "nowhere" in worker.output()
    assert "Traceback" not in worker.output()


def test_a_wrong_setting_ends_the_start_with_a_sentence_that_names_it(run_workers: RunWorkers) -> None:
    worker = run_workers("--n", "1", TASKSERVICE_LEASE_SECONDS="soon")

    assert worker.wait() == 1
    assert "TASKSERVICE_LEASE_SECONDS" in worker.output()
    assert "Traceback" not in worker.output()


# What is loaded again where the executors come from may fail there alone.
ENDS_EACH_EXECUTOR = """
    import os, sys
    if sys.argv[0] == "-c":
        os.register_at_fork(after_in_child=lambda: os._exit(7))
"""
ENDS_THE_FORKSERVER = """
    import os, sys
    if sys.argv[0] == "-c":
        os._exit(7)
"""
STOPS_THE_FORKSERVER = """
    import sys
    if sys.argv[0] == "-c":
        raise RuntimeError("not here")
"""


@pytest.mark.parametrize(
    "source",
    [ENDS_EACH_EXECUTOR, pytest.param(ENDS_THE_FORKSERVER, marks=pytest.mark.slow), STOPS_THE_FORKSERVER],
    ids=["each executor ends", "the forkserver ends", "the forkserver has an error"],
)
def test_a_worker_whose_executors_cannot_start_gives_up(
    run_workers: RunWorkers, tmp_path: Path, source: str
) -> None:
    task_id = enqueue("fault.noop")

    worker = run_workers("--n", "8", **make_app(tmp_path, "shop", tasks=source))

    assert worker.wait(patience=60) == 1
    assert len(worker.events("worker.gave-up")) == 1
    assert len(worker.output().splitlines()) < 150  # it did not try all the time
    assert not finished_or_claimed(task_id)


def finished_or_claimed(task_id: UUID) -> bool:
    task = Task.objects.get(pk=task_id)
    return task.status != Status.PENDING or task.attempt > 0


# -- what it says


def test_every_line_of_its_log_is_an_event_with_fields(run_workers: RunWorkers) -> None:
    worker = run_workers("--n", "1", "--queues", "default")
    task_id = enqueue("fault.error", max_attempts=1)
    wait_finished(task_id)
    assert worker.stop() == 0

    assert all({"time", "level", "event", "logger"} <= line.keys() for line in worker.log())
    assert len(worker.log()) == len(worker.output().splitlines())  # and nothing else was written
    [started], [settled] = worker.events("worker.started"), worker.events("task.settled")
    [stopping], [stopped] = worker.events("worker.stopping"), worker.events("worker.stopped")
    assert (started["executors"], started["queues"]) == (1, "default")
    assert (settled["level"], settled["task_id"]) == ("warning", str(task_id))
    assert (settled["transition"], settled["outcome"], settled["attempt"]) == ("fail", "failed", 1)
    assert settled["error"] == "builtins.ValueError"
    assert stopping["in_hand"] == 0
    assert (stopped["exit_code"], stopped["fail"]) == (0, 1)


LINE = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (INFO|WARNING|ERROR) [a-z]+\.[a-z-]+"
    r"( \w+=(\"[^\"]*\"|\S+))*"  # quoted where there are blanks in it
)


def test_as_text_it_is_one_line_an_event(run_workers: RunWorkers) -> None:
    """The argument counts more than the environment."""
    worker = run_workers("--n", "1", "--log-format", "text", LOG_FORMAT="json", TASKSERVICE_APPS=APPS)
    task_id = enqueue("antic.fails_n_times", payload={"times": 1})
    wait_finished(task_id)
    assert worker.stop() == 0

    output = worker.output().splitlines()
    assert all(LINE.fullmatch(line) for line in output), output
    again, complete = [line for line in output if "task.settled" in line]
    told = f"INFO task.settled task_id={task_id} handler=antic.fails_n_times queue=default transition="
    assert f"{told}back-off outcome=failed attempt=1 of=5 error=builtins.ValueError run_at=" in again
    assert f"{told}complete outcome=succeeded attempt=2 of=5" in complete


def test_the_loggers_of_handlers_write_in_the_same_format(run_workers: RunWorkers) -> None:
    worker = run_workers("--n", "1", TASKSERVICE_APPS=APPS)

    wait_finished(enqueue("antic.logs", payload={"text": "from a handler"}))

    [line] = worker.wait_event("from a handler")
    assert line["logger"] == "shop"
    assert line["level"] == "warning"
