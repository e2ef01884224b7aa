"""Which failures are the same: of one handler, with one type of error, from one place in its code. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from hashlib import sha256
from typing import NamedTuple

from tasks.storable import storable_text

FINGERPRINT_CHARS = 16
FRAME_CHARS = 255

_SERVICE = __name__.partition(".")[0]
_LIBRARY = re.compile(r"^<frozen |/(site|dist)-packages/|/lib(64)?/python3\.\d+/")


class Frame(NamedTuple):
    """Of a traceback, without its line: that moves with every edit above it."""

    module: str
    path: str
    function: str  # as it is called in its module: "Basket.pay"


@lru_cache(maxsize=1024)
def fingerprint(handler: str, error_type: str, frame: str) -> str:
    text = "\0".join((handler, error_type, frame))
    return sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:FINGERPRINT_CHARS]


def own_frame(frames: Iterable[Frame], *, home: str) -> str:
    """The deepest frame of the handler's project: ``shop.billing.Basket.pay``; empty when there is none.

    ``frames``: the outermost first. ``home``: the module of the handler.
    """
    own = ""
    for frame in frames:
        if _is_own(frame, home):
            own = f"{frame.module}.{frame.function}"
    return storable_text(own)[:FRAME_CHARS]


def _is_own(frame: Frame, home: str) -> bool:
    """Wherever the handler's package is installed; of the service itself no more than its handlers."""
    package, homes = frame.module.partition(".")[0], home.partition(".")[0]
    if package == _SERVICE:
        return frame.module == home
    return package == homes or not is_library(frame.path)


def is_library(path: str) -> bool:
    """Whether a file is of Python's own library, or of a package that was installed into it."""
    return _LIBRARY.search(path) is not None
