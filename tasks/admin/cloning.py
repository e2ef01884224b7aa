"""A task made anew from another, with edits; checked as the API checks what it is asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC
from typing import Any
from uuid import UUID

from django import forms
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils import timezone

from tasks import clock, lifecycle, registry
from tasks.admin.rights import rights_of
from tasks.admin.window import Window
from tasks.admin.words import visible
from tasks.contract import TaskSpec
from tasks.errors import InvalidFields, TooLarge, UnknownHandler
from tasks.lifecycle.intake import expect_small
from tasks.limits import HANDLER_CHARS, TITLE_CHARS
from tasks.masking import StillMasked, masked, unmasked
from tasks.models import Task
from tasks.models.task import database
from tasks.specs import spec_from_json
from tasks.storable import to_json

LOCAL_TIME = "%Y-%m-%dT%H:%M:%S"  # of an input of the type datetime-local
MASKED_ARGUMENTS = (
    "The task has arguments that are masked, and these are taken over only with the payload as it is."
)


class MaskedArguments(Exception):
    """They would go with a payload that says otherwise where to."""


class CloneForm(forms.Form):
    """What the API would refuse is told beside the field. What the form does not show is taken over."""

    title = forms.CharField(required=False, max_length=TITLE_CHARS)
    handler = forms.CharField(max_length=HANDLER_CHARS)
    payload = forms.CharField(
        widget=forms.Textarea(attrs={"rows": 14, "spellcheck": "false"}),
        strip=False,
        help_text="Masked values stay as they were if handler and payload do. Else write them anew.",
    )
    queue = forms.CharField()
    priority = forms.CharField(
        widget=forms.NumberInput(attrs={"min": -100, "max": 100}),
        help_text="From -100 to 100; higher runs sooner.",
    )
    run_at = forms.CharField(
        required=False,
        label="Not before",
        widget=forms.DateTimeInput(attrs={"type": "datetime-local", "step": 1}),
        help_text="In UTC; empty: at once.",
    )

    def __init__(self, task: Task, data: Any = None) -> None:
        super().__init__(data, initial=_initial(task), label_suffix="")
        self.task = task
        self.spec = TaskSpec(handler=task.handler)  # until it is checked
        self.handlers = [name for name in registry.known() if registry.find(name).public_name == name]
        self.fields["handler"].widget.attrs["list"] = "handlers"

    def clean(self) -> dict[str, Any]:
        """Each check by itself, so that all that is wrong is told at once."""
        given = super().clean() or {}
        if "handler" in given:
            with self._telling():
                self._check_handler(given["handler"])
        if "payload" in given:
            with self._telling():
                given["payload"] = self._payload(given["payload"], self._keeps_handler(given))
        with self._telling():
            self.spec = self._spec(given)
        return given

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """What is wrong goes beside its field, and that field out of what was given."""
        try:
            yield
        except json.JSONDecodeError as error:
            self.add_error(
                "payload", f"This is no JSON: {error.msg} (line {error.lineno}, column {error.colno})."
            )
        except (ValueError, RecursionError) as error:
            self.add_error("payload", f"This cannot be stored: {error}.")
        except StillMasked as error:
            self.add_error("payload", _still_masked(error.pointer))
        except MaskedArguments:
            self.add_error("payload", MASKED_ARGUMENTS)
        except UnknownHandler as error:
            self.add_error("handler", str(error))
        except TooLarge as error:
            self.add_error("payload", str(error))
        except InvalidFields as error:
            for wrong in error.fields:
                self.add_error(
                    self._field_of(wrong.pointer or ""), f"{wrong.detail[:1].upper()}{wrong.detail[1:]}."
                )

    def _field_of(self, pointer: str) -> str | None:
        name = pointer.removeprefix("/").partition("/")[0]
        return name if name in self.fields else None

    def _keeps_handler(self, given: Mapping[str, Any]) -> bool:
        """Of one that is wrong nobody knows what it will be: that it changes, the next look tells."""
        return bool(given.get("handler", self.task.handler) == self.task.handler)

    def _check_handler(self, name: str) -> None:
        if name != self.task.handler or not _is_private(name):
            self._read({"handler": name})

    def _payload(self, text: str, same_handler: bool) -> Any:
        payload = json.loads(text, object_pairs_hook=_unique)
        to_json(payload)  # raises what no database stores
        given = self._unmasked(payload, same_handler)
        expect_small(to_json(self._args(same_handler)), to_json(given))
        return given

    def _unmasked(self, payload: Any, same_handler: bool) -> Any:
        """Arguments are not on the form and stay, so that what is masked in them needs its payload, too."""
        given = unmasked(payload, self.task.payload if same_handler else None)
        if same_handler and masked(self.task.args) != self.task.args and given != self.task.payload:
            raise MaskedArguments
        return given

    def _spec(self, given: Mapping[str, Any]) -> TaskSpec:
        """Of the fields that are right so far; what is wrong with others is told already."""
        wish = {
            "tags": self.task.tags,
            "max_attempts": self.task.max_attempts,
            "timeout_seconds": self.task.timeout_seconds,
            **{name: given[name] for name in ("payload", "queue") if name in given},
            **({"priority": _number(given["priority"])} if "priority" in given else {}),
            **({"run_at": _time(given["run_at"])} if "run_at" in given else {}),
            **({"title": given["title"]} if given.get("title") else {}),
        }
        handler = given.get("handler")
        same_handler = self._keeps_handler(given)
        if handler and not (same_handler and _is_private(handler)):
            return replace(self._read({**wish, "handler": handler}), args=self._args(same_handler))
        spec = self._read(
            {"title": self.task.handler, **wish}
        )  # HTTP may not name it, but it was there already
        return replace(spec, handler=self.task.handler, title=given.get("title", ""), args=self.task.args)

    def _read(self, wish: dict[str, Any]) -> TaskSpec:
        return spec_from_json(wish, owner=self.task.owner, now=lambda: clock.now(database()))

    def _args(self, same_handler: bool) -> list[Any]:
        return list(self.task.args) if same_handler else []


class Clonable(Window):
    """The page with that form, of a task."""

    def get_urls(self) -> list[Any]:
        clone = self.admin_site.admin_view(self.clone_view)
        return [path("<uuid:task_id>/clone/", clone, name="tasks_task_clone"), *super().get_urls()]

    def clone_view(self, request: HttpRequest, task_id: UUID) -> HttpResponse:
        if not (self.has_view_permission(request) and rights_of(request).clone):
            raise PermissionDenied
        task = get_object_or_404(Task.objects.using(database()), pk=task_id)
        form = CloneForm(task, request.POST if request.method == "POST" else None)
        if form.is_bound and form.is_valid():
            made = lifecycle.enqueue([form.spec])[0].id
            self.tell(request, f"This is the clone of {task.pk}.", done=True)
            self.note(
                request,
                Task.objects.using(database()).filter(pk=made),
                f"Cloned by hand from {task.pk}.",
                made=True,
            )
            self.note(request, [task], f"Cloned by hand as {made}.")
            return HttpResponseRedirect(reverse("admin:tasks_task_change", args=(made,)))
        context = {
            **self.admin_site.each_context(request),
            "title": f"Clone: {task}",
            "opts": self.opts,
            "list_url": self.list_url(),
            "original": task,
            "form": form,
        }
        return TemplateResponse(request, "admin/tasks/task/clone.html", context)


def _initial(task: Task) -> dict[str, Any]:
    later = task.run_at if task.run_at and task.run_at > timezone.now() else None
    return {
        "title": task.title,
        "handler": task.handler,
        "payload": visible(json.dumps(masked(task.payload), indent=2, ensure_ascii=False)),
        "queue": task.queue,
        "priority": task.priority,
        "run_at": later and f"{later.astimezone(UTC):{LOCAL_TIME}}",
    }


def _is_private(handler: str) -> bool:
    return registry.find(handler).public_name != handler


def _still_masked(pointer: str) -> str:
    where = pointer or "The payload"
    return (
        f"{where} is masked, and what it was is taken over only with the same handler and a payload that is "
        "otherwise left as it is: write its value anew."
    )


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("an object has a member twice")
    return members


def _number(text: str) -> Any:
    try:
        return int(text)
    except ValueError:
        return text  # the check of all specs says what is wrong


def _time(text: str) -> Any:
    """As RFC 3339; browsers leave out seconds that are zero."""
    if not text:
        return None
    seconds = ":00" if text.count(":") == 1 else ""
    return f"{text}{seconds}Z" if text[-1:].isdigit() and "+" not in text else text
