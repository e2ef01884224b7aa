"""How many requests may come in a window of time."""

from __future__ import annotations

import re
from dataclasses import dataclass

FORM = "a number of requests in a window, such as 600/min, 100/s or 50/10s (s, min, h), or none"
_UNITS = {"s": 1, "min": 60, "h": 3600}
_TEXT = re.compile(r"(\d{1,9})/(\d{0,4})(s|min|h)")


@dataclass(frozen=True, slots=True)
class Rate:
    limit: int  # 0: no limit
    seconds: int = 1  # of the window

    @classmethod
    def of(cls, text: str) -> Rate:
        """Raises ValueError for what has not the ``FORM``."""
        if text == "none":
            return cls(0)
        found = _TEXT.fullmatch(text)
        if found is None:
            raise ValueError(text)
        rate = cls(int(found[1]), int(found[2] or 1) * _UNITS[found[3]])
        if not (rate.limit and rate.seconds):
            raise ValueError(text)
        return rate
