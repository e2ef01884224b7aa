"""Identifiers."""

from __future__ import annotations

import os
import time
from uuid import RFC_4122, UUID

from tasks import ids


def test_a_task_id_is_a_uuid_of_version_7() -> None:
    made = ids.new_task_id()

    assert type(made) is UUID
    assert made.version == 7
    assert made.variant == RFC_4122


def test_task_ids_sort_by_creation_as_ids_and_as_the_text_that_sqlite_keeps() -> None:
    made = [ids.new_task_id() for _ in range(10_000)]

    assert made == sorted(made)
    assert len(set(made)) == len(made)
    assert [id_.hex for id_ in made] == sorted(id_.hex for id_ in made)


def test_a_task_id_begins_with_the_present_millisecond() -> None:
    before = time.time_ns() // 1_000_000
    made = ids.new_task_id()
    after = time.time_ns() // 1_000_000

    assert before <= made.int >> 80 <= after + 1  # a burst may run ahead of the clock


def test_a_worker_id_names_the_process_and_is_never_used_twice() -> None:
    one, other = ids.new_worker_id(), ids.new_worker_id()

    assert one != other
    assert one.rsplit(":", 2)[1] == str(os.getpid())
    assert len(one) <= 128
