"""What was sent and what came back, a line of JSON each, on disk before the next step is taken.

    Store(folder)              reads what is there; a last line that a kill cut off is taken away
    .done                      the numbers that have an answer
    .sent / .failed / .answered
    .fix(path, numbers)        the answers in the order of their numbers, as one file

A line `sent` without a later one of the same number is a request that was under way when the process died: it may have
been paid for, so its bound counts as spent.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tilth.core.errors import IntegrityError
from tilth.core.files import disk, storage_errors, write_file
from tilth.data.sources.synthetic.budget import Tokens

_NAME = "requests.jsonl"


class Store:
    """The record of one synthetic source; for one process at a time, who holds the folder's lock."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / _NAME
        self.spent = Tokens()
        """What was used by all there is a line of, at most."""
        self._places: dict[int, tuple[int, int]] = {}
        self._open: dict[int, Tokens] = {}
        self._end = 0
        with storage_errors(self.path):
            disk.make_folder(folder)
            self._load()

    @property
    def done(self) -> set[int]:
        """The numbers that have an answer."""
        return set(self._places)

    @property
    def first_missing(self) -> int:
        """How many requests, from the first on, all have an answer."""
        return next(number for number in itertools.count() if number not in self._places)

    def _load(self) -> None:
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    break
                try:
                    event = json.loads(line)
                    self._count(event, len(line))
                except (ValueError, KeyError, TypeError) as error:
                    raise IntegrityError(
                        f"{self.path}, line {number}, is not what was written: {error}",
                        "remove that line: its request is sent again",
                    ) from error
        if self._end != self.path.stat().st_size:
            disk.truncate(self.path, self._end)
        for bound in self._open.values():
            self.spent += bound
        self._open.clear()

    def _count(self, event: dict[str, Any], size: int) -> None:
        number, what = int(event["number"]), event["event"]
        if what == "sent":
            if number in self._open:  # its process died, and another one asked again
                self.spent += self._open[number]
            self._open[number] = Tokens(*event["bound"])
        else:
            bound = self._open.pop(number, Tokens())
            self.spent += Tokens(*event["used"]) if event["used"] is not None else bound
            if what == "answer":
                self._places[number] = (self._end, size)
        self._end += size

    def sent(self, number: int, bound: Tokens) -> None:
        """A request is about to be sent, which uses no more than `bound`."""
        self._append({"event": "sent", "number": number, "bound": [bound.input, bound.output], "time": _now()})

    def failed(self, number: int, why: str, used: Tokens | None) -> None:
        """It came to nothing; `used` is None where nobody knows, and its bound is counted."""
        self._append({"event": "failed", "number": number, "why": why, "used": _pair(used), "time": _now()})

    def answered(self, number: int, used: Tokens | None, answer: dict[str, Any]) -> None:
        """It has an answer: the request is never sent again."""
        event = {"event": "answer", "number": number, "used": _pair(used), "time": _now()}
        self._append({**event, **answer})

    def _append(self, event: dict[str, Any]) -> None:
        line = json.dumps(event).encode() + b"\n"  # ASCII: a lone surrogate in an answer stays an escape
        with storage_errors(self.path):
            disk.append(self.path, line)
            disk.sync_file(self.path)
        self._count(event, len(line))

    def fix(self, path: Path, numbers: Iterable[int], extra: dict[str, Any]) -> str:
        """Writes the answers to these requests in their order, a line each; returns the SHA-256 of the file."""
        return write_file(path, self._rows(numbers, extra))

    def _rows(self, numbers: Iterable[int], extra: dict[str, Any]) -> Iterator[bytes]:
        with self.path.open("rb") as file:
            for number in numbers:
                row: dict[str, Any] = {"number": number, "status": None}
                if number in self._places:
                    start, size = self._places[number]
                    file.seek(start)
                    row = json.loads(file.read(size))
                yield json.dumps({**row, **extra}, sort_keys=True).encode() + b"\n"


def _pair(tokens: Tokens | None) -> list[int] | None:
    return None if tokens is None else [tokens.input, tokens.output]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
