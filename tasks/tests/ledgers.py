"""A worker's ledger, without the worker around it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.db import connections

from tasks import postgres
from tasks.models.task import database
from tasks.tests.rows import claimant
from tasks.worker.ledger import Ledger


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    """On a connection as a worker's on PostgreSQL."""
    connection = connections[database()]
    before = dict(connection.settings_dict["OPTIONS"])
    postgres.keep_plans(database())
    connection.close()
    yield Ledger(claimant(handlers=["fault.noop"]))
    connection.settings_dict["OPTIONS"] = before
    connection.close()
