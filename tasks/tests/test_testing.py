"""The backends that a project takes for its own tests."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import pytest
from django.tasks import TaskResultStatus, task_backends
from django.tasks.exceptions import InvalidTask
from django.utils import timezone
from pytest_django import Settings

from tasks.registry import ServiceTask
from tasks.testing import DummyBackend, ImmediateBackend
from tasks.tests.shop import tasks as jobs


def take(settings: Settings, name: str) -> None:
    settings.TASKS = {"default": {"BACKEND": f"tasks.testing.{name}"}}


def test_immediate_runs_the_handler_without_a_database(settings: Settings) -> None:
    take(settings, "ImmediateBackend")

    result = jobs.double.enqueue(21)

    assert isinstance(task_backends["default"], ImmediateBackend)
    assert (result.status, result.return_value) == (TaskResultStatus.SUCCESSFUL, 42)


def test_immediate_does_not_wait_for_run_after(settings: Settings) -> None:
    take(settings, "ImmediateBackend")

    result = jobs.double.using(run_after=timezone.now() + timedelta(days=1)).enqueue(21)

    assert result.is_finished


def test_immediate_gives_handlers_our_context(settings: Settings) -> None:
    take(settings, "ImmediateBackend")

    result = jobs.who_am_i.enqueue()

    assert result.return_value == [result.id, 1, 1]


def test_dummy_keeps_what_was_enqueued(settings: Settings) -> None:
    take(settings, "DummyBackend")

    jobs.report.using(run_after=timezone.now() + timedelta(days=1)).enqueue("May")

    backend = task_backends["default"]
    assert isinstance(backend, DummyBackend)
    [kept] = backend.results
    assert (kept.task.func, kept.args, kept.status) == (jobs.report.func, ["May"], TaskResultStatus.READY)


@pytest.mark.parametrize("name", ["ImmediateBackend", "DummyBackend"])
class TestBoth:
    def test_they_know_our_options(self, settings: Settings, name: str) -> None:
        take(settings, name)

        assert task_backends["default"].task_class is ServiceTask
        assert jobs.report.using(max_attempts=2).max_attempts == 2

    def test_they_take_any_queue_unless_some_are_listed(self, settings: Settings, name: str) -> None:
        take(settings, name)
        jobs.report.enqueue("May")

        settings.TASKS = {"default": {"BACKEND": f"tasks.testing.{name}", "QUEUES": ["default"]}}
        with pytest.raises(InvalidTask, match="'reports' is not valid"):
            jobs.report.enqueue("May")

    @pytest.mark.parametrize("value", [math.nan, {1: 2}, "a\0b", 2**63, {1}], ids=repr)
    def test_they_refuse_the_arguments_that_the_service_refuses(
        self, settings: Settings, name: str, value: Any
    ) -> None:
        take(settings, name)

        with pytest.raises((TypeError, ValueError)):
            jobs.note.enqueue(value)

    def test_they_give_arguments_as_the_service_does(self, settings: Settings, name: str) -> None:
        take(settings, name)

        assert jobs.note.enqueue((1, 2)).args == [[1, 2]]
