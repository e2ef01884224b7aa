"""Clients that POST without a pause: ``python -m bench.clients PORT CONNECTIONS WARM_UP SECONDS BODY``.

One loop serves all connections of the process, each of which waits for its answer before it asks
again. Writes as JSON the latencies in nanoseconds, how often each status came, and how many came before.
"""

from __future__ import annotations

import json
import selectors
import socket
import sys
import time
from collections import Counter


class Connection:
    """One kept-alive connection; opened anew when the server has closed it."""

    def __init__(self, port: int, body: bytes) -> None:
        self._address = ("127.0.0.1", port)
        self._request = (
            b"POST /tasks HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        )
        self.socket = socket.create_connection(self._address, timeout=30)
        self.asked = 0
        self._answer = b""

    def ask(self) -> None:
        self._answer = b""
        self.asked = time.monotonic_ns()
        self.socket.sendall(self._request)

    def hear(self) -> int | None:
        """The status once the answer is complete; 0 when the server hung up instead."""
        data = self.socket.recv(65536)
        if not data:
            return 0
        self._answer += data
        head, end, body = self._answer.partition(b"\r\n\r\n")
        return int(head[9:12]) if end and len(body) >= _length(head) else None

    def reopen(self) -> None:
        self.socket.close()
        self.socket = socket.create_connection(self._address, timeout=30)


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


class Clients:
    """All the connections of one process."""

    def __init__(self, port: int, connections: int, body: bytes) -> None:
        self._selector = selectors.DefaultSelector()
        for _ in range(connections):
            connection = Connection(port, body)
            self._selector.register(connection.socket, selectors.EVENT_READ, connection)
            connection.ask()

    def run(self, seconds: float) -> tuple[list[int], Counter[int]]:
        latencies: list[int] = []
        statuses: Counter[int] = Counter()
        end = time.monotonic() + seconds
        while (now := time.monotonic()) < end:
            for key, _ in self._selector.select(end - now):
                connection: Connection = key.data
                status = connection.hear()
                if status is None:
                    continue
                statuses[status] += 1
                if status:
                    latencies.append(time.monotonic_ns() - connection.asked)
                else:
                    self._reopen(connection)
                connection.ask()
        return latencies, statuses

    def _reopen(self, connection: Connection) -> None:
        self._selector.unregister(connection.socket)
        connection.reopen()
        self._selector.register(connection.socket, selectors.EVENT_READ, connection)


def main() -> None:
    port, connections, warm_up, seconds, body = sys.argv[1:]
    clients = Clients(int(port), int(connections), body.encode())
    warmed, _ = clients.run(float(warm_up))
    latencies, statuses = clients.run(float(seconds))
    json.dump({"warmed": len(warmed), "latencies": latencies, "statuses": statuses}, sys.stdout)


if __name__ == "__main__":
    main()
