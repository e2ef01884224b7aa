"""The database connections of the API's processes: one for each thread, kept between requests."""

from __future__ import annotations

from tasks import postgres
from tasks.conf import config
from tasks.models.task import database

ANSWER_SECONDS = 5.0  # for one statement: the client shall have an answer within 10


def limit_waits() -> None:
    """No request waits for PostgreSQL for longer than its client may have to wait.

    Each thread keeps its connection, which Django tries before the first query of a request. A
    pool instead would let every request of an outage wait for its timeout, and hold a thread
    meanwhile; so a server that is gone is refused at once.
    """
    if postgres.is_postgres(database()):
        postgres.limit_waits(database(), pooler=config().pooler, statement_seconds=ANSWER_SECONDS)
