"""What templates of the admin ask for by themselves: pages whose view is Django's own."""

from __future__ import annotations

from typing import Any

from django import template
from django.utils.safestring import SafeString

from tasks.admin import notices
from tasks.admin.overview import Overview, kept

register = template.Library()


@register.simple_tag(takes_context=True)
def service_overview(context: dict[str, Any]) -> Overview:
    return Overview(context["request"])


@register.filter
def commands(text: str) -> SafeString:
    """What stands between backticks is a command, and looks like one."""
    return notices.sentence(text)


@register.simple_tag
def kept_for() -> dict[str, str]:
    return kept()
