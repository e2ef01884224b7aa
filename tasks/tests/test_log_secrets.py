"""What no log may hold: payloads, tokens, passwords; of the API and of workers, whatever goes wrong."""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import psycopg
import pytest

from tasks.tests.databases import without_database
from tasks.tests.service import MANAGE, Serve, Service, serve, where
from tasks.tests.workers import wait_until

__all__ = ["serve", "where"]

SECRET = "hunter2"
PAYLOAD = {"password": SECRET}
ATTEMPTS: list[dict[str, Any]] = [
    {"handler": "demo.echo", "payload": PAYLOAD},
    {"handler": "fault.noop", "payload": PAYLOAD},  # does not take it
    {"handler": "fault.error", "payload": {"message": "as asked", **PAYLOAD}},
    {"handler": "fault.die", "payload": {"how": "kill", "times": 3, "ballast": SECRET}},
    {"handler": "fault.sleep", "payload": {"seconds": 60}, "title": SECRET, "timeout_seconds": 0.2},
]
REFUSED: list[bytes] = [
    b'{"handler": "nobody.knows", "payload": {"password": "hunter2"}}',
    b'{"payload": {"password": "hunter2"}, "priority": "hunter2"}',
    b'{"password": "hunter2"',
]


def with_password(variables: dict[str, str]) -> dict[str, str]:
    """The server of the tests trusts everybody, and so whichever password."""
    if (url := variables.get("DATABASE_URL")) is None:
        return variables
    user, _, host = urlsplit(url).netloc.rpartition("@")
    netloc = f"{user.partition(':')[0]}:{SECRET}@{host}"
    return {**variables, "DATABASE_URL": urlsplit(url)._replace(netloc=netloc).geturl()}


def make_token(variables: dict[str, str]) -> str:
    env = without_database(dict(os.environ)) | variables | {"DJANGO_SETTINGS_MODULE": "taskservice.settings"}
    subprocess.run([*MANAGE, "migrate", "-v", "0"], env=env, check=True, timeout=120)
    command = [*MANAGE, "createtoken", "all", "--scopes", "admin"]
    made = subprocess.run(command, env=env, check=True, timeout=60, capture_output=True, text=True)
    return made.stdout.split()[-1]


def cut_connections(variables: dict[str, str]) -> None:
    """All that the service has; it tells of that, and goes on."""
    if url := variables.get("DATABASE_URL"):
        with psycopg.connect(url, autocommit=True) as server:
            server.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )


def refused(service: Service, path: str, body: bytes | None, **headers: str) -> None:
    with pytest.raises(HTTPError), urlopen(Request(service.url + path, body, headers), timeout=20):
        pass


@pytest.mark.parametrize("level", ["DEBUG", "INFO"])
def test_the_log_of_a_whole_service_holds_no_secret(serve: Serve, where: dict[str, str], level: str) -> None:
    given = with_password(where)
    token = make_token(given)
    wrong = f"{token[:-4]}AAAA"
    service = serve(
        **given,
        LOG_LEVEL=level,
        TASKSERVICE_AUTH="required",
        TASKSERVICE_APPS="tasks.tests.faults",
        TASKSERVICE_MAX_ATTEMPTS="1",
        GUNICORN_CMD_ARGS="--access-logfile -",
    )
    bearer = {"Authorization": f"Bearer {token}"}

    ids = [service.call("/tasks", spec, **bearer)["id"] for spec in ATTEMPTS]
    for body in REFUSED:
        refused(service, "/tasks", body, **bearer)
    refused(service, "/tasks", None, Authorization=f"Bearer {wrong}")
    ended = {service.call(f"/tasks/{id_}", Prefer="wait=15", **bearer)["status"] for id_ in ids}
    assert ended == {"completed", "failed"}
    cut_connections(where)
    wait_until(lambda: _answers(service, bearer), "it is there again", patience=60)
    service.stop()
    log = service.process.communicate()[1]

    for told in ("task.settled", "executor", "POST"):
        assert told in log
    secret_part = token.split("_", 2)[2]  # may hold a "_" itself
    for secret in (SECRET, token, secret_part, wrong):
        assert secret not in log


def _answers(service: Service, headers: dict[str, str]) -> bool:
    with suppress(HTTPError):
        return bool(service.call("/tasks?limit=1", **headers)["items"])
    return False
