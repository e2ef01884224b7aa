"""The state machine: every status against every transition."""

from __future__ import annotations

from operator import attrgetter

import pytest

from tasks import states
from tasks.models import Task
from tasks.states import FINISHED, Status, Transition
from tasks.tests.rows import MakeTask, columns_for


@pytest.mark.parametrize("transition", states.TRANSITIONS, ids=attrgetter("name"))
@pytest.mark.parametrize("start", Status)
def test_moves_only_from_its_sources(make_task: MakeTask, start: Status, transition: Transition) -> None:
    task = make_task(status=start)

    moved = Task.objects.filter(pk=task.pk).move(transition, **columns_for(transition.target))

    assert moved == (start in transition.sources)
    task.refresh_from_db()
    assert task.status == (transition.target if moved else start)


def test_every_transition_is_in_the_table_once() -> None:
    names = [transition.name for transition in states.TRANSITIONS]
    defined = [value for value in vars(states).values() if isinstance(value, Transition)]

    assert len(set(names)) == len(names)
    assert sorted(names) == sorted(transition.name for transition in defined)


def test_what_is_finished_changes_only_by_a_retry() -> None:
    assert [change for change in states.TRANSITIONS if change.sources & FINISHED] == [states.RETRY]


def test_only_a_claim_begins_an_attempt() -> None:
    assert [change for change in states.TRANSITIONS if change.target == Status.PROCESSING] == [states.CLAIM]


def test_no_transition_leads_where_it_came_from() -> None:
    assert not [change for change in states.TRANSITIONS if change.target in change.sources]
