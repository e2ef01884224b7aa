"""A disk that is full or read-only, a database that is locked, under a real API: 503, and no restart."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tasks.tests.api_server import TASK, Server, api_server
from tasks.tests.disks import fill, read_only, small_disk_at
from tasks.tests.locks import gate, write_lock
from tasks.tests.workers import wait_until

pytestmark = pytest.mark.sqlite

ANSWER_WITHIN = 10.0  # seconds, whatever the disk does
BACK_WITHIN = 5.0
MORE_THAN_THREADS = 12


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk_at(tmp_path / "small", size="8m") as made:
        yield made


@pytest.fixture
def on_disk(disk: Path, tmp_path: Path) -> Iterator[Server]:
    with api_server(tmp_path, {"DB_PATH": str(disk / "tasks.db")}) as server:
        yield server


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder / "tasks.db"


@pytest.fixture
def api(path: Path, tmp_path: Path) -> Iterator[Server]:
    with api_server(tmp_path, {"DB_PATH": str(path)}) as server:
        yield server


class Answer(NamedTuple):
    status: int
    seconds: float
    retry_after: str | None


def post(server: Server) -> Answer:
    since = time.monotonic()
    with closing(server.connect()) as connection:
        connection.request("POST", "/tasks", TASK)
        answer = connection.getresponse()
        answer.read()
        return Answer(answer.status, time.monotonic() - since, answer.headers["Retry-After"])


def post_all(server: Server) -> list[Answer]:
    """More at once than there are threads, so that each of them gets some."""
    with ThreadPoolExecutor(MORE_THAN_THREADS) as pool:
        return list(pool.map(lambda _: post(server), range(MORE_THAN_THREADS)))


def all_made(server: Server) -> bool:
    return {answer.status for answer in post_all(server)} == {201}


def all_refused(server: Server) -> bool:
    """In time, and with a word of when to come again."""
    answers = post_all(server)
    print(f"answered within {max(answer.seconds for answer in answers):.2f} s")
    assert all(answer.seconds < ANSWER_WITHIN for answer in answers)
    refused = [answer for answer in answers if answer.status == 503]
    assert all(int(answer.retry_after or 0) >= 1 for answer in refused)
    return len(refused) == len(answers)


def count(server: Server) -> int:
    status, body = server.ask("GET", "/tasks?count=exact&limit=1")
    assert status == HTTPStatus.OK, body
    return int(json.loads(body)["count"]["value"])


def wait_back(server: Server) -> None:
    try:
        wait_until(lambda: all_made(server), "all threads make tasks", patience=BACK_WITHIN)
    finally:
        print(server.log.read_text())  # shown when the test has failed


# --- full


def test_a_full_disk_takes_no_task_and_all_again_once_there_is_room(on_disk: Server, disk: Path) -> None:
    assert all_made(on_disk)

    fill(disk / "filler")
    wait_until(lambda: all_refused(on_disk), "there is no room left in the WAL either")
    before = count(on_disk)
    assert count(on_disk) == before
    (disk / "filler").unlink()

    wait_back(on_disk)
    assert count(on_disk) > before
    assert "Traceback" not in on_disk.log.read_text()


# --- read-only


def ready(server: Server) -> tuple[int, str]:
    status, body = server.ask("GET", "/readyz")
    told: dict[str, Any] = json.loads(body)
    return status, str(told.get("detail", ""))


def test_a_file_that_turned_read_only_is_told_and_used_again_when_it_can_be_written_to(
    api: Server, path: Path
) -> None:
    assert all_made(api)
    before = count(api)

    with read_only(path, Path(f"{path}-wal")):
        assert all_refused(api)
        status, why = ready(api)
        assert (status, "cannot be written to" in why) == (503, True)
        assert str(path.parent) not in why
        assert count(api) == before

    wait_back(api)
    assert ready(api)[0] == HTTPStatus.OK
    assert "Traceback" not in api.log.read_text()


def test_threads_that_connect_while_it_is_read_only_write_when_it_is_no_more(
    path: Path, tmp_path: Path
) -> None:
    """SQLite opens such a file for reading, and a connection stays so."""
    with api_server(tmp_path, {"DB_PATH": str(path)}) as server:
        with read_only(path):  # no thread of the pool has a connection yet
            assert all_refused(server)
            assert ready(server)[0] == HTTPStatus.SERVICE_UNAVAILABLE

        wait_back(server)
        assert ready(server)[0] == HTTPStatus.OK


def test_a_folder_in_which_nothing_can_be_made_is_told(api: Server, path: Path) -> None:
    with read_only(path.parent):
        status, why = ready(api)

    assert (status, "cannot be written to" in why) == (503, True)
    assert ready(api)[0] == HTTPStatus.OK


# --- locked


@pytest.mark.parametrize("lock", [gate, write_lock])
def test_a_writer_that_stays_is_told_in_time_and_reading_goes_on(
    api: Server, path: Path, lock: Callable[[Path], AbstractContextManager[None]]
) -> None:
    assert all_made(api)
    before = count(api)

    with lock(path):
        assert all_refused(api)
        assert count(api) == before

    wait_back(api)
    assert count(api) > before
