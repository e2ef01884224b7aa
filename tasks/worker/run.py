"""Puts a worker together and lets it run: what ``manage.py runworkers`` calls."""

from __future__ import annotations

import logging
import os
import selectors
import socket
import sys
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from django.db import connections
from setproctitle import setproctitle

from tasks import bell, ids, lifecycle, postgres, redis_bell, registry, totals
from tasks.conf import Config
from tasks.contract import Claimant
from tasks.logs import event
from tasks.models import Worker
from tasks.models.task import database
from tasks.sqlite import bugs
from tasks.sqlite.base import DatabaseWrapper
from tasks.version import code_version
from tasks.worker.crew import Crew
from tasks.worker.dispatcher import Dispatcher, Plan
from tasks.worker.duties import Duties
from tasks.worker.executor import Limits
from tasks.worker.ledger import Ledger
from tasks.worker.lines import Line, PostgresLine, RedisLine
from tasks.worker.listener import Listener
from tasks.worker.lock import WorkerLock, place_of_locks
from tasks.worker.pool import Pool
from tasks.worker.report import Report
from tasks.worker.stop import StopSignals
from tasks.worker.vitals import Vitals
from tasks.worker.wakeup import Bell, Rings

logger = logging.getLogger("tasks.dispatcher")

# Loop and ledger share one GIL: with Python's 5 ms a ledger that comes back from the database would
# wait that long for its next step.
SWITCH_SECONDS = 0.0005


def run(config: Config, *, executors: int, queues: Sequence[str] | None) -> int:
    """Run a worker until a signal stops it. Returns the exit code."""
    sys.setswitchinterval(SWITCH_SECONDS)
    signals = StopSignals()
    signals.install()
    claimant = Claimant(
        worker_id=ids.new_worker_id(),
        handlers=registry.known(),
        queues=tuple(queues) if queues else None,
        lease_for=config.lease_for,
    )
    setproctitle(f"taskservice: dispatcher {claimant.worker_id}")
    place = place_of_locks(database())
    lock = WorkerLock(place, claimant.worker_id, executors=executors) if place else None
    ledger, report, vitals = Ledger(claimant), Report(), Vitals()
    vitals.measure()
    writer = totals.Writer(vitals.measure)
    dispatcher = _dispatcher(config, executors, ledger, report, lock, signals, vitals)
    _tell_start(claimant, executors)
    connections.close_all()  # the threads open their own
    ledger.start()
    writer.start()
    exit_code = 1
    try:
        exit_code = dispatcher.run()
    finally:
        _close(dispatcher, ledger, writer, lock, clean=exit_code == 0)
    event(logger, logging.INFO, "worker.stopped", exit_code=exit_code, **report.total())
    return exit_code


def _dispatcher(
    config: Config,
    executors: int,
    ledger: Ledger,
    report: Report,
    lock: WorkerLock | None,
    signals: StopSignals,
    vitals: Vitals,
) -> Dispatcher:
    selector = selectors.DefaultSelector()
    lease_for = config.lease_for if postgres.is_postgres(database()) else None
    pool = Pool(
        limits=Limits(config.max_result_bytes, waiting_seconds=config.lease_for.total_seconds() / 2),
        recycle_after_tasks=config.recycle_after_tasks,
        lock=lock,
    )
    return Dispatcher(
        Plan(executors=executors, grace=config.grace, lease_for=lease_for),
        selector=selector,
        crew=Crew(pool, selector, recycle_above_mb=config.recycle_above_mb, vitals=vitals),
        ledger=ledger,
        duties=Duties(ledger.claimant, _presence(ledger.claimant, executors), lock, vitals).table(),
        bell=_bell(config),
        signals=signals,
        report=report,
        vitals=vitals,
    )


def _tell_start(claimant: Claimant, executors: int) -> None:
    if database_path():
        bugs.tell()
    queues = None if claimant.queues is None else ",".join(claimant.queues)
    event(
        logger,
        logging.INFO,
        "worker.started",
        worker_id=claimant.worker_id,
        executors=executors,
        queues=queues,
    )


def _close(
    dispatcher: Dispatcher, ledger: Ledger, writer: totals.Writer, lock: WorkerLock | None, *, clean: bool
) -> None:
    """End the executors, and say goodbye in the database if it answers."""
    dispatcher.close()
    ledger.submit(lambda: lifecycle.absent(ledger.claimant.worker_id), lambda *_: None)
    writer.stop()
    deadline = time.monotonic() + totals.LAST_SECONDS  # for both: where the database is stuck, both are
    ledger.close()
    writer.close(max(0.0, deadline - time.monotonic()))
    if lock is not None:
        if clean:
            lock.remove()
        lock.close()


def database_path() -> str:
    """The SQLite file that the queue lives in; empty when it is elsewhere."""
    connection = connections[database()]
    return connection.path if isinstance(connection, DatabaseWrapper) else ""


def _bell(config: Config) -> Rings | None:
    if postgres.is_postgres(database()):
        return Listener(partial(_line, config))
    path = database_path()
    try:
        return Bell(path + bell.BELL) if path else None
    except OSError as error:  # a file system without FIFOs: the ledger looks by itself
        event(logger, logging.WARNING, "bell.missing", error=str(error))
        return None


def _line(config: Config) -> Line:
    if redis_bell.is_chosen(config):
        return RedisLine(redis_bell.client(config.redis_url), redis_bell.channel(database()))
    return PostgresLine(partial(_listening, config.listen_url))


def _listening(url: str) -> Any:
    """A connection of its own, which no pool and no transaction has a say in."""
    import psycopg  # costs memory, for nothing on SQLite

    # not by Django's wrapper, whose errors are others than the driver's
    given = {"conninfo": url, **postgres.LIMITS} if url else connections[database()].get_connection_params()
    connection = psycopg.connect(**given, autocommit=True)
    postgres.give_up_after(connection, lambda: postgres.STATEMENT_SECONDS)
    return connection


def _presence(claimant: Claimant, executors: int) -> Worker:
    return Worker(
        id=claimant.worker_id,
        host=socket.gethostname(),
        pid=os.getpid(),
        executors=executors,
        queues=None if claimant.queues is None else list(claimant.queues),
        handlers=list(claimant.handlers),
        version=code_version(),
    )
