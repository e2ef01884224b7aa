"""What all pages of the admin have in common: they show rows that have rules, and let nobody edit them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.models import ADDITION, CHANGE, LogEntry
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from tasks.models.task import database

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Any]
else:
    ModelAdmin = admin.ModelAdmin  # generic in its stubs alone


class Window(ModelAdmin):
    """To look through. Whatever changes something is an action that calls a verb."""

    list_per_page = 50
    show_full_result_count = False
    sortable_by = ()
    actions_on_top = True

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).using(database())

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Never: deleting is no verb yet, and a row must not vanish under the worker that runs it."""
        return False

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        """With what the frame of our forms needs."""
        form = {"form": context["adminform"].form, "list_url": self.list_url()}
        return super().render_change_form(request, {**form, **context}, *args, **kwargs)

    def list_url(self) -> str:
        return reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist")

    def action_checkbox(self, obj: Any) -> SafeString:
        """As Django's, without a template for each row: that took a third of the time of a list."""
        return format_html(
            '<input type="checkbox" name="{}" value="{}" class="action-select" aria-label="Choose {}">',
            ACTION_CHECKBOX_NAME,
            obj.pk,
            obj,
        )

    def tell(self, request: HttpRequest, sentence: str, *, done: bool) -> None:
        """A message in green when something was done, else in yellow."""
        self.message_user(request, sentence, messages.SUCCESS if done else messages.WARNING)

    def note(self, request: HttpRequest, rows: Iterable[Model], sentence: str, *, made: bool = False) -> None:
        """Write into the history of each row what was done to it, and by whom. ``made``: it is new."""
        what = ADDITION if made else CHANGE
        LogEntry.objects.log_actions(request.user.pk, rows, what, sentence)  # type: ignore[arg-type]  # any rows
