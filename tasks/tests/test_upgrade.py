"""The next release joins while the one before works: on one database, with the tables of the new one."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tasks.tests.databases import rows
from tasks.tests.releases import HERE, Clients, Release, earlier
from tasks.tests.service import where
from tasks.tests.workers import wait_until

__all__ = ["where"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SOME = 100  # tasks, between one step and the next


@pytest.mark.parametrize("changes", [1, 5], ids=["the last change", "the last five changes"])
def test_migrating_and_joining_while_the_release_before_works_loses_and_refuses_nothing(
    changes: int, tmp_path: Path, where: dict[str, str]
) -> None:
    old = Release(earlier(changes, tmp_path / "earlier"), where, tmp_path / "old.log")
    new = Release(HERE, where, tmp_path / "new.log")
    clients = Clients()

    with ExitStack() as running:
        before = running.enter_context(old.served())
        with clients.at_work(before):
            clients.wait_for(SOME)
            begun = time.monotonic()
            new.manage("migrate", "--verbosity", "0")
            migrated = time.monotonic()
            old.manage("migrate", "--check")  # it could be started again, too
            clients.wait_for(SOME)  # the old code, on the new tables
            after = running.enter_context(new.served())
            clients.join(after)
            clients.wait_for(SOME)
            clients.leave(before)
            assert before.stop() == 0
            clients.wait_for(SOME)
        wait_until(lambda: statuses(where, clients.made) == {"completed"}, "all that was made is completed")

    refused = [answer for answer in clients.answers if answer.status not in (200, 201)]
    assert not [answer for answer in refused if answer.status != 503]
    assert all(begun <= answer.at <= migrated + 1 for answer in refused)
    assert statuses(where, clients.cancelled) == {"cancelled"}
    assert "Traceback" not in old.log.read_text() + new.log.read_text()


def statuses(where: dict[str, str], ids: list[str]) -> set[str]:
    """Of all that clients were told is made."""
    found = {str(id_).replace("-", ""): status for id_, status in rows(where, "SELECT id, status FROM tasks")}
    return {found.get(id_.replace("-", ""), "lost") for id_ in ids}
