"""What an executor's handlers have made and moved, on its way to the dispatcher, which writes it down.

One entry for each thing that is counted, not for each task: a handler may cancel a million of them.
"""

from __future__ import annotations

from typing import Any

from tasks import limits, states, tally
from tasks.storable import storable_text
from tasks.tally import Cell, Tally
from tasks.worker.wire import BrokenWire

MOST = 10_000  # entries of one message: queues are bounded where they are counted, and handlers are code
QUEUE_CHARS = 64
_MOVES = frozenset({states.CANCEL.name, states.EXPIRE.name})


def take(gathered: Tally) -> list[list[Any]]:
    """For the wire. What else a handler's process may count is nobody's affair but its own."""
    if gathered.empty:  # what nearly always holds
        return []
    taken = gathered.take()
    return [[*cell, int(count)] for cell, count in taken.items() if _is_known(cell)][:MOST]


def read(entries: Any) -> dict[Cell, float]:
    """Checked: what a database refuses would keep all later counts from being written. Raises BrokenWire."""
    if not isinstance(entries, list) or len(entries) > MOST:
        raise BrokenWire("counts that are no list, or too many")
    counts: dict[Cell, float] = {}
    for entry in entries:
        cell, count = _entry(entry)
        counts[cell] = counts.get(cell, 0) + count
    return counts


def _entry(entry: Any) -> tuple[Cell, int]:
    match entry:
        case [str(name), str(queue), str(handler), str(detail), str(transition), int(count)]:
            cell = Cell(name, queue, handler, detail, transition)
            if 0 < count < 2**31 and count is not True and _is_known(cell):
                return cell, count
    raise BrokenWire("a count of what nobody counts")


def _is_known(cell: Cell) -> bool:
    """Asked on both sides, so that an executor that means well sends nothing that is refused."""
    if cell.detail or not _fits(cell.queue, QUEUE_CHARS):
        return False
    if cell.name == tally.CREATED:
        return cell.transition == "" and _fits(cell.handler, limits.HANDLER_CHARS)
    return cell.name == tally.MOVED and cell.handler == "" and cell.transition in _MOVES


def _fits(text: str, chars: int) -> bool:
    return 0 < len(text) <= chars and storable_text(text) == text
