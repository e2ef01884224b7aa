"""The power is cut while clients make tasks and workers run them: what was acknowledged is there."""

from __future__ import annotations

import json
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import psycopg
import pytest

from tasks.tests.databases import rows
from tasks.tests.disks import Disk, disk_in
from tasks.tests.postgres import DURABLE, Postgres, give
from tasks.tests.service import Serve, Service, serve, where
from tasks.tests.workers import lines, wait_until

__all__ = ["serve", "where"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.usefixtures("own_databases")]

POSTGRES = os.environ["TEST_DATABASE"] == "postgres"
CUTS = 3
INDEXES_FIT = """
    SELECT bt_index_check(indexrelid, true) FROM pg_index JOIN pg_am ON amname = 'btree'
    JOIN pg_class ON pg_class.oid = indexrelid AND relam = pg_am.oid WHERE relname LIKE 'task%'
"""
LANES = 4


class Clients:
    """They make tasks over HTTP, one after the other, and write down what they were told."""

    def __init__(self, url: str, ran: Path) -> None:
        self._address = urlsplit(url)
        self.ran = ran
        self._over = threading.Event()
        self.sent: set[str] = set()  # titles
        self.acknowledged: dict[str, str] = {}  # the titles, by the ids
        self.finished: dict[str, dict[str, Any]] = {}  # seen completed, by their ids
        self._lanes = [threading.Thread(target=self._work, args=(lane,)) for lane in range(LANES)]

    def _work(self, lane: int) -> None:
        """Until the service is gone."""
        with suppress(OSError, HTTPException), closing(self._connect()) as connection:
            mine: list[str] = []
            while not self._over.is_set():
                title = f"{self.ran.name}-{lane}-{len(mine)}"
                self.sent.add(title)
                body = {"title": title, "handler": "fault.record", "payload": {"path": str(self.ran)}}
                made = ask(connection, "POST", "/tasks", body)
                self.acknowledged[made["id"]] = title
                mine.append(made["id"])
                seen = ask(connection, "GET", f"/tasks/{mine[len(mine) // 2]}")
                if seen["status"] == "completed":
                    self.finished[seen["id"]] = seen

    def _connect(self) -> HTTPConnection:
        return HTTPConnection(str(self._address.hostname), self._address.port, timeout=10)

    def __enter__(self) -> Clients:
        for lane in self._lanes:
            lane.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        for lane in self._lanes:
            lane.join()


def ask(connection: HTTPConnection, method: str, path: str, body: object = None) -> dict[str, Any]:
    connection.request(method, path, None if body is None else json.dumps(body))
    answer = connection.getresponse()
    told: dict[str, Any] = json.loads(answer.read())
    assert answer.status in (200, 201), told
    return told


@pytest.fixture
def disk() -> Iterator[Disk]:
    """In a folder that PostgreSQL's user may enter."""
    with tempfile.TemporaryDirectory(prefix="taskservice-disk-", dir="/tmp") as folder:
        os.chmod(folder, 0o755)
        with disk_in(Path(folder), size="512M" if POSTGRES else "64M") as made:
            yield made


class OnDisk:
    """The database, all of it on the disk."""

    def __init__(self, disk: Disk, folder: Path) -> None:
        self.where = {"DB_PATH": str(disk.place / "tasks.db")}

    def start(self) -> None:
        pass

    def processes(self) -> list[psutil.Process]:
        return []

    def close(self) -> None:
        pass

    def assert_whole(self) -> None:
        assert rows(self.where, "PRAGMA integrity_check") == [("ok",)]
        assert rows(self.where, "PRAGMA foreign_key_check") == []


class ServerOnDisk(OnDisk):
    def __init__(self, disk: Disk, folder: Path) -> None:
        give(disk.place)
        self._server = Postgres(disk.place, DURABLE)
        disk.flush()  # initdb did not
        self.start()
        self.where = {"DATABASE_URL": self._server.url(), "DB_PATH": str(folder / "tasks.db")}

    def start(self) -> None:
        self._server.start()

    def processes(self) -> list[psutil.Process]:
        server = psutil.Process(self._server.pid)
        return [server, *server.children(recursive=True)]

    def close(self) -> None:
        self._server.stop()

    def assert_whole(self) -> None:
        with psycopg.connect(self.where["DATABASE_URL"], autocommit=True) as connection:
            connection.execute("CREATE EXTENSION IF NOT EXISTS amcheck")
            connection.execute(INDEXES_FIT)  # raises an error where they don't


@pytest.fixture
def database(disk: Disk, tmp_path: Path) -> Iterator[OnDisk]:
    made = (ServerOnDisk if POSTGRES else OnDisk)(disk, tmp_path)
    yield made
    made.close()


def test_what_was_acknowledged_survives_a_power_cut(
    disk: Disk, database: OnDisk, serve: Serve, tmp_path: Path
) -> None:
    """Several in a row, each at any moment under load."""
    told: list[Clients] = []
    service = start(serve, database)
    for number in range(CUTS):
        with Clients(service.url, tmp_path / f"ran-{number}") as clients:
            wait_until(lambda clients=clients: len(clients.finished) > 50, "they work")  # type: ignore[misc]
            time.sleep(0.1 * number)
            disk.cut_power([psutil.Process(service.process.pid), *service.family(), *database.processes()])
        told.append(clients)
        disk.restore_power()
        database.start()
        service = start(serve, database)
        assert_kept(database, told)

    wait_until(lambda: not unfinished(database), "all has been run", patience=60)
    assert_kept(database, told)
    ran = {words[1] for clients in told for words in lines(clients.ran)}
    assert ran >= {task_id for clients in told for task_id in clients.acknowledged}
    assert service.stop() == 0


def start(serve: Serve, database: OnDisk) -> Service:
    """Also its secret key is kept on the disk."""
    return serve("--n", "2", SECRET_KEY="", TASKSERVICE_APPS="tasks.tests.faults", **database.where)


def unfinished(database: OnDisk) -> list[tuple[Any, ...]]:
    return rows(database.where, "SELECT id FROM tasks WHERE status <> 'completed' LIMIT 1")


def assert_kept(database: OnDisk, told: list[Clients]) -> None:
    """Whatever anybody was told is so; and nothing is there that nobody sent."""
    database.assert_whole()
    query = "SELECT id, title, status, attempt FROM tasks"
    found = {str(id_).replace("-", ""): tuple(seen) for id_, *seen in rows(database.where, query)}
    for clients in told:
        for id_, title in clients.acknowledged.items():
            assert found[id_.replace("-", "")][0] == title
        for id_, seen in clients.finished.items():
            assert found[id_.replace("-", "")][1:] == ("completed", seen["attempt"])
    assert {title for title, *_ in found.values()} <= {title for clients in told for title in clients.sent}
