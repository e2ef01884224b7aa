"""What must hold, whatever was done to the service: each rule yields its cases, and what is wrong."""

from __future__ import annotations

from bench.chaos.rules import budgets, keeping, processes, running, steering
from bench.chaos.rules.case import Case, Rule, name_of

RULES: tuple[Rule, ...] = (
    *keeping.RULES,
    *running.RULES,
    *budgets.RULES,
    *steering.RULES,
    *processes.RULES,
)
NAMES = tuple(map(name_of, RULES))

__all__ = ["NAMES", "RULES", "Case", "Rule", "name_of"]
