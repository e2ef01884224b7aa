"""Earlier states of this code, taken out of git, beside the present one; and clients that keep asking."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
from django.conf import settings

from tasks.tests.databases import without_database
from tasks.tests.service import Service
from tasks.tests.workers import wait_until

HERE = Path(settings.BASE_DIR)
MIGRATIONS = "tasks/migrations"


def git(*arguments: str) -> bytes:
    """Skips the test where there is no history: in an archive, an image, or a shallow clone."""
    command = ["git", "-c", "safe.directory=*", *arguments]
    done = subprocess.run(command, cwd=HERE, capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"no git history here: {done.stderr.decode().strip()}")
    return done.stdout


def earlier(changes: int, folder: Path) -> Path:
    """The code as it was before the last so many commits that changed the migrations."""
    commits = git("log", f"--max-count={changes}", "--format=%H", "HEAD", "--", MIGRATIONS).split()
    if len(commits) < changes:
        pytest.skip(f"git knows of {len(commits)} changes of the migrations only")
    archive = git("archive", f"{commits[-1].decode()}^")
    folder.mkdir()
    subprocess.run(["tar", "-x"], cwd=folder, input=archive, check=True)
    return folder


@dataclass
class Release:
    """A state of the code, on a database."""

    root: Path
    where: dict[str, str]
    log: Path

    def manage(self, *arguments: str) -> None:
        command = [sys.executable, "manage.py", *arguments]
        done = subprocess.run(
            command, cwd=self.root, env=self._env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr

    @contextmanager
    def served(self) -> Iterator[Service]:
        """API and workers, on a free port; ``serve`` migrates first."""
        command = [sys.executable, "manage.py", "serve", "--n", "2", "--port", "0"]
        with self.log.open("w") as log:
            process = subprocess.Popen(
                command, cwd=self.root, env=self._env, stdout=subprocess.PIPE, stderr=log, text=True
            )
        service = Service(process)
        try:
            service.wait_for_url()
            yield service
        finally:
            print(self.log.read_text())  # pytest shows it when a test fails
            family = [psutil.Process(process.pid), *service.family()] if process.poll() is None else []
            for one in family:
                one.kill()
            process.wait()

    @property
    def _env(self) -> dict[str, str]:
        """Without what leads to the tests' own settings, and to this code where it is another's turn."""
        given = without_database(dict(os.environ)) | self.where
        given.pop("PYTHONPATH", None)
        return given | {"DJANGO_SETTINGS_MODULE": "taskservice.settings", "TASKSERVICE_APPS": ""}


@dataclass(frozen=True)
class Answer:
    at: float  # monotonic
    status: int
    what: str
    body: bytes


@dataclass
class Clients:
    """Keep making tasks, and cancelling some, at every service that there is."""

    answers: list[Answer] = field(default_factory=list)
    made: list[str] = field(default_factory=list)  # to be completed
    cancelled: list[str] = field(default_factory=list)
    _services: list[str] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)
    _numbers: Iterator[int] = field(default_factory=count)
    _asking: dict[int, str] = field(default_factory=dict)

    @contextmanager
    def at_work(self, *services: Service, clients: int = 3) -> Iterator[Clients]:
        self._services[:] = [service.url for service in services]
        with ExitStack() as ending:
            for number in range(clients):
                thread = threading.Thread(target=self._work, args=(number,), name=f"client-{number}")
                thread.start()
                ending.callback(thread.join)
            ending.callback(self._over.set)
            yield self

    def join(self, service: Service) -> None:
        self._services.append(service.url)

    def leave(self, service: Service) -> None:
        """Returns when nobody asks it any more."""
        self._services.remove(service.url)
        wait_until(lambda: service.url not in self._asking.values(), "nobody asks it any more")

    def wait_for(self, more: int) -> None:
        goal = len(self.made) + more
        wait_until(lambda: len(self.made) >= goal, f"{more} more tasks were made", patience=60)

    def _work(self, client: int) -> None:
        while not self._over.is_set():
            number = next(self._numbers)
            self._asking[client] = url = self._services[number % len(self._services)]
            self._do(url, number)
            del self._asking[client]
            time.sleep(0.01)

    def _do(self, url: str, number: int) -> None:
        wish: dict[str, Any] = {"handler": "demo.echo", "payload": {"number": number}}
        if number % 10 == 0:
            task = self._post(url, "/tasks", wish | {"delay_seconds": 3600})
            if task and self._post(url, f"/tasks/{task['id']}/cancel", None):
                self.cancelled.append(task["id"])
        elif task := self._post(url, "/tasks", wish | {"delay_seconds": number % 3}):
            self.made.append(task["id"])

    def _post(self, url: str, path: str, body: object) -> dict[str, Any] | None:
        """None: it was not acknowledged."""
        connection = HTTPConnection(urlsplit(url).netloc, timeout=30)
        try:
            connection.request("POST", path, None if body is None else json.dumps(body))
            answer = connection.getresponse()
            said = Answer(time.monotonic(), answer.status, f"POST {path}", answer.read())
        finally:
            connection.close()
        self.answers.append(said)
        return dict(json.loads(said.body)) if said.status in (200, 201) else None
