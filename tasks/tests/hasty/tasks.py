"""Loaded by a worker, and so in its executors."""

from __future__ import annotations

from datetime import timedelta

from tasks import operations

operations.TURN_SECONDS = 0.3
operations.REST = timedelta(seconds=0.3)
