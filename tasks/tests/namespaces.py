"""Hosts of one machine: network namespaces, each on a cable of its own that can be pulled."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


def why_not() -> str:
    """What there is to say for a test that is skipped; empty: there can be hosts."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return "only root, with iproute2, makes network namespaces"
    name = f"try-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False)
    if made.returncode:
        return f"no network namespaces here: {made.stderr.decode().strip()}"
    _ip("netns", "delete", name)
    return ""


@dataclass(frozen=True)
class Host:
    """A namespace, and the near end of its cable."""

    name: str
    cable: str
    server: str  # the address at which it reaches this machine

    @property
    def enter(self) -> list[str]:
        """The command that another one is run with, in here."""
        return ["ip", "netns", "exec", self.name]

    def cut_off(self) -> None:
        _ip("link", "set", self.cable, "down")

    def connect(self) -> None:
        _ip("link", "set", self.cable, "up")


@contextmanager
def hosts(count: int) -> Iterator[list[Host]]:
    """Connected, and gone afterwards."""
    made = [_named(number) for number in range(count)]
    try:
        for host in made:
            _make(host)
        yield made
    finally:
        for host in made:  # its cable goes with it
            subprocess.run(["ip", "netns", "delete", host.name], capture_output=True, check=False)


def _named(number: int) -> Host:
    pid = os.getpid()
    return Host(
        f"host-{pid}-{number}", f"v{pid}-{number}", f"10.{200 + pid % 50}.{pid // 50 % 250}.{4 * number + 1}"
    )


def _make(host: Host) -> None:
    far_end = f"{host.cable}-far"
    near, _, last = host.server.rpartition(".")
    _ip("netns", "add", host.name)
    _ip("link", "add", host.cable, "type", "veth", "peer", "name", far_end)
    _ip("link", "set", far_end, "netns", host.name)
    _ip("address", "add", f"{host.server}/30", "dev", host.cable)
    _ip("-n", host.name, "address", "add", f"{near}.{int(last) + 1}/30", "dev", far_end)
    _ip("-n", host.name, "link", "set", far_end, "up")
    _ip("-n", host.name, "link", "set", "lo", "up")
    host.connect()


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
