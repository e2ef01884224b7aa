"""Which handlers there are, and the options that they are decorated with."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from django.tasks import TaskContext
from django.tasks.exceptions import InvalidTask
from pytest_django import Settings

from tasks import registry
from tasks.backoff import Backoff
from tasks.context import ServiceContext
from tasks.errors import UnknownHandler
from tasks.tests.shop import tasks as jobs
from tasks.tests.shop.tasks import task

pytestmark = pytest.mark.usefixtures("own_registry")


def made_in(module: str) -> Callable[[], None]:
    """A function that says it is ``work`` of that module."""

    def work() -> None: ...

    work.__module__, work.__qualname__ = module, "work"
    return work


# -- finding


def test_the_services_own_handlers_are_known_without_importing_anything() -> None:
    assert {"demo.sleep", "demo.echo", "demo.fail"} <= set(registry.known())


def test_the_tasks_modules_of_installed_apps_are_loaded() -> None:
    """``tasks.tests.settings`` installs an app with such a module."""
    assert [name for name in registry.known() if name.startswith("fault.")]


def test_a_handler_is_found_by_its_public_name_and_by_its_path() -> None:
    assert registry.find("tests.report") is jobs.report
    assert registry.find("tasks.tests.shop.tasks.report") is jobs.report


def test_http_finds_public_names_alone() -> None:
    assert registry.find_public("tests.report") is jobs.report
    for name in ("tasks.tests.shop.tasks.report", "tasks.tests.shop.tasks.double", "os.system", ""):
        with pytest.raises(UnknownHandler):
            registry.find_public(name)


def test_an_unknown_name_is_an_error_that_repeats_it() -> None:
    with pytest.raises(UnknownHandler, match=r"'mail\.sned'"):
        registry.find("mail.sned")


def test_two_handlers_cannot_have_one_public_name() -> None:
    task(public_name="mail.send")(made_in("shop.tasks"))

    with pytest.raises(InvalidTask, match=r"blog\.tasks\.work and shop\.tasks\.work both .* 'mail\.send'"):
        task(public_name="mail.send")(made_in("blog.tasks"))
    assert registry.find("mail.send").module_path == "shop.tasks.work"


def test_a_refused_handler_leaves_nothing_behind() -> None:
    task(public_name="mail.send")(made_in("shop.tasks"))

    with pytest.raises(InvalidTask):
        task(public_name="mail.send")(made_in("blog.tasks"))

    with pytest.raises(UnknownHandler):
        registry.find("blog.tasks.work")


def test_a_copy_by_using_is_not_what_the_name_finds() -> None:
    jobs.report.using(priority=99, title="Other")

    assert registry.find("tests.report") is jobs.report


def test_a_module_that_is_loaded_anew_counts() -> None:
    task(public_name="mail.send")(made_in("shop.tasks"))

    again = task(public_name="mail.send")(made_in("shop.tasks"))

    assert registry.find("mail.send") is again


def test_the_backoff_of_a_handler_is_known_by_its_name() -> None:
    backoff = Backoff(initial=timedelta(minutes=1))
    task(public_name="mail.send", backoff=backoff)(made_in("shop.tasks"))

    assert registry.backoff_of("mail.send") == backoff
    assert registry.backoff_of("nobody.knows") == Backoff()


# -- options


def test_a_handler_without_options_gets_those_of_the_settings(settings: Settings) -> None:
    settings.TASKSERVICE = {"max_attempts": 8, "timeout": timedelta(seconds=12)}

    made = task()(made_in("shop.tasks"))

    assert (made.max_attempts, made.timeout) == (8, timedelta(seconds=12))
    assert (made.public_name, made.title, made.tags, made.backoff) == (None, "", (), Backoff())
    assert made.handler == "shop.tasks.work"


def test_no_time_limit_must_be_written_out() -> None:
    assert task(timeout=None)(made_in("shop.tasks")).timeout is None


def test_using_changes_our_options_and_djangos_together() -> None:
    changed = jobs.report.using(
        priority=1, queue_name="q", title="T", tags=["a"], max_attempts=2, timeout=None
    )

    assert (changed.priority, changed.queue_name) == (1, "q")
    assert (changed.title, changed.tags, changed.max_attempts, changed.timeout) == ("T", ("a",), 2, None)
    assert changed.public_name == "tests.report"
    assert (jobs.report.priority, jobs.report.title) == (7, "Monthly report")


def test_using_nothing_makes_an_equal_copy() -> None:
    copy = jobs.report.using()

    assert copy == jobs.report
    assert copy is not jobs.report


@pytest.mark.parametrize("option", ["public_name", "func", "takes_context", "prioritiy"])
def test_using_refuses_what_cannot_be_changed(option: str) -> None:
    with pytest.raises(TypeError, match=option):
        jobs.report.using(**{option: "x"})


@pytest.mark.parametrize("name", ["", "two words", "line\nbreak", "a,b", "n" * 256, 5, "a\0b"], ids=repr)
def test_a_public_name_is_one_short_word(name: Any) -> None:
    with pytest.raises(InvalidTask):
        task(public_name=name)(made_in("shop.tasks"))


def test_options_that_nobody_knows_are_refused() -> None:
    with pytest.raises(TypeError, match="retries"):
        task(retries=3)(made_in("shop.tasks"))


def test_a_task_can_be_hashed_and_pickled_with_its_options() -> None:
    changed = jobs.report.using(tags=["a"], timeout=None, backoff=Backoff(factor=3))

    assert len({changed, jobs.report}) == 2
    assert pickle.loads(pickle.dumps(changed)) == changed


# -- being found by others


def test_a_task_under_its_own_name_in_its_module_is_importable() -> None:
    assert registry.is_importable(jobs.double)
    assert registry.is_importable(jobs.double.using(priority=5))


@pytest.mark.parametrize("module", ["__main__", "nowhere.at_all", "tasks.tests.shop.tasks"])
def test_other_tasks_are_not(module: str) -> None:
    assert not registry.is_importable(task()(made_in(module)))


# -- calling


def test_a_handler_gets_our_context_from_djangos_backends_too(settings: Settings) -> None:
    settings.TASKS = {"default": {"BACKEND": "django.tasks.backends.immediate.ImmediateBackend"}}

    result = jobs.who_am_i.enqueue()

    assert result.return_value == [result.id, 1, 1]


def test_our_own_context_goes_through_untouched() -> None:
    context = ServiceContext(task_id="7", attempt=2, fence=5, load=pytest.fail)

    assert jobs.who_am_i.call(context) == ["7", 2, 5]


def test_a_test_may_call_a_handler_with_a_stand_in_for_the_context() -> None:
    assert jobs.who_am_i.call(SimpleNamespace(task_id="7", attempt=1, fence=1)) == ["7", 1, 1]


def test_a_context_is_djangos_context() -> None:
    assert issubclass(ServiceContext, TaskContext)


@pytest.mark.parametrize("given", [1, 1.0, True])
def test_a_priority_is_a_whole_number_whatever_it_was_written_as(given: Any) -> None:
    priority = jobs.double.using(priority=given).priority

    assert (type(priority), priority) == (int, 1)
