"""Reading one task: two ways to it, one resource, and why a pending task does not run yet."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from tasks import lifecycle
from tasks.contract import Crashed, ErrorReport, Failed, Outcome, Released, Succeeded
from tasks.models import Task
from tasks.states import Status, WaitingFor
from tasks.tests.api_client import Api, api
from tasks.tests.rows import LeasedTask, MakeTask

__all__ = ["api"]

FAILURE = Failed(ErrorReport("builtins.ValueError", "no such file", "Traceback …"))


@pytest.fixture
def settled(leased_task: LeasedTask) -> Any:
    """The row of a task whose attempt came to this."""

    def settle(outcome: Outcome, **columns: Any) -> Task:
        lease = leased_task(**columns)
        assert lifecycle.settle([(lease, outcome)], now=timezone.now()).written
        return Task.objects.get(pk=lease.task_id)

    return settle


def test_both_ways_lead_to_the_resource_that_was_acknowledged(api: Api) -> None:
    made = api.create(title="My first task", payload={"seconds": 0})

    assert api.get(f"/task?id={made['id']}").json() == made
    assert api.get(f"/tasks/{made['id']}").json() == made


def test_an_id_may_be_written_in_upper_case(api: Api) -> None:
    made = api.create()

    assert api.get(f"/task?id={made['id'].upper()}").json() == made


@pytest.mark.parametrize("query", ["", "?id=", "?Id=x", "?id"])
def test_without_an_id_the_first_contract_says_that_it_is_required(api: Api, query: str) -> None:
    problem = api.get(f"/task{query}").problem(400, "invalid-field")

    assert problem["detail"] == "id is required"


UNKNOWN = "01a20bcf-958e-766c-8076-373a84ef31ff"
NO_IDS = [
    "x",
    "1",
    "%00",
    "%F0%9F%98%80",
    "%ff",
    "0" * 32,
    "{" + "0" * 36,
    f"urn:uuid:{UNKNOWN}",
    "a" * 5000,
]


@pytest.mark.parametrize("task_id", [UNKNOWN, UNKNOWN.replace("-", ""), *NO_IDS])
def test_an_unknown_id_and_what_is_no_id_are_not_found(api: Api, task_id: str) -> None:
    for path in (f"/task?id={task_id}", f"/tasks/{task_id}", f"/tasks/{task_id}/attempts"):
        assert api.get(path).problem(404, "not-found")["detail"] == "task not found"


# -- where a task stands


def test_a_running_task_shows_who_has_it(api: Api, leased_task: LeasedTask) -> None:
    lease = leased_task()

    shown = api.task(lease.task_id)

    row = Task.objects.get(pk=lease.task_id)
    assert row.lease_expires_at is not None
    assert (shown["status"], shown["attempt"], shown["pending_reason"]) == ("processing", 1, None)
    assert shown["worker"]["id"] == lease.worker_id
    assert datetime.fromisoformat(shown["worker"]["lease_expires_at"]) == row.lease_expires_at
    assert shown["started_at"] is not None


def test_a_completed_task_shows_its_result_and_no_worker(api: Api, settled: Any) -> None:
    shown = api.task(settled(Succeeded('{"pages":[1,2,"ü"]}')).pk)

    assert (shown["status"], shown["result"]) == ("completed", {"pages": [1, 2, "ü"]})
    assert (shown["worker"], shown["error"], shown["pending_reason"]) == (None, None, None)
    assert shown["finished_at"] >= shown["started_at"] >= shown["created_at"]


def test_a_failed_task_shows_its_last_error(api: Api, settled: Any) -> None:
    shown = api.task(settled(FAILURE, max_attempts=1).pk)

    assert shown["status"] == "failed"
    assert shown["error"] == {"type": "builtins.ValueError", "message": "no such file", "attempt": 1}


# -- why a pending task does not run yet


@pytest.mark.usefixtures("live_worker")
def test_a_task_that_failed_once_waits_for_its_next_attempt(api: Api, settled: Any) -> None:
    task = settled(FAILURE, max_attempts=5)

    shown = api.task(task.pk)

    reason = shown["pending_reason"]
    assert (shown["status"], shown["worker"], shown["error"]["attempt"]) == ("pending", None, 1)
    assert (reason["code"], reason["detail"]) == ("retry_backoff", "Attempt 2 of 5 is due then.")
    assert reason["until"] == shown["run_at"]


@pytest.mark.usefixtures("live_worker")
def test_after_a_retry_by_hand_attempts_are_counted_anew_in_the_reason(api: Api, make_task: MakeTask) -> None:
    later = timezone.now() + timedelta(hours=1)
    task = make_task(
        attempt=6, attempts_before=5, max_attempts=5, run_at=later, ready_at=None, waiting_for=WaitingFor.TIME
    )

    assert api.task(task.pk)["pending_reason"]["detail"] == "Attempt 2 of 5 is due then."


@pytest.mark.usefixtures("live_worker")
def test_a_task_handed_back_is_ready(api: Api, settled: Any) -> None:
    reason = api.task(settled(Released(started=True)).pk)["pending_reason"]

    assert (reason["code"], reason["until"]) == ("ready", None)


@pytest.mark.usefixtures("live_worker")
def test_a_task_that_is_due_counts_as_ready_before_a_worker_promotes_it(
    api: Api, make_task: MakeTask
) -> None:
    earlier = timezone.now() - timedelta(seconds=1)
    task = make_task(run_at=earlier, ready_at=None, waiting_for=WaitingFor.TIME)

    assert api.task(task.pk)["pending_reason"]["code"] == "ready"


def test_a_parked_task_says_that_nobody_knows_its_handler(api: Api, make_task: MakeTask) -> None:
    task = make_task(handler="gone.away", ready_at=None, waiting_for=WaitingFor.HANDLER)

    reason = api.task(task.pk)["pending_reason"]
    assert reason["code"] == "no_handler"
    assert "gone.away" in reason["detail"]


@pytest.mark.parametrize("status", Status)
def test_only_pending_tasks_have_a_reason_and_only_running_ones_a_worker(
    api: Api, make_task: MakeTask, status: Status
) -> None:
    shown = api.task(make_task(status).pk)

    assert (shown["pending_reason"] is not None) == (status == Status.PENDING)
    assert (shown["worker"] is not None) == (status == Status.PROCESSING)


# -- attempts


def test_a_new_task_has_no_attempts(api: Api) -> None:
    attempts = api.get(f"/tasks/{api.create()['id']}/attempts").json()

    assert attempts == {"items": [], "next": None, "previous": None}


def test_an_attempt_shows_what_went_wrong(api: Api, settled: Any) -> None:
    task = settled(FAILURE)

    [attempt] = api.get(f"/tasks/{task.pk}/attempts").json()["items"]

    assert (attempt["number"], attempt["outcome"], attempt["worker_id"]) == (1, "failed", task.worker_id)
    assert attempt["error"] == {
        "type": "builtins.ValueError",
        "message": "no such file",
        "traceback": "Traceback …",
        "fingerprint": task.fingerprint,
    }
    assert task.fingerprint
    assert attempt["ended_at"] >= attempt["started_at"]


def test_the_attempt_that_runs_leads_the_list(api: Api, leased_task: LeasedTask) -> None:
    lease = leased_task()

    [attempt] = api.get(f"/tasks/{lease.task_id}/attempts").json()["items"]

    assert (attempt["number"], attempt["outcome"], attempt["ended_at"]) == (1, None, None)
    assert attempt["worker_id"] == lease.worker_id
    assert attempt["started_at"] is not None


def test_the_attempt_that_succeeded_leads_the_list(api: Api, settled: Any) -> None:
    task = settled(Succeeded())

    [attempt] = api.get(f"/tasks/{task.pk}/attempts").json()["items"]

    assert (attempt["number"], attempt["outcome"], attempt["error"]) == (1, "succeeded", None)
    assert datetime.fromisoformat(attempt["ended_at"]) == task.finished_at


def test_attempts_are_paged_from_the_newest(api: Api, make_task: MakeTask) -> None:
    task = make_task(Status.COMPLETED, attempt=6, attempted_at=timezone.now())
    for number in range(1, 6):
        task.attempts.create(number=number, fence=number, outcome="crashed", ended_at=datetime.now(UTC))

    pages = _pages(api, f"/tasks/{task.pk}/attempts?limit=2")

    assert [[attempt["number"] for attempt in page] for page in pages] == [[6, 5, 4], [3, 2], [1]]


def test_an_attempt_without_an_error_says_null(api: Api, make_task: MakeTask) -> None:
    task = make_task(attempt=1)
    task.attempts.create(number=1, fence=1, outcome="released", ended_at=datetime.now(UTC))

    [attempt] = api.get(f"/tasks/{task.pk}/attempts").json()["items"]
    assert attempt["error"] is None


def test_a_cursor_of_another_task_is_refused(api: Api, make_task: MakeTask) -> None:
    one, other = make_task(), make_task()
    for number in (1, 2):
        one.attempts.create(number=number, fence=number, outcome="crashed", ended_at=datetime.now(UTC))
    cursor = api.get(f"/tasks/{one.pk}/attempts?limit=1").json()["next"].split("?")[1]

    problem = api.get(f"/tasks/{other.pk}/attempts?{cursor}").problem(400, "invalid-field")
    assert problem["detail"] == "bad cursor"


def test_a_crash_is_told_in_words(api: Api, settled: Any) -> None:
    task = settled(Crashed("killed by SIGSEGV"))

    [attempt] = api.get(f"/tasks/{task.pk}/attempts").json()["items"]
    assert attempt["outcome"] == "crashed"
    assert "SIGSEGV" in attempt["error"]["message"]


def _pages(api: Api, url: str | None) -> list[list[dict[str, Any]]]:
    pages = []
    while url:
        page = api.get(url).json()
        pages.append(page["items"])
        url = page["next"]
    return pages
