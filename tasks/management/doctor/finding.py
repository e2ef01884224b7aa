"""What the doctor finds, and in which order it looks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

from django.db import DatabaseError

ERROR, WARNING = "error", "warning"  # something does not work; something may not, or not well


@dataclass(frozen=True, slots=True)
class Finding:
    level: str
    code: str  # for programs
    what: str
    do: str

    def as_json(self) -> dict[str, str]:
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.level.upper():8}{self.code}\n    {self.what}\n    -> {self.do}"


Look = Callable[[], Iterator[Finding]]


def examine() -> list[Finding]:
    """Everything that is found, errors first. Without a usable database only what can be told without one."""
    from tasks.management.doctor import place, setup, work  # they make findings

    found = [*setup.look()]
    try:
        found += place.look()
        if not any(finding.code in place.STOPS for finding in found):
            found += work.look()
    except DatabaseError as error:
        found.append(place.unusable_database(error))
    return sorted(found, key=lambda finding: (finding.level != ERROR, finding.code))
