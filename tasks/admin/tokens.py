"""Tokens: who may use the API, and for what. A secret is shown once, when it is made."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.safestring import SafeString

from tasks import clock, tokens
from tasks.admin import page, words
from tasks.admin.window import Window
from tasks.grants import NOT_BOTH, USUAL, Scope, fit
from tasks.limits import OWNER_CHARS, QUEUE_RULE, is_queue_name
from tasks.models import Token
from tasks.models.task import database

ALLOWS = {
    Scope.CREATE: "make tasks",
    Scope.READ: "see them",
    Scope.QUEUES: "pause, resume and purge queues, and drain workers: for the tasks of every owner",
    Scope.METRICS: "read /metrics",
    Scope.MANAGE: "cancel, retry, change and delete them",
    Scope.ADMIN: "all of it, for the tasks of every owner; and tokens",
}


class TokenForm(forms.ModelForm):  # type: ignore[type-arg]  # generic in its stubs alone
    scopes = forms.MultipleChoiceField(
        choices=[(scope.value, f"{scope}: {words_}") for scope, words_ in ALLOWS.items()],
        initial=USUAL,
        widget=forms.CheckboxSelectMultiple,
    )
    owner = forms.CharField(
        required=False,
        max_length=OWNER_CHARS,
        help_text="Whose tasks it makes and sees; several can share one. Empty: its name.",
    )
    queues = forms.CharField(
        required=False, help_text="These alone, with commas between; empty: all.", label="Queues"
    )
    expires_at = forms.DateTimeField(
        required=False,
        label="Expires",
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}),
        help_text="In UTC; empty: never.",
    )

    class Meta:
        model = Token
        fields = ("name", "owner", "expires_at", "scopes", "queues")

    def clean_queues(self) -> list[str] | None:
        names = [name.strip() for name in self.cleaned_data["queues"].split(",") if name.strip()]
        if not all(map(is_queue_name, names)):
            raise forms.ValidationError(f"Each {QUEUE_RULE}.")
        return names or None

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        if not fit(given.get("scopes", ()), given.get("queues")):
            self.add_error("queues", f"Leave it empty: {NOT_BOTH}.")
        return given

    def clean_expires_at(self) -> datetime | None:
        moment: datetime | None = self.cleaned_data["expires_at"]
        if moment is not None and moment <= timezone.now():
            raise forms.ValidationError("This time has passed.")
        return moment


@admin.register(Token)
class TokenAdmin(Window):
    """Made and withdrawn, and never changed: what a program holds shall go on meaning the same."""

    list_display = ("name", "owner", "begins", "may", "where", "made", "used", "expires")
    form = TokenForm
    add_form_template = "admin/tasks/token/add_form.html"
    delete_confirmation_template = "admin/tasks/token/withdraw.html"
    actions = None

    def has_add_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("tasks.add_token")

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("tasks.delete_token")

    @admin.display(description="Begins with")
    def begins(self, token: Token) -> str:
        return f"tsk_{token.prefix}"

    @admin.display(description="Scopes")
    def may(self, token: Token) -> str:
        return ", ".join(token.scopes)

    @admin.display(description="Queues")
    def where(self, token: Token) -> str:
        return "all" if token.queues is None else ", ".join(token.queues)

    @admin.display(description="Made")
    def made(self, token: Token) -> SafeString | str:
        return words.when(token.created_at, timezone.now())

    @admin.display(description="Last used")
    def used(self, token: Token) -> SafeString | str:
        return words.when(token.used_at, timezone.now())

    @admin.display(description="Expires")
    def expires(self, token: Token) -> SafeString | str:
        return words.when(token.expires_at, timezone.now())

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        return super().changelist_view(request, {"title": "Tokens", **(extra_context or {})})

    # -- making one

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        return super().add_view(request, form_url, {"title": "Make a token", **(extra_context or {})})

    def save_model(self, request: HttpRequest, obj: Token, form: Any, change: bool) -> None:
        given = {name: form.cleaned_data[name] for name in ("scopes", "owner", "queues", "expires_at")}
        given["scopes"] = [Scope(scope) for scope in given["scopes"]]
        made, obj.secret = tokens.issue(obj.name, now=clock.now(database()), **given)  # type: ignore[attr-defined]
        obj.pk = made.pk  # for the history

    def response_add(
        self, request: HttpRequest, obj: Token, post_url_continue: str | None = None
    ) -> HttpResponse:
        """Without the usual redirect: the secret would have to be kept meanwhile."""
        context = {
            **self.admin_site.each_context(request),
            "title": f"Token {obj.name}",
            "opts": self.opts,
            "list_url": self.list_url(),
            "secret": obj.secret,  # type: ignore[attr-defined]  # save_model has set it
        }
        return TemplateResponse(request, "admin/tasks/token/made.html", context)

    # -- withdrawing one

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        given = {"title": "Withdraw the token", "list_url": self.list_url(), **(extra_context or {})}
        return super().delete_view(request, object_id, given)

    def response_delete(self, request: HttpRequest, obj_display: str, obj_id: int) -> HttpResponse:
        self.tell(request, f"Token {obj_display} is withdrawn.", done=True)
        sees_list = self.has_view_permission(request)
        return HttpResponseRedirect(self.list_url() if sees_list else reverse("admin:index"))

    # -- the page of one

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        return (
            [] if obj else [(None, {"fields": list(TokenForm.Meta.fields)})]
        )  # the template shows the facts

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        token = kwargs.get("obj")
        if token is not None:
            context |= {"title": token.name, "subtitle": None, "facts": self._facts(token)}
        return super().render_change_form(request, context, *args, **kwargs)

    def _facts(self, token: Token) -> list[page.Fact]:
        now = timezone.now()
        return [
            ("Begins with", self.begins(token)),
            ("Owner", token.owner),
            ("Scopes", self.may(token)),
            ("Queues", self.where(token)),
            ("Made", words.moment(token.created_at, now)),
            ("Last used", words.moment(token.used_at, now)),
            ("Expires", words.moment(token.expires_at, now)),
        ]
