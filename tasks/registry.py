"""Which handlers there are: name -> the ``django.tasks`` Task that does the work."""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from functools import cache
from typing import Any, cast

from django import tasks as django_tasks
from django.tasks.exceptions import InvalidTask
from django.utils.module_loading import autodiscover_modules

from tasks.backoff import Backoff
from tasks.conf import config
from tasks.context import ServiceContext
from tasks.errors import UnknownHandler
from tasks.limits import (
    HANDLER_CHARS,
    MAX_ATTEMPTS,
    MAX_TIMEOUT,
    MIN_TIMEOUT,
    QUEUE_RULE,
    TAG_CHARS,
    TAGS,
    TITLE_CHARS,
    is_queue_name,
)
from tasks.storable import to_json

type AnyTask = django_tasks.Task[..., Any]  # generic in its stubs alone: for annotations

# what using() may change beside Django's four
_OURS = ("title", "tags", "max_attempts", "timeout", "backoff")
_PUBLIC_NAME = re.compile(r"[\w.:/-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceTask(django_tasks.Task):  # type: ignore[type-arg]  # generic in its stubs alone
    """A ``django.tasks`` Task with the service's options, each an argument of ``@task(...)``.

    Only one with a ``public_name`` can be asked for over HTTP. ``timeout=None`` means no limit.
    What ``max_attempts`` and ``timeout`` are when not given, the settings say.
    """

    public_name: str | None = None
    title: str = ""
    tags: Sequence[str] = ()
    max_attempts: int = field(default_factory=lambda: config().max_attempts)
    timeout: timedelta | None = field(default_factory=lambda: config().timeout)
    backoff: Backoff = field(default_factory=Backoff)

    # no zero-argument super() in this class: slots make it anew, and Python 3.13 then refuses that

    def __post_init__(self) -> None:
        for complaint in _complaints(self):
            raise InvalidTask(f"{self.module_path}: {complaint}")
        django_tasks.Task.__post_init__(self)
        object.__setattr__(self, "tags", tuple(self.tags))  # so that it can be hashed
        object.__setattr__(self, "priority", int(self.priority))  # True and 1.0 are valid
        _register(self)

    @property
    def handler(self) -> str:
        """The name under which rows know it."""
        return self.public_name or self.module_path

    def using(self, **changes: Any) -> ServiceTask:
        """A copy with other options: Django's four, or ``title, tags, max_attempts, timeout, backoff``.

        As in Django, None for one of its four means "as it was"; ``timeout=None`` means no limit.
        """
        ours = {name: changes.pop(name) for name in _OURS if name in changes}
        if ours and not changes:
            return replace(self, **ours)
        changed = cast(ServiceTask, django_tasks.Task.using(self, **changes))
        return replace(changed, **ours) if ours else changed

    def call(self, *args: Any, **kwargs: Any) -> Any:
        return django_tasks.Task.call(self, *_in_our_context(self, args), **kwargs)

    async def acall(self, *args: Any, **kwargs: Any) -> Any:
        return await django_tasks.Task.acall(self, *_in_our_context(self, args), **kwargs)


def _complaints(task: Any) -> Iterator[str]:
    """What is wrong with a task's options, which may be of any type, a sentence each."""
    yield from _complaints_about_djangos(task)
    name = task.public_name
    if name is not None and not (isinstance(name, str) and _PUBLIC_NAME.fullmatch(name)):
        yield "public_name must be of letters, digits and _ . : / -"
    elif len(task.handler) > HANDLER_CHARS:
        yield f"the name of a handler may have at most {HANDLER_CHARS} characters."
    if type(task.max_attempts) is not int or not 1 <= task.max_attempts <= MAX_ATTEMPTS:
        yield f"max_attempts must be a whole number from 1 to {MAX_ATTEMPTS:,}."
    if task.timeout is not None and not isinstance(task.timeout, timedelta):
        yield "timeout must be a timedelta, or None for no limit."
    elif task.timeout is not None and not MIN_TIMEOUT <= task.timeout <= MAX_TIMEOUT:
        yield f"timeout must be from {MIN_TIMEOUT} to {MAX_TIMEOUT}, or None for no limit."
    if not isinstance(task.backoff, Backoff):
        yield "backoff must be a tasks.backoff.Backoff."
    yield from _complaints_about_texts(task)


def _complaints_about_djangos(task: Any) -> Iterator[str]:
    """What Django's own validation would pass, or answer with another error than InvalidTask."""
    if "." in task.func.__qualname__:
        yield "a handler must be a function of a module, not of a class or of another function."
    if not isinstance(task.priority, int | float) or task.priority != task.priority:
        yield "priority must be a whole number."
    if task.run_after is not None and not isinstance(task.run_after, datetime):
        yield "run_after must be a datetime."
    if not (isinstance(task.queue_name, str) and is_queue_name(task.queue_name)):
        yield f"queue_name {QUEUE_RULE}."


def _complaints_about_texts(task: Any) -> Iterator[str]:
    if not _is_text(task.title, TITLE_CHARS):
        yield f"title must be a text of up to {TITLE_CHARS} characters."
    if not isinstance(task.tags, list | tuple) or not all(_is_text(tag, TAG_CHARS) for tag in task.tags):
        yield f"tags must be a list of texts of up to {TAG_CHARS} characters."
    elif len(task.tags) > TAGS:
        yield f"there may be at most {TAGS} tags."


def _is_text(value: Any, limit: int) -> bool:
    try:
        return isinstance(value, str) and len(value) <= limit and bool(to_json(value))
    except ValueError:  # NUL or a lone surrogate
        return False


def _in_our_context(task: ServiceTask, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Other backends make Django's own context: the handler gets ours, whoever calls it."""
    is_djangos = (
        args and isinstance(args[0], django_tasks.TaskContext) and not isinstance(args[0], ServiceContext)
    )
    return (ServiceContext.around(args[0]), *args[1:]) if task.takes_context and is_djangos else args


def stored_form(task: AnyTask, **options: Any) -> AnyTask:
    """A copy with the options that a row holds, not validated: they were, when it was enqueued.

    The settings may have changed since, and that must not keep anybody from reading a result.
    Options that the task's class does not have are left out.
    """
    copy = object.__new__(type(task))
    for name in [option.name for option in fields(task)]:
        object.__setattr__(copy, name, options[name] if name in options else getattr(task, name))
    return copy


def is_importable(task: AnyTask) -> bool:
    """Whether another process finds this very Task under its ``module_path``.

    Not so for a method, for what is defined in ``__main__``, and for a function whose name
    means something else in its module: ``send = task(_send)``.
    """
    if task.func.__module__ == "__main__":  # another file in each process
        return False
    found = getattr(sys.modules.get(task.func.__module__), task.func.__qualname__, None)
    return isinstance(found, django_tasks.Task) and found.func == task.func


_handlers: dict[str, ServiceTask] = {}


def _register(task: ServiceTask) -> None:
    """Make it known: under its path too, for rows from before it got a public name.

    The first of a name stays, as ``using()`` makes copies that differ in options alone; but
    a module that was loaded anew counts.
    """
    names = {task.handler, task.module_path}
    for name in names:
        known = _handlers.get(name, task)
        if known.module_path != task.module_path:
            raise InvalidTask(
                f"{task.module_path} and {known.module_path} both have the public name {name!r}. Rename one."
            )
    for name in names:
        if name not in _handlers or _handlers[name].func is not task.func:
            _handlers[name] = task


def find(name: str) -> ServiceTask:
    """The handler of this name. Raises UnknownHandler."""
    load()
    try:
        return _handlers[name]
    except KeyError:
        raise UnknownHandler(name) from None


def find_public(name: str) -> ServiceTask:
    """The handler of this public name: what HTTP may ask for. Raises UnknownHandler."""
    task = find(name)
    if task.public_name != name:
        raise UnknownHandler(name)
    return task


def public_names(queues: Collection[str] | None) -> list[str]:
    """What HTTP may ask for, of handlers that go to one of these queues by themselves; None: to any."""
    load()
    public = {name: task for name, task in _handlers.items() if task.public_name == name}
    return sorted(name for name, task in public.items() if queues is None or task.queue_name in queues)


def known() -> tuple[str, ...]:
    """The names that rows may give for the handlers known here, sorted."""
    load()
    return tuple(sorted(_handlers))


def backoff_of(name: str) -> Backoff:
    """How a handler wants to wait between attempts; the default for one that is unknown here."""
    task = _handlers.get(name)
    return task.backoff if task else Backoff()


@cache
def load() -> None:
    """Import this service's handlers and the ``tasks`` module of every installed app."""
    from tasks import handlers  # noqa: F401 - it imports this module

    autodiscover_modules("tasks")
