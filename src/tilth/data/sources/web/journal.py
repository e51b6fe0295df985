"""Lines that survive a kill: what was done, in the order in which it was done.

    journal = Journal(path)
    journal.next()          the next line of an earlier attempt; None when there is none (any more)
    journal.append(event)   on disk when it returns
    journal.hold(event)     on disk with the next one that is appended, or by `flush`

Whoever works from a journal decides in one way only, and takes each step's result from here or, where the earlier
attempt ended, from the world. A line that was cut off by a kill is taken away: its step is done again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tilth.core.errors import IntegrityError
from tilth.core.files import disk

_PIECE = 1 << 16


class Journal:
    """A file of JSON lines; one process at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._held: list[dict[str, Any]] = []
        if path.is_file():
            _cut_torn_end(path)
        self._earlier: Iterator[dict[str, Any]] | None = self._lines() if path.is_file() else None

    def _lines(self) -> Iterator[dict[str, Any]]:
        with self.path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                try:
                    yield json.loads(line)
                except ValueError as error:
                    raise damaged(self.path, f"line {number}: {error}") from None

    def next(self) -> dict[str, Any] | None:
        """The next line of the earlier attempt; None when all were given out."""
        if self._earlier is None:
            return None
        event = next(self._earlier, None)
        if event is None:
            self._earlier = None
        return event

    def hold(self, event: dict[str, Any]) -> None:
        """Keeps a line back: it counts only when a further one is appended."""
        self._held.append(event)

    def append(self, event: dict[str, Any]) -> None:
        """Writes what is held and this line, durably."""
        self._held.append(event)
        self.flush()

    def flush(self) -> None:
        """Writes what is held, durably."""
        if self._held:
            assert self._earlier is None  # else it would stand before what is still to be given out
            text = "".join(json.dumps(event, separators=(",", ":")) + "\n" for event in self._held)
            disk.append(self.path, text.encode())
            disk.sync_file(self.path)
            self._held = []


def damaged(path: Path, why: str) -> IntegrityError:
    """The error for a journal that is not what was written."""
    return IntegrityError(f"{path} is damaged: {why}", f"remove the folder {path.parent} to begin anew")


def _cut_torn_end(path: Path) -> None:
    size = end = path.stat().st_size
    with path.open("rb") as file:
        while end:
            start = max(end - _PIECE, 0)
            file.seek(start)
            at = file.read(end - start).rfind(b"\n")
            if at >= 0:
                end = start + at + 1
                break
            end = start
    if end < size:
        disk.truncate(path, end)
