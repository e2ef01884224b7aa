"""The form with which people log in, and which nobody may try for long."""

from __future__ import annotations

import logging
from typing import Any

from django.contrib.admin.forms import AdminAuthenticationForm
from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.utils import timezone

from tasks import logins
from tasks.addresses import client_of
from tasks.errors import TooManyLogins
from tasks.logs import event

logger = logging.getLogger(__name__)


class LoginForm(AdminAuthenticationForm):
    def clean(self) -> dict[str, Any]:
        account, password = self.cleaned_data.get("username"), self.cleaned_data.get("password")
        if not account or not password or self.request is None:
            return super().clean()
        address = client_of(self.request.META)
        told = {"account": account if _exists(account) else None, "address": address}
        try:
            logins.begin(account, address, now=timezone.now())
            cleaned = super().clean()
        except TooManyLogins as error:
            event(logger, logging.WARNING, "admin.login-refused", **told, wait_seconds=error.seconds)
            raise ValidationError(str(error), code=error.code) from error
        except ValidationError:
            event(logger, logging.WARNING, "admin.login-failed", **told)
            raise
        logins.succeed(account, address, now=timezone.now())
        event(logger, logging.INFO, "admin.login", **told)
        return cleaned


def _exists(account: str) -> bool:
    """Other names stay out of the log: one may be a password that was typed into the wrong field."""
    users = get_user_model()
    return bool(users.objects.filter(**{users.USERNAME_FIELD: account}).exists())
