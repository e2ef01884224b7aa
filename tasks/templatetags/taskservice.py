"""What templates of the admin ask for by themselves: pages whose view is Django's own."""

from __future__ import annotations

from typing import Any

from django import template

from tasks.admin.overview import overview

register = template.Library()


@register.simple_tag
def service_overview() -> dict[str, Any]:
    return overview()
