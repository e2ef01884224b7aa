"""``manage.py serve`` for tests: a whole service of real processes, on a database of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import psutil
import pytest
from django.conf import settings

from tasks.tests.databases import OwnDatabases, without_database

MANAGE = [sys.executable, str(settings.BASE_DIR / "manage.py")]


@dataclass
class Service:
    process: subprocess.Popen[str]
    url: str = ""

    def wait_for_url(self) -> None:
        """The line it greets with; from then on no client is refused."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = re.search(r"http://[^ /]+", line)
        assert found, line
        self.url = found[0]

    def call(self, path: str, body: object = None, **headers: str) -> Any:
        data = None if body is None else json.dumps(body).encode()
        with urlopen(Request(self.url + path, data=data, headers=headers), timeout=20) as answer:
            return json.load(answer)

    def until(self, task_id: str, status: str, *, within: float = 20) -> dict[str, Any]:
        deadline = time.monotonic() + within
        while (task := self.call(f"/tasks/{task_id}"))["status"] != status:
            assert time.monotonic() < deadline, task
            time.sleep(0.05)
        return dict(task)

    def side(self, name: str) -> psutil.Process:
        """The direct child that is the API, or the workers."""
        children = psutil.Process(self.process.pid).children()
        return next(it for it in children if (name == "api") == ("gunicorn" in " ".join(it.cmdline())))

    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def stop(self, number: signal.Signals = signal.SIGTERM, *, within: float = 30) -> int:
        self.process.send_signal(number)
        return self.process.wait(timeout=within)


Serve = Callable[..., Service]


@pytest.fixture
def where(tmp_path: Path, own_databases: OwnDatabases) -> dict[str, str]:
    """The variables that lead to the service's database."""
    return own_databases.make(tmp_path)


@pytest.fixture
def serve(where: dict[str, str]) -> Iterator[Serve]:
    """Starts a service on a free port and a database of its own, with one executor."""
    services: list[Service] = []

    def start(*arguments: str, wait: bool = True, **variables: str) -> Service:
        given = {**where, "DJANGO_SETTINGS_MODULE": "taskservice.settings", **variables}
        env = without_database(dict(os.environ)) | given
        command = [*MANAGE, "serve", "--n", "1", "--port", "0", *arguments]
        process = subprocess.Popen(
            command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        services.append(Service(process))
        if wait:
            services[-1].wait_for_url()
        return services[-1]

    yield start
    for service in services:
        with suppress(psutil.NoSuchProcess):
            family = service.family()
            service.process.kill()
            for process in family:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
        print(service.process.communicate()[1])  # pytest shows it when a test fails
