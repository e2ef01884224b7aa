"""Clients under fire: ``python -m bench.chaos.clients NAME PORT SEED THREADS LIMIT``, until SIGTERM.

Each writes down what it asks before it is sent, and what it was told.
"""

from __future__ import annotations

import http.client
import json
import random
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any
from uuid import uuid4

from bench.chaos import ASKS, append, folder
from bench.chaos.kinds import BY_NAME, any_kind

PAUSE_SECONDS = 0.15  # at most, between two wishes
AGAIN_SECONDS = 0.3  # until one is sent again
PATIENCE = 15.0  # for an answer: the service promises one within 10, but it may have been stopped
BATCH = 20
REMEMBERED = 60  # tasks, to be cancelled, retried and read

# what a client does next, and how often
DEEDS = {"create": 70, "batch": 8, "read": 8, "cancel": 7, "cancel_long": 3, "cancel_delayed": 2, "retry": 4}
KEYED, TWICE = 0.7, 0.15  # the shares of wishes that have an Idempotency-Key, and that are sent once more

stopped = threading.Event()


class Client:
    """One at a time, over one connection, which is made anew when it fails."""

    def __init__(self, name: str, port: int, seed: int, limit: int) -> None:
        self._name = name
        self._port = port
        self._rng = random.Random(f"{seed} {name}")
        self._left = limit  # tasks that it may still make
        self._count = 0
        self._known: deque[str] = deque(maxlen=REMEMBERED)
        self._connection: http.client.HTTPConnection | None = None

    def run(self) -> None:
        while not stopped.is_set():
            deed = self._rng.choices([*DEEDS], [*DEEDS.values()])[0]
            getattr(self, f"_{deed}")()
            stopped.wait(self._rng.uniform(0, PAUSE_SECONDS))

    # -- wishes

    def _create(self) -> None:
        self._make("/tasks", any_kind(self._rng).name)

    def _batch(self) -> None:
        self._make("/tasks/batch", *["quick"] * BATCH)

    def _make(self, path: str, *kinds: str) -> list[str]:
        """The ids of what was made, as far as that is known."""
        if self._left < len(kinds):
            return []
        self._left -= len(kinds)
        bodies = [BY_NAME[kind].body(f"{kind}-{self._name}-{self._next()}", self._rng) for kind in kinds]
        verb = "create" if path == "/tasks" else "batch"
        about = {"verb": verb, "titles": [body["title"] for body in bodies]}
        body = bodies[0] if verb == "create" else {"tasks": bodies}
        ids = self._insist("POST", path, about, body)
        self._known.extend(ids[:2])
        return ids

    def _read(self) -> None:
        if self._known:
            id_ = self._rng.choice(self._known)
            self._send("GET", f"/tasks/{id_}", {"verb": "read", "task_id": id_})

    def _cancel(self) -> None:
        if self._known:
            self._cancel_one(self._rng.choice(self._known))

    def _cancel_long(self) -> None:
        for id_ in self._make("/tasks", "long"):
            stopped.wait(self._rng.uniform(0, 2.0))
            self._cancel_one(id_)

    def _cancel_delayed(self) -> None:
        for id_ in self._make("/tasks", "delayed"):
            self._cancel_one(id_)

    def _cancel_one(self, id_: str) -> None:
        self._send("POST", f"/tasks/{id_}/cancel", {"verb": "cancel", "task_id": id_})

    def _retry(self) -> None:
        if self._known:
            id_ = self._rng.choice(self._known)
            self._insist("POST", f"/tasks/{id_}/retry", {"verb": "retry", "task_id": id_})

    # -- how they are sent

    def _insist(self, method: str, path: str, about: Mapping[str, Any], body: Any = None) -> list[str]:
        """With a key, until there is an answer that decides it; sometimes once more."""
        if self._rng.random() > KEYED:
            return self._send(method, path, about, body)[1]
        key = str(uuid4())
        status, ids = self._send(method, path, about, body, key=key)
        while status in (0, 503) or (status == 409 and about["verb"] != "retry"):
            if stopped.wait(AGAIN_SECONDS):
                return ids
            status, ids = self._send(method, path, about, body, key=key)
        if self._rng.random() < TWICE:
            self._send(method, path, about, body, key=key)
        return ids

    def _send(
        self, method: str, path: str, about: Mapping[str, Any], body: Any = None, key: str = ""
    ) -> tuple[int, list[str]]:
        number = f"{self._name}-{self._next()}"
        asked = {**about, "number": number, "wish": key or number, "keyed": bool(key)}
        self._write(asked | {"sent_at": time.monotonic()})
        told = self._ask(
            method, path, json.dumps(body) if body else None, {"Idempotency-Key": key} if key else {}
        )
        if told["status"]:
            self._write({"number": number, "told_at": time.monotonic(), **told})
        return told["status"], told.get("ids", [])

    def _next(self) -> int:
        self._count += 1
        return self._count

    def _write(self, told: Mapping[str, Any]) -> None:
        append(folder() / f"{ASKS}-{self._name}", json.dumps(told))

    def _ask(self, method: str, path: str, body: str | None, headers: Mapping[str, str]) -> dict[str, Any]:
        """Status 0: no answer came."""
        try:
            if self._connection is None:
                self._connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE)
            self._connection.request(method, path, body, headers)
            with self._connection.getresponse() as answer:
                found = json.load(answer)
                return _told(answer, found)
        except (OSError, http.client.HTTPException, json.JSONDecodeError):
            self._hang_up()
            return {"status": 0}

    def _hang_up(self) -> None:
        if self._connection is not None:
            with suppress(OSError):
                self._connection.close()
        self._connection = None


def _told(answer: http.client.HTTPResponse, found: dict[str, Any]) -> dict[str, Any]:
    if answer.status >= 300:
        return {"status": answer.status, "retry_after": answer.headers.get("Retry-After") is not None}
    tasks = found.get("items", [found])
    told: dict[str, Any] = {"status": answer.status, "ids": [task["id"] for task in tasks]}
    if tasks[0]["run_at"] and not tasks[0]["attempt"]:
        told["run_at"] = (
            datetime.fromisoformat(tasks[0]["run_at"]).timestamp() - time.time() + time.monotonic()
        )
    return told


def main() -> None:
    name, port, seed, threads, limit = sys.argv[1:]
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    clients = [
        Client(f"{name}{number}", int(port), int(seed), int(limit) // int(threads))
        for number in range(int(threads))
    ]
    running = [threading.Thread(target=client.run) for client in clients]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()


if __name__ == "__main__":
    main()
