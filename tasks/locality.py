"""Whether anybody but this machine can reach the API."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address
from typing import Any

from django.conf import settings

from tasks.conf import config

OWN_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})


def tokens_are_required(addresses: Iterable[Any]) -> bool:
    """For an API that listens at ``addresses``: what ``socket.getsockname`` says, or names of hosts."""
    match config().authentication:
        case "none":
            return False
        case "private":
            return _has_proxy()
        case "local":
            return _has_proxy() or not _is_local(addresses)
        case _:
            return True


def _has_proxy() -> bool:
    """Where another name is served one leads the world here, also to a loopback address."""
    return bool(set(settings.ALLOWED_HOSTS) - OWN_NAMES) or getattr(settings, "HTTPS", False)


def _is_local(addresses: Iterable[Any]) -> bool:
    hosts = [address[0] if isinstance(address, tuple) else address for address in addresses]
    return bool(hosts) and all(map(_is_loopback, hosts))


def _is_loopback(host: Any) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:  # a name, or a path: who knows who comes that way
        return False
