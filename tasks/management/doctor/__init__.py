"""``tasks doctor``: what is stuck and what is set up wrongly, each with what to do."""

from __future__ import annotations

from tasks.management.doctor.finding import ERROR, WARNING, Finding, examine

__all__ = ["ERROR", "WARNING", "Finding", "examine"]
