"""A case of a rule: something that came up, and whether it went as promised."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from bench.chaos.facts import Facts

CLOCK_SECONDS = 0.05  # by which the clock of a row and that of a client may differ
SLACK_SECONDS = 2.5  # of a busy machine, beyond what is promised


class Case(NamedTuple):
    task_id: str = ""  # "" when it is about none
    wrong: str = ""  # "" when it went as it should


Rule = Callable[[Facts], Iterator[Case]]


def name_of(rule: Rule) -> str:
    return rule.__name__.replace("_", "-")
