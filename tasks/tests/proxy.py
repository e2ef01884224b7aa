"""What may happen to a connection on its way to PostgreSQL: cut, swallowed, silent."""

from __future__ import annotations

import select
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

READ_BYTES = 64 * 1024
LOOK_SECONDS = 0.05
COMMIT = b"COMMIT\x00"
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: what closes is a reset


class Proxy:
    """Carries connections from a port of its own to a server's socket, as long as it is told to."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.commits_swallowed = 0
        self._marker: bytes | None = None
        self._last_words: bytes | None = None
        self._ways: list[_Way] = []
        self.silent = self._closed = False
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def url(self, name: str) -> str:
        return f"postgres://postgres@127.0.0.1:{self.port}/{name}"

    # -- what happens

    def cut(self) -> None:
        """Reset whatever is open; new connections go through."""
        for way in list(self._ways):
            way.cut()

    def fall_silent(self) -> None:
        """Whatever is open stays open, and nothing comes through any more; new connections fare likewise."""
        self.silent = True
        for way in list(self._ways):
            way.silent = True

    def fall_silent_after(self, words: bytes) -> None:
        """Once these have come through, but not the answer to them."""
        self._last_words = words

    def speak(self) -> None:
        """New connections go through. Those from before are never heard of again."""
        self.silent = False

    def swallow_commit(self, marker: bytes) -> None:
        """Of the next transaction in which this was said: it is committed, and who asked is cut off."""
        self._marker = marker

    def close(self) -> None:
        self._closed = True
        self._listener.close()
        self.cut()

    # -- in threads

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while not self._closed:
                if select.select([self._listener], [], [], LOOK_SECONDS)[0]:
                    client, _ = self._listener.accept()
                    way = _Way(self, client, silent=self.silent)
                    self._ways.append(way)
                    threading.Thread(target=way.run, daemon=True).start()

    def wants(self, said: bytes) -> bool:
        """Whether this transaction's answer is to be lost; once."""
        if self._marker is None or self._marker not in said:
            return False
        self._marker = None
        return True

    def heed(self, said: bytes) -> None:
        if self._last_words is not None and self._last_words in said:
            self._last_words = None
            self.fall_silent()

    def forget(self, way: _Way) -> None:
        self._ways.remove(way)


class _Way:
    """One connection."""

    def __init__(self, proxy: Proxy, client: socket.socket, *, silent: bool) -> None:
        self._proxy = proxy
        self._client = client
        self._server: socket.socket | None = None
        self._said = b""  # in this transaction
        self._cut = False
        self.silent = silent

    def cut(self) -> None:
        self._cut = True

    def run(self) -> None:
        try:
            if not self.silent:
                self._server = socket.socket(socket.AF_UNIX)
                self._server.connect(self._proxy.target)
            while not self._cut:
                self._carry()
        except OSError:  # either end is gone
            pass
        finally:
            self._end()

    def _carry(self) -> None:
        if self.silent or self._server is None:
            time.sleep(LOOK_SECONDS)
            return
        ready, _, _ = select.select([self._client, self._server], [], [], LOOK_SECONDS)
        if self.silent or self._cut:
            return
        if self._client in ready:
            self._to_server(self._client.recv(READ_BYTES), self._server)
        elif self._server in ready:
            _pass(self._server.recv(READ_BYTES), self._client)

    def _to_server(self, data: bytes, server: socket.socket) -> None:
        self._said += data
        _pass(data, server)
        self._proxy.heed(data)
        if self._said.endswith(COMMIT):
            if self._proxy.wants(self._said):
                server.recv(READ_BYTES)  # the answer: it is committed
                self._proxy.commits_swallowed += 1
                self._cut = True
            self._said = b""

    def _end(self) -> None:
        self._proxy.forget(self)
        with suppress(OSError):
            self._client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self._client.close()
        if self._server is not None:
            self._server.close()


def _pass(data: bytes, to: socket.socket) -> None:
    if not data:
        raise OSError("closed")
    to.sendall(data)


@contextmanager
def proxy(target: str) -> Iterator[Proxy]:
    made = Proxy(target)
    try:
        yield made
    finally:
        made.close()
