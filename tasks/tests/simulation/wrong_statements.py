"""The service's own statements, each made wrong in one way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from unittest.mock import patch

from tasks import statements
from tasks.contract import Lease, Outcome
from tasks.decide import Decision, decide
from tasks.lifecycle import settling

Wrong = Callable[[], AbstractContextManager[Any]]


def _text(name: str, right: str, wrong: str) -> Wrong:
    return lambda: patch.object(statements, name, _changed(getattr(statements, name), right, wrong))


def _made(name: str, right: str, wrong: str) -> Wrong:
    """Of a statement that a function makes."""
    make = getattr(statements, name)
    return lambda: patch.object(statements, name, lambda *given: _changed(make(*given), right, wrong))


def _changed(text: str, right: str, wrong: str) -> str:
    assert right in text, f"no {right!r} any more"
    return text.replace(right, wrong)


@contextmanager
def _goes_on_after_a_cancel() -> Iterator[None]:
    def careless(lease: Lease, outcome: Outcome, **given: Any) -> Decision:
        return decide(lease._replace(cancel_requested=False), outcome, **given)

    with patch.object(settling, "decide", careless):
        yield


WRONG: dict[str, Wrong] = {
    "completes without its fence": _text("COMPLETE", "tasks.fence = v.f", "true"),
    "completes what has ended": _text("COMPLETE", "AND tasks.status = 'processing'", ""),
    "counts no attempt": _made("claim", "attempt = attempt + 1", "attempt = attempt + 0"),
    "keeps the fence": _made("claim", "fence = fence + 1", "fence = 1"),
    "claims what has expired": _made("claim", "expires_at > %s", "%s IS NOT NULL"),
    "promotes early": _made("promote", "run_at <= %s", "%s IS NOT NULL"),
    "extends without its fence": _text("EXTEND", "tasks.fence = v.f", "true"),
    "forgets the crashes": _text("SETTLE", "crashes = new_crashes", "crashes = crashes + 0 * new_crashes"),
    "keeps the place of what waits": _text("SETTLE", "waiting_for = new_waiting_for", "waiting_for = NULL"),
    "goes on after a cancel": _goes_on_after_a_cancel,
}
