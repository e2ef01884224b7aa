"""What the threads of a process tell one another of a server that does not answer."""

from __future__ import annotations

import math
import threading
import time
from collections import defaultdict

AGAIN_SECONDS = 0.5  # after somebody has asked in vain
ASKING_SECONDS = 10.0  # that one who asks is waited for, should it never say what it heard
LATELY_SECONDS = 60.0
SILENT_SECONDS = 1.0  # a refusal comes sooner


class Silence:
    """While the server is silent one thread at a time tries to connect; the others need not wait to know.

    Else each request of an outage would hold a thread for as long as a connection may take.
    """

    def __init__(self) -> None:
        self.known = False
        self._lock = threading.Lock()
        self._ask_at = 0.0  # monotonic
        self._began_at = -math.inf

    def was_lately(self) -> bool:
        return time.monotonic() - self._began_at < LATELY_SECONDS

    def may_ask(self) -> bool:
        """Whoever hears yes says afterwards what came of it."""
        with self._lock:
            now = time.monotonic()
            if self.known and now < self._ask_at:
                return False
            if self.known:
                self._ask_at = now + ASKING_SECONDS
            return True

    def begins(self) -> None:
        with self._lock:
            self.known = True
            self._began_at = time.monotonic()
            self._ask_at = self._began_at + AGAIN_SECONDS

    def ends(self) -> None:
        with self._lock:
            self.known = False


silences: dict[str, Silence] = defaultdict(Silence)  # for each alias
