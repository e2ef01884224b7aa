"""A client under fire: ``python -m bench.chaos.clients NAME PORT SEED``, until SIGTERM.

It writes down each title before it is sent, each id that was acknowledged, and each answer.
"""

from __future__ import annotations

import http.client
import json
import random
import signal
import sys
import time
from contextlib import suppress
from typing import Any

from bench.chaos import ACKNOWLEDGED, ANSWERS, SENT, append, folder

PAUSE_SECONDS = 0.4  # at most, between two requests
DURATIONS = (0.05, 1.0, 8.0)  # seconds that a handler takes at most; the last longer than a lease
SHARES = (92, 5, 3)
MEGABYTES = 100  # of those that take long
PATIENCE = 20.0  # for an answer: the service promises one within 10, but it may have been stopped
READ_BACK = 0.2  # the share of acknowledged tasks that are read at once


class Client:
    def __init__(self, name: str, port: int, seed: int) -> None:
        self._name = name
        self._port = port
        self._rng = random.Random(seed)
        self._connection: http.client.HTTPConnection | None = None
        self._stopped = False

    def run(self) -> None:
        signal.signal(signal.SIGTERM, self._stop)
        count = 0
        while not self._stopped:
            count += 1
            self._post(f"{self._name}-{count}")
            time.sleep(self._rng.uniform(0, PAUSE_SECONDS))

    def _stop(self, number: int, frame: Any) -> None:
        self._stopped = True

    def _post(self, title: str) -> None:
        task = {"title": title, "handler": "chaos.work", "payload": self._payload()}
        append(folder() / SENT, title)
        status, made = self._ask("POST", "/tasks", json.dumps(task))
        append(folder() / ANSWERS, "POST", status, title)
        if status == "201":
            append(folder() / ACKNOWLEDGED, made["id"], title)
            if self._rng.random() < READ_BACK:
                status, _ = self._ask("GET", f"/tasks/{made['id']}")
                append(folder() / ANSWERS, "GET", status, made["id"])

    def _payload(self) -> dict[str, float]:
        """Most tasks are short, but most of the time is taken by long ones, which harm can come to."""
        longest = self._rng.choices(DURATIONS, SHARES)[0]
        seconds = round(self._rng.uniform(0, longest), 3)
        return {"seconds": seconds, "megabytes": MEGABYTES if seconds > 1 else 0}

    def _ask(self, method: str, path: str, body: str | None = None) -> tuple[str, Any]:
        """The status and the JSON; the status is ``none`` when no answer came."""
        try:
            if self._connection is None:
                self._connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE)
            self._connection.request(method, path, body)
            with self._connection.getresponse() as answer:
                return str(answer.status), json.load(answer)
        except (OSError, http.client.HTTPException, json.JSONDecodeError):
            self._hang_up()
            return "none", None

    def _hang_up(self) -> None:
        if self._connection is not None:
            with suppress(OSError):
                self._connection.close()
        self._connection = None


def main() -> None:
    name, port, seed = sys.argv[1:]
    Client(name, int(port), int(seed)).run()


if __name__ == "__main__":
    main()
