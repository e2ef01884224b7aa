"""``manage.py tasks``: real processes, what they say, what they do, and how they end."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.utils import timezone

from tasks import lifecycle
from tasks.management.tables import table
from tasks.models import Attempt, Queue, Task, Worker
from tasks.states import FINISHED, Status
from tasks.tests.rows import MakeTask, make_worker
from tasks.tests.workers import RunWorkers, run_workers, wait_until

__all__ = ["run_workers"]

pytestmark = pytest.mark.django_db(transaction=True)

MANAGE = Path(__file__).parents[2] / "manage.py"

Done = subprocess.CompletedProcess[str]
Tasks = Callable[..., Done]


@pytest.fixture
def tasks(child_env: dict[str, str]) -> Tasks:
    def run(*arguments: object, **variables: str) -> Done:
        command = [sys.executable, str(MANAGE), "tasks", *map(str, arguments)]
        return subprocess.run(
            command,
            env=child_env | variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


def objects(done: Done) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def ids(done: Done) -> list[str]:
    return [task["id"] for task in objects(done)]


def refused(done: Done, code: int, sentence: str) -> None:
    assert done.returncode == code, done.stderr
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


# -- list and show


def test_a_list_is_newest_first_and_goes_by_the_filters_of_the_api(tasks: Tasks, make_task: MakeTask) -> None:
    old = timezone.now() - timedelta(hours=2)
    first = make_task(Status.FAILED, queue="mail", tags=["vip"])
    second = make_task(Status.FAILED, queue="mail", title="Ada's")
    make_task(Status.COMPLETED, queue="mail")
    make_task(Status.FAILED, queue="images")

    def listed(*filters: str) -> list[str]:
        return ids(tasks("list", "--json", *filters))

    assert listed("--status", "failed", "--queue", "mail") == [str(second.pk), str(first.pk)]
    assert listed("--tag", "vip") == [str(first.pk)]
    assert listed("--q", "ada") == [str(second.pk)]
    assert listed("--created-before", old.isoformat()) == []
    assert len(listed("--limit", "2")) == 2


def test_a_list_for_people_says_why_a_task_waits(tasks: Tasks, make_task: MakeTask) -> None:
    lifecycle.pause(["mail"])
    task = make_task(queue="mail", title="Letter\x1b[31m\nto Ada")

    done = tasks("list")

    assert done.returncode == 0
    assert re.search(
        rf"{task.pk}  pending +0/5 .* mail +demo.echo +Letter\?\[31m to Ada: queue_paused", done.stdout
    )


def test_all_about_a_task_has_its_payload_and_what_went_wrong(tasks: Tasks, make_task: MakeTask) -> None:
    error = {"type": "app.Error", "message": "no", "attempt": 1}
    task = make_task(Status.FAILED, payload={"user": 42}, error=error, attempt=3, attempts_before=2)
    Attempt.objects.create(
        task=task, number=1, fence=1, outcome="failed", ended_at=timezone.now(),
        error_type="ValueError", message="no luck", traceback="Traceback\n  line 7",
    )  # fmt: skip
    missing = uuid4()

    done = tasks("show", task.pk, missing)

    assert all(words in done.stdout for words in ('{"user": 42}', "ValueError: no luck", "    Traceback"))
    assert re.search(r"^  error +app.Error: no \(attempt 1\)$", done.stdout, re.MULTILINE)
    assert re.search(r"^  attempts +1 of 5, and 2 before the last retry by hand$", done.stdout, re.MULTILINE)
    refused(done, 1, f"There is no task {missing}.")
    [shown] = objects(tasks("show", "--json", task.pk))
    assert (shown["id"], shown["attempts"][0]["error"]["message"]) == (str(task.pk), "no luck")


# -- retry and cancel


def test_several_tasks_are_retried_by_their_ids(tasks: Tasks, make_task: MakeTask) -> None:
    failed, running = make_task(Status.FAILED), make_task(Status.PROCESSING)

    done = tasks("retry", failed.pk, running.pk, failed.pk)

    assert done.stdout == "1 of 2 queued again; 1 not finished, or not there.\n"
    assert done.returncode == 0
    assert Task.objects.get(pk=failed.pk).status == Status.PENDING
    assert tasks("retry", failed.pk).returncode == 1


def test_all_that_match_are_moved_and_nothing_else(tasks: Tasks, make_task: MakeTask) -> None:
    matching = [make_task(Status.FAILED, queue="mail").pk for _ in range(7)]
    others = [make_task(Status.FAILED, queue="images").pk, make_task(queue="mail").pk]

    looked = tasks("retry", "--all-matching", "--queue", "mail", "--dry-run")
    assert (looked.stdout, looked.returncode) == ("7 finished tasks match.\n", 0)
    assert not Task.objects.filter(pk__in=matching, status=Status.PENDING).exists()
    done = tasks("retry", "--all-matching", "--queue", "mail", "--yes")

    assert (done.stdout, done.returncode) == ("7 of 7 queued again.\n", 0)
    assert Task.objects.filter(pk__in=matching, status=Status.PENDING).count() == 7
    assert Task.objects.get(pk=others[0]).status == Status.FAILED


def test_a_retry_can_wait_and_have_another_payload(tasks: Tasks, make_task: MakeTask) -> None:
    task = make_task(Status.FAILED)

    done = tasks("retry", task.pk, "--run-at", "2999-01-12T01:37:19Z", "--payload", '{"a": 1}')

    assert done.returncode == 0, done.stderr
    task.refresh_from_db()
    assert (task.run_at and task.run_at.year, task.payload) == (2999, {"a": 1})


def test_a_reason_is_kept_with_what_is_cancelled(tasks: Tasks, make_task: MakeTask) -> None:
    task = make_task()

    assert tasks("cancel", task.pk, "--reason", "ordered twice").returncode == 0

    assert Task.objects.get(pk=task.pk).cancel_reason == "ordered twice"


def test_cancel_tells_what_became_of_each(tasks: Tasks, make_task: MakeTask) -> None:
    every = [make_task(status, queue="mail").pk for status in Status]

    done = tasks("cancel", *every, uuid4())

    assert done.stdout == "1 of 6 cancelled; 1 asked to stop; 3 had finished; 1 not there.\n"
    assert done.returncode == 0
    assert tasks("cancel", "--all-matching", "--queue", "nobody", "--yes").returncode == 1


def test_without_somebody_to_ask_nothing_is_moved(tasks: Tasks, make_task: MakeTask) -> None:
    task = make_task(queue="mail")

    refused(
        tasks("cancel", "--all-matching", "--queue", "mail"),
        2,
        "Cancel 1 unfinished task? Nobody is there to ask",
    )

    assert Task.objects.get(pk=task.pk).status == Status.PENDING


@pytest.mark.parametrize(("answer", "status"), [("y", Status.CANCELLED), ("", Status.PENDING)])
def test_who_is_at_a_terminal_is_asked(
    child_env: dict[str, str], make_task: MakeTask, answer: str, status: Status
) -> None:
    task = make_task(queue="mail")
    ours, theirs = pty.openpty()
    command = [sys.executable, str(MANAGE), "tasks", "cancel", "--all-matching", "--queue", "mail"]
    with subprocess.Popen(command, env=child_env, stdin=theirs, stdout=subprocess.PIPE, text=True) as process:
        os.write(ours, f"{answer}\n".encode())
        said = process.communicate(timeout=60)[0]
    os.close(ours)
    os.close(theirs)

    assert "Cancel 1 unfinished task? [y/N]" in said
    assert Task.objects.get(pk=task.pk).status == status


WRONG = [
    ([], "COMMAND"),
    (["list", "--status", "lost"], "must be one of pending"),
    (["list", "--limit", "0"], "is not a number from 1"),
    (["show", "seven"], "is not the id of a task"),
    (["retry"], "Give ids, or --all-matching"),
    (["retry", "--all-matching"], "at least one filter"),
    (["cancel", str(UUID(int=0)), "--queue", "mail"], "not both"),
    (["pause", "no/queue"], "is no name of a queue"),
    (["retry", str(UUID(int=0)), "--run-at", "soon"], "must be an RFC 3339 time"),
    (["retry", str(UUID(int=0)), "--payload", "[1]"], "is no JSON object"),
    (["cancel", str(UUID(int=0)), "--reason", " "], "a reason must not be blank"),
    (["cancel", str(UUID(int=0)), "--because", "no"], "usage: manage.py tasks cancel"),
]


@pytest.mark.parametrize(
    ("arguments", "sentence"), WRONG, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_what_is_asked_wrongly_ends_with_2(tasks: Tasks, arguments: list[str], sentence: str) -> None:
    refused(tasks(*arguments), 2, sentence)


# -- queues


def test_a_pause_is_stored_with_who_and_why_until_it_is_resumed(tasks: Tasks) -> None:
    paused = tasks("pause", "mail", "images", "--reason", "provider is down")

    assert paused.stdout.startswith("2 of 2 paused. What runs goes on.\n")
    assert paused.returncode == 0
    queue = Queue.objects.get(pk="mail")
    assert (bool(queue.paused_at), bool(queue.paused_by), queue.pause_reason) == (
        True,
        True,
        "provider is down",
    )
    again = tasks("pause", "mail")
    assert (again.returncode, "mail: paused already" in again.stdout) == (1, True)
    assert tasks("resume", "mail").stdout == "1 of 1 resumed.\n"
    again = tasks("resume", "mail")
    assert (again.returncode, again.stdout) == (1, "0 of 1 resumed.\nmail: not paused\n")


def test_a_pause_of_a_queue_that_nobody_uses_asks_for_its_spelling(tasks: Tasks, make_task: MakeTask) -> None:
    make_task(queue="mail")
    make_worker("images")

    done = tasks("pause", "mail", "images", "default", "mial")

    assert done.stdout.splitlines() == [
        "4 of 4 paused. What runs goes on.",
        "mial: nothing uses it: is it spelled right?",
    ]
    assert Queue.objects.get(pk="mial").paused_at is not None, "what comes later waits"


def test_workers_are_drained_by_name_or_all_that_live(tasks: Tasks) -> None:
    one, two = make_worker(), make_worker()
    gone = make_worker(unseen=timedelta(hours=1))

    by_name = tasks("drain", one.pk)
    the_rest = tasks("drain", "--all")
    again = tasks("drain", "--all")

    assert (by_name.stdout, by_name.returncode) == (
        "1 of 1 asked; each ends when what it runs is done.\n",
        0,
    )
    assert the_rest.stdout.startswith("1 of 2 asked")
    assert (again.stdout[:6], again.returncode) == ("0 of 2", 1)
    asked = set(Worker.objects.filter(drain_requested_at__isnull=False).values_list("pk", flat=True))
    assert asked == {one.pk, two.pk} and gone.pk not in asked
    assert Worker.objects.get(pk=one.pk).drain_requested_by


def test_stats_tell_of_each_queue_what_waits_and_who_would_take_it(tasks: Tasks, make_task: MakeTask) -> None:
    make_worker("mail")
    hour_ago = timezone.now() - timedelta(hours=1)
    make_task(queue="mail", ready_at=hour_ago, priority=-5)
    make_task(queue="mail", priority=5)
    make_task(Status.FAILED)
    make_task(queue="later", ready_at=None, waiting_for="time", run_at=timezone.now() + timedelta(days=1))
    lifecycle.pause(["images"], by="ada", reason="a move")

    [found] = objects(tasks("stats", "--json"))
    for_people = tasks("stats").stdout

    by_name = {queue["queue"]: queue for queue in found["queues"]}
    assert (by_name["mail"]["ready"], by_name["mail"]["workers"]) == (2, 1)
    assert 3600 <= by_name["mail"]["oldest_ready_seconds"] < 3700
    assert (by_name["images"]["paused"], by_name["images"]["workers"]) == (True, 0)
    assert (by_name["images"]["paused_by"], by_name["images"]["pause_reason"]) == ("ada", "a move")
    assert re.search(r"^images +0 +0 +0 +0 +paused since .* UTC by ada \(a move\)$", for_people, re.MULTILINE)
    assert (by_name["later"]["ready"], by_name["later"]["waiting"]) == (0, 1)
    assert (found["tasks"]["failed"], found["workers"], found["executors"]) == (1, 1, 3)
    assert for_people.endswith("; 1 worker is live, with 3 executors.\n")


# -- how it ends


@pytest.mark.sqlite
def test_without_a_database_there_is_one_sentence(tasks: Tasks, tmp_path: Path) -> None:
    done = tasks("list", DB_PATH=str(tmp_path / "none.db"))

    refused(done, 1, "There is no database")
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "none.db").exists()


@pytest.mark.sqlite
def test_a_database_without_tables_gives_one_sentence(tasks: Tasks, tmp_path: Path) -> None:
    (tmp_path / "empty.db").touch()

    done = tasks("list", DB_PATH=str(tmp_path / "empty.db"))

    refused(done, 1, "Has `manage.py migrate` been run?")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("form", [[], ["--json"]], ids=["table", "lines"])
def test_a_pipe_that_closes_early_is_no_error(
    child_env: dict[str, str], make_task: MakeTask, form: list[str]
) -> None:
    for _ in range(300):
        make_task(title="x" * 900)
    command = [sys.executable, str(MANAGE), "tasks", "list", "--limit", "300", *form]

    with subprocess.Popen(command, env=child_env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        said = process.stderr.read()

    assert (process.returncode, said) == (0, b"")


@pytest.mark.parametrize(
    "name", ["list", "show", "retry", "cancel", "pause", "resume", "drain", "stats", "doctor"]
)
def test_each_command_says_what_it_does(tasks: Tasks, name: str) -> None:
    done = tasks(name, "--help")

    assert done.returncode == 0
    assert done.stdout.startswith(f"usage: manage.py tasks {name}")


def test_a_table_fits_a_terminal() -> None:
    text = table(("ID", "TITLE"), [("1", "a" * 200), ("22", "b")], 40)

    assert max(map(len, text.splitlines())) == 40
    assert text.splitlines()[1].endswith("a…")


def test_a_table_without_a_terminal_is_whole() -> None:
    assert "a" * 200 in table(("ID", "TITLE"), [("1", "a" * 200)])


# -- with a real worker


def test_what_is_retried_here_runs_there(tasks: Tasks, run_workers: RunWorkers, make_task: MakeTask) -> None:
    task = make_task(Status.FAILED, handler="fault.noop")
    run_workers("--n", "1").wait_executors(1)

    assert tasks("retry", task.pk).returncode == 0

    wait_until(lambda: Task.objects.get(pk=task.pk).status in FINISHED, "it has finished")
    assert Task.objects.get(pk=task.pk).status == Status.COMPLETED
