"""The service against its own document: schemathesis finds no answer that is not in it, and no 5xx."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest
from django.conf import settings

from tasks.tests.api_server import CONFIG, Server, api_server
from tasks.tests.databases import OwnDatabases, without_database

pytestmark = [
    pytest.mark.skipif(not find_spec("schemathesis"), reason="schemathesis is not installed"),
    pytest.mark.timeout(1800),
]

# Which handlers there are, and how full a queue is, no document can know: 422, 429.
RULES = """
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "304", "401", "403", "404", "409", "422", "429"]

[checks.negative_data_rejection]
expected-statuses = ["400", "401", "403", "404", "409", "413", "414", "422", "429", "431"]
"""


@dataclass(frozen=True)
class Guarded:
    """The API, with a token that may do everything."""

    server: Server
    secret: str
    token_id: str
    folder: Path


@pytest.fixture
def guarded(tmp_path: Path, own_databases: OwnDatabases) -> Iterator[Guarded]:
    config = tmp_path / "gunicorn.conf.py"
    # an event stream would last as long as its task: here each request is answered as things are
    config.write_text(
        f"{CONFIG.read_text()}\n\ndef post_worker_init(worker):\n"
        "    from tasks.api import patience\n\n    patience.WAITERS = 0\n"
    )
    where = own_databases.make(tmp_path)
    root = str(settings.BASE_DIR)
    with api_server(tmp_path, where, config=config, TASKSERVICE_AUTH="required", PYTHONPATH=root) as server:
        env = without_database(dict(os.environ)) | where | {"DJANGO_SETTINGS_MODULE": "taskservice.settings"}
        make = [sys.executable, "manage.py", "createtoken", "schemathesis", "--scopes", "admin"]
        made = subprocess.run(make, cwd=root, env=env, check=True, capture_output=True, text=True)
        secret = made.stdout.strip()
        status, body = server.ask("GET", "/tokens", Authorization=f"Bearer {secret}")
        assert status == 200
        yield Guarded(server, secret, json.loads(body)["items"][0]["id"], tmp_path)


def run(guarded: Guarded, *options: str) -> subprocess.CompletedProcess[str]:
    rules = guarded.folder / "schemathesis.toml"
    rules.write_text(RULES)
    program = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(rules), "run"]
    command = [
        *program,
        f"http://127.0.0.1:{guarded.server.port}/openapi.json",
        f"--header=Authorization: Bearer {guarded.secret}",
        *("--checks=all", "--generation-deterministic"),
        *("--generation-allow-x00=false", "--no-shrink", "--no-color", "--warnings=off"),
        *("--request-timeout=20", "--continue-on-failure", *options),
    ]
    env = dict(os.environ) | {
        "SCHEMATHESIS_HOOKS": "tasks.tests.schemathesis_hooks",
        "OWN_TOKEN_ID": guarded.token_id,
        "PYTHONPATH": str(settings.BASE_DIR),
    }
    return subprocess.run(command, cwd=guarded.folder, env=env, capture_output=True, text=True, check=False)


def test_every_answer_is_in_the_document(guarded: Guarded) -> None:
    ended = run(guarded, "--phases=examples,coverage,fuzzing,stateful", "--max-examples=10")

    assert ended.returncode == 0, ended.stdout[-100_000:] + ended.stderr


@pytest.mark.slow
def test_every_answer_to_anything_is_in_the_document(guarded: Guarded) -> None:
    ended = run(guarded, "--phases=examples,coverage,fuzzing,stateful", "--max-examples=200")

    assert ended.returncode == 0, ended.stdout[-100_000:] + ended.stderr
