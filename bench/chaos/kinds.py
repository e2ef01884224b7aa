"""The kinds of tasks that are asked for: how often, what they do, and how they may end."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from tasks.backoff import Backoff

HANDLER = "chaos.work"
BACKOFF = Backoff(initial=timedelta(seconds=0.4), factor=2, max=timedelta(seconds=2))  # of that handler
MANY = 100  # attempts: each kill uses one
MEGABYTES = 100  # that make a process slow to die


@dataclass(frozen=True, slots=True)
class Kind:
    """``share``: of a thousand."""

    name: str
    share: int
    seconds: tuple[float, float] = (0.0, 0.0)  # that it takes
    options: tuple[tuple[str, Any], ...] = ()  # of the request
    payload: tuple[tuple[str, Any], ...] = ()

    def body(self, title: str, rng: random.Random) -> dict[str, Any]:
        payload = {"kind": self.name, "seconds": round(rng.uniform(*self.seconds), 3), **dict(self.payload)}
        return {"title": title, "handler": HANDLER, "payload": payload, **dict(self.options)}


KINDS = (
    Kind("quick", 925, (0.0, 0.02)),
    Kind("slow", 25, (0.1, 1.0)),
    Kind("long", 12, (4.5, 7.0), payload=(("megabytes", MEGABYTES),)),  # more than a lease
    Kind("fails", 12, (0.0, 0.05), (("max_attempts", 3),), (("failures", 2),)),
    Kind("hopeless", 8, (0.0, 0.05), (("max_attempts", 2),), (("failures", MANY),)),
    Kind("poison", 4),
    Kind("hang", 4, (60.0, 60.0), (("max_attempts", 2), ("timeout_seconds", 1))),
    Kind("delayed", 10, (0.0, 0.05), (("delay_seconds", 1.5),)),
)
BY_NAME = {kind.name: kind for kind in KINDS}


def any_kind(rng: random.Random) -> Kind:
    return rng.choices(KINDS, [kind.share for kind in KINDS])[0]


def kind_of(title: str) -> str:
    """A title is ``kind-client-number``."""
    return title.partition("-")[0]
