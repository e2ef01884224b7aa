"""Where a request comes from: a proxy is believed where there is one, and no further."""

from __future__ import annotations

import pytest
from django.conf import settings
from django.test import override_settings

from tasks.addresses import client_of

PEER = "192.0.2.1"


def client(told: str, *, proxies: int = 1, peer: str = PEER) -> str:
    with override_settings(TASKSERVICE={**settings.TASKSERVICE, "proxies": proxies}):
        return client_of({"REMOTE_ADDR": peer, "HTTP_X_FORWARDED_FOR": told})


@pytest.mark.parametrize(
    ("proxies", "told", "address"),
    [
        (0, "6.6.6.6", PEER),
        (1, "6.6.6.6, 198.51.100.7", "198.51.100.7"),
        (2, "6.6.6.6, 198.51.100.7, 10.0.0.1", "198.51.100.7"),
        (2, "198.51.100.7", "198.51.100.7"),
        (1, "nonsense", PEER),
        (1, "", PEER),
    ],
)
def test_a_proxy_is_believed_where_there_is_one(proxies: int, told: str, address: str) -> None:
    assert client(told, proxies=proxies) == address


@pytest.mark.parametrize(
    ("told", "address"),
    [
        ("198.51.100.7:5678", "198.51.100.7"),
        ("[2001:db8:1:2:3:4:5:6]:80", "2001:db8:1:2::"),
        ("[2001:db8:1:2:3:4:5:6]", "2001:db8:1:2::"),
        ("[::ffff:198.51.100.7]:80", "198.51.100.7"),
        ("198.51.100.7:", PEER),
        ("[198.51.100.7", PEER),
        (":80", PEER),
        ("[]:80", PEER),
    ],
)
def test_a_port_is_not_part_of_an_address(told: str, address: str) -> None:
    """Else each connection would be a client of its own."""
    assert client(told) == address


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("::ffff:198.51.100.7", "198.51.100.7"),
        ("", ""),
        ("x" * 5000, ""),
    ],
)
def test_an_address_is_what_one_host_has_to_itself(peer: str, address: str) -> None:
    assert client("", proxies=0, peer=peer) == address
