"""Where a request comes from, as far as that can be believed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import Any

from tasks.conf import config

_WITH_PORT = re.compile(r"\[([^\]]*)\](?::\d+)?|([^:]*):\d+")  # as some proxies write it


def client_of(meta: Mapping[str, Any]) -> str:
    """The client's address, from a request's ``META``; of IPv6 the network, of which each host has 2^64.

    Behind proxies it is what the first of ours was told by whoever connected; all before may be invented.
    Empty where nobody can say.
    """
    peer = str(meta.get("REMOTE_ADDR", ""))
    if proxies := config().proxies:
        told = str(meta.get("HTTP_X_FORWARDED_FOR", "")).split(",")
        return _network(told[-min(proxies, len(told))].strip()) or _network(peer)
    return _network(peer)


@lru_cache(maxsize=1000)
def _network(text: str) -> str:
    if with_port := _WITH_PORT.fullmatch(text):
        text = with_port[1] or with_port[2] or ""
    try:
        address = ip_address(text)
    except ValueError:
        return ""
    if not isinstance(address, IPv6Address):
        return str(address)
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(IPv6Address(int(address) >> 64 << 64))
