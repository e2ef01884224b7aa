"""Requests that make tasks at the same time share commits, and none of them hears of another's fate."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from uuid import UUID

import pytest
from django.db import OperationalError, connections

from tasks.api import group_commit as module
from tasks.api.creation import Answered, Asked, create
from tasks.api.group_commit import GroupCommit
from tasks.contract import Enqueued, Once, TaskSpec
from tasks.errors import DuplicateKey, Unavailable, UnknownHandler
from tasks.models import Task
from tasks.models.task import database
from tasks.tests.workers import wait_until
from tasks.unique import OnConflict, Unique


def asking(handler: str = "fault.noop", *, title: str = "", once: Once | None = None) -> Asked:
    def answer(tasks: Sequence[Enqueued]) -> Answered:
        [task] = tasks
        return Answered(status=201, body=str(task.id))

    return Asked(specs=[TaskSpec(handler=handler, title=title)], answer=answer, once=once)


NOOP, UNKNOWN = asking(), asking("nobody.knows")


class Turnstile:
    """Stands in for the database in front of ``create``: each call waits to be let through."""

    def __init__(self) -> None:
        self.groups: list[int] = []
        self.open = threading.Event()
        self.errors: list[BaseException | None] = []  # of the next calls

    def commit(self, asked: Sequence[Asked], *, hurried: bool = False) -> Sequence[Answered | Exception]:
        self.groups.append(len(asked))
        assert self.open.wait(30)
        if self.errors and (error := self.errors.pop(0)):
            raise error
        return create(asked, hurried=hurried)


@pytest.fixture
def turnstile(transactional_db: None) -> Turnstile:
    return Turnstile()


@dataclass(frozen=True)
class Requests:
    """Each from a thread of its own; all share one intake."""

    intake: GroupCommit
    threads: ThreadPoolExecutor

    def ask(self, asked: Asked = NOOP) -> Future[Answered]:
        return self.threads.submit(self._in_thread, asked)

    def _in_thread(self, asked: Asked) -> Answered:
        try:
            return self.intake.create(asked)
        finally:
            connections.close_all()

    def gather(self, turnstile: Turnstile, *waiting: Asked) -> list[Future[Answered]]:
        """One that is being committed, and others that wait for it."""
        first = self.ask()
        wait_until(lambda: turnstile.groups == [1], "the first is at the turnstile")
        others = []
        for asked in waiting:  # one after the other: the first of them will lead
            others.append(self.ask(asked))
            wait_until(lambda: len(self.intake._gathered) == len(others), "it waits")
        return [first, *others]


@pytest.fixture
def requests(turnstile: Turnstile) -> Iterator[Requests]:
    with ThreadPoolExecutor(20) as threads:
        yield Requests(GroupCommit(turnstile.commit), threads)
        turnstile.open.set()


def test_what_gathers_while_one_commits_is_committed_together(
    requests: Requests, turnstile: Turnstile
) -> None:
    futures = requests.gather(turnstile, *[NOOP] * 9)

    turnstile.open.set()

    made = {future.result(30).body for future in futures}
    assert turnstile.groups == [1, 9]
    assert len(made) == Task.objects.filter(pk__in=made).count() == 10


def test_a_spec_that_is_refused_is_refused_alone(requests: Requests, turnstile: Turnstile) -> None:
    first, *others = requests.gather(turnstile, NOOP, UNKNOWN, NOOP)

    turnstile.open.set()

    with pytest.raises(UnknownHandler, match=r"nobody\.knows"):
        others[1].result(30)
    assert all(future.result(30) for future in (first, others[0], others[2]))
    assert Task.objects.count() == 3


def test_an_outage_is_told_to_all_who_wait_each_by_an_error_of_its_own(
    requests: Requests, turnstile: Turnstile
) -> None:
    futures = requests.gather(turnstile, *[NOOP] * 5)
    turnstile.errors = [OperationalError("database is busy")]

    turnstile.open.set()

    errors = [future.exception(30) for future in futures]
    assert {(type(error), str(error)) for error in errors} == {(OperationalError, "database is busy")}
    assert len({id(error) for error in errors}) == 6
    assert turnstile.groups == [1], "nobody tries again what has just been refused"
    assert Task.objects.count() == 0


def test_after_an_outage_the_next_one_tries_again(requests: Requests, turnstile: Turnstile) -> None:
    turnstile.errors = [OperationalError("gone")]
    turnstile.open.set()
    assert isinstance(requests.ask().exception(30), OperationalError)

    assert requests.ask().result(30)


def test_nobody_waits_for_a_thread_that_was_ended(requests: Requests, turnstile: Turnstile) -> None:
    """gunicorn ends a worker that takes too long by an exception in whatever it does."""
    first, *others = requests.gather(turnstile, NOOP, NOOP, NOOP)
    turnstile.errors = [SystemExit(1), SystemExit(1)]

    turnstile.open.set()

    assert isinstance(first.exception(30), SystemExit)
    assert isinstance(others[0].exception(30), SystemExit)
    assert all(isinstance(future.exception(30), Unavailable) for future in others[1:])
    assert requests.ask().result(30), "and the next one is served"


def test_within_a_transaction_the_caller_commits(db: None) -> None:
    assert connections[database()].in_atomic_block

    assert GroupCommit().create(NOOP).status == 201


def test_many_at_once_are_all_answered_and_each_with_its_own_task(transactional_db: None) -> None:
    with ThreadPoolExecutor(16) as threads:
        requests = Requests(GroupCommit(), threads)
        asked = [requests.ask(asking(title=str(number))) for number in range(300)]
        made = [UUID(future.result(30).body) for future in asked]

    titles = dict(Task.objects.values_list("pk", "title"))
    assert [titles[id_] for id_ in made] == [str(number) for number in range(300)]


def test_the_same_request_sent_twice_at_once_is_made_once(requests: Requests, turnstile: Turnstile) -> None:
    """The second waits for the group after that of the first."""
    same = asking(once=Once(owner="", path="/tasks", key="k", fingerprint="f"))
    first, *twins = requests.gather(turnstile, same, same, same)

    turnstile.open.set()

    answers = [future.result(30) for future in twins]
    assert len({answer.body for answer in answers}) == 1
    assert sorted(answer.replayed for answer in answers) == [False, True, True]
    assert turnstile.groups == [1, 1, 1, 1]
    assert first.result(30).body != answers[0].body


def unique(on_conflict: OnConflict = OnConflict.RETURN) -> Asked:
    spec = TaskSpec(handler="fault.noop", unique=Unique(key="k", on_conflict=on_conflict))
    return replace(NOOP, specs=[spec])


def test_of_a_group_that_wants_one_unique_key_the_first_gets_it(
    requests: Requests, turnstile: Turnstile
) -> None:
    _, *same = requests.gather(turnstile, unique(), NOOP, unique(), unique())

    turnstile.open.set()

    one, other, *others = [future.result(30).body for future in same]
    assert others == [one, one] != [other, other]
    assert turnstile.groups == [1, 4], "in one commit"


def test_one_that_a_unique_key_rejects_is_rejected_alone(requests: Requests, turnstile: Turnstile) -> None:
    _, first, rejected, other = requests.gather(turnstile, unique(), unique(OnConflict.REJECT), NOOP)

    turnstile.open.set()

    with pytest.raises(DuplicateKey, match=first.result(30).body):
        rejected.result(30)
    assert other.result(30)
    assert Task.objects.count() == 3
    assert turnstile.groups == [1, 3], "the others are not done again"


def test_a_batch_that_a_unique_key_rejects_is_rejected_alone_and_whole(
    requests: Requests, turnstile: Turnstile
) -> None:
    many = replace(NOOP, specs=[*NOOP.specs, *unique(OnConflict.REJECT).specs])
    _, first, rejected, other = requests.gather(turnstile, unique(), many, NOOP)

    turnstile.open.set()

    with pytest.raises(DuplicateKey, match=first.result(30).body):
        rejected.result(30)
    assert other.result(30)
    assert Task.objects.count() == 3
    assert turnstile.groups == [1, 3]


def test_a_group_is_no_larger_than_others_can_wait_for(
    requests: Requests, turnstile: Turnstile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TASKS_AT_ONCE", 3)
    futures = requests.gather(turnstile, *[NOOP] * 7)

    turnstile.open.set()

    assert len({future.result(30).body for future in futures}) == 8
    assert turnstile.groups == [1, 3, 3, 1]
