"""Who is in the midst of a run, by what the handlers have written down so far."""

from __future__ import annotations

from pathlib import Path

from bench.chaos import NOTES


class Notebook:
    def __init__(self, folder: Path) -> None:
        self._path = folder / NOTES
        self._read = 0
        self._running: dict[int, float] = {}

    def running(self) -> dict[int, float]:
        """The pids of executors, and since when (monotonic) each is in its run; also of dead ones."""
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._read)
                text = file.read()
            whole = text[: text.rfind(b"\n") + 1]
            self._read += len(whole)
            for line in whole.decode().splitlines():
                self._take(line.split())
        return self._running

    def _take(self, words: list[str]) -> None:
        kind, at, _, _, _, pid, *_ = words
        if kind == "start":
            self._running[int(pid)] = float(at)
        elif kind in ("end", "interrupted"):
            self._running.pop(int(pid), None)
