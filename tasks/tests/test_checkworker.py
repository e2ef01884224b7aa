"""``manage.py checkworker``: the health check of a container with workers."""

from __future__ import annotations

import socket
from datetime import timedelta

import pytest
from django.core.management import call_command

from tasks import clock
from tasks.lifecycle.workers import ALIVE_FOR, SEEN_EVERY
from tasks.models import Worker
from tasks.models.task import database


def check_after(silence: timedelta, host: str) -> object:
    seen = clock.now(database()) - silence
    Worker.objects.create(id="host:1:one", host=host, pid=1, executors=1, started_at=seen, last_seen_at=seen)
    with pytest.raises(SystemExit) as ended:
        call_command("checkworker")
    return ended.value.code


@pytest.mark.django_db
def test_a_worker_lives_as_long_as_others_count_on_it() -> None:
    assert check_after(SEEN_EVERY + timedelta(seconds=1), socket.gethostname()) == 0


@pytest.mark.django_db
def test_one_that_was_not_seen_for_longer_does_not() -> None:
    assert check_after(ALIVE_FOR + timedelta(seconds=1), socket.gethostname()) == 1


@pytest.mark.django_db
def test_another_hosts_worker_does_not_count() -> None:
    assert check_after(timedelta(0), "elsewhere") == 1
