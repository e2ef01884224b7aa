"""The form with which people log in, and which nobody may try for long."""

from __future__ import annotations

import logging
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any

from django.conf import settings
from django.contrib.admin.forms import AdminAuthenticationForm
from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from django.utils import timezone

from tasks import logins
from tasks.errors import TooManyLogins
from tasks.logs import event

logger = logging.getLogger(__name__)

ADDRESS_CHARS = 64


class LoginForm(AdminAuthenticationForm):
    def clean(self) -> dict[str, Any]:
        account, password = self.cleaned_data.get("username"), self.cleaned_data.get("password")
        if not account or not password or self.request is None:
            return super().clean()
        address = address_of(self.request)
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


def address_of(request: HttpRequest) -> str:
    """Who connects, or behind a proxy whom it names: the last one, as all before may be invented.

    Of IPv6 the network, as each host has one to itself.
    """
    named = request.headers.get("X-Forwarded-For", "") if settings.HTTPS else ""
    text = named.rpartition(",")[2].strip() or request.META.get("REMOTE_ADDR", "")
    try:
        address = ip_address(text)
    except ValueError:
        return str(text)[:ADDRESS_CHARS]
    if isinstance(address, IPv6Address):
        return str(address.ipv4_mapped or ip_network((address, 64), strict=False))
    return str(address)
