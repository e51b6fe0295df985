"""How far long work is: counts that the work raises and nobody waits for, and a board on which they are seen.

    board = Board()                        whoever watches has one, and looks at it when it likes
    with board.watching(folder): …         within, work is counted
    with measured("crawl", name, "page") as meter: meter.add(1, size)      work of this process, one stretch of it
    advance(n)  expect(n)  reach(n)        of what is under way: bytes more, bytes in all, bytes so far
    with counted(folder, name): …          a task, wherever it runs: its counts stand in a small file of `folder`

A variable of the context says what is under way, and not an argument: it would go through a dozen functions of which
none looks at it. Where nobody watches, counting is adding a number.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import struct
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Unit = Literal["byte", "page", "record", "request", "file"]
FOLDER = "progress"
_EVERY = 0.5
"""Seconds between two looks of a task at its file."""
_COUNTS = struct.Struct("<qqq")  # done, total (0: not known), tasks


@dataclass
class Meter:
    """The counts of one stretch of work.

    Attributes:
        what, name: what is done, and with what.
        unit: what is counted; bytes are counted beside pages and requests.
        total: how many there are in all; 0 or less: not known.
        before: how many of them were there at the start, which say nothing about the rate.
        trouble: why nothing comes of it at present, in words; told also where nothing has come yet.
    """

    what: str = ""
    name: str = ""
    unit: Unit = "byte"
    total: int = 0
    before: int = 0
    done: int = 0
    size: int = 0
    started: float = field(default_factory=time.monotonic)
    ended: float | None = None
    trouble: str = ""

    @property
    def tells(self) -> bool:
        """Whether there is something to say of it."""
        return self.done > self.before or (self.ended is None and bool(self.trouble))

    def add(self, number: int, size: int = 0) -> None:
        """So many more, of so many bytes."""
        self.done += number
        self.size += size

    def had(self, number: int) -> None:
        """So many more, which earlier work left."""
        self.done += number
        self.before += number


class _Filed(Meter):
    """A task's counts, in a file. It is lost at no cost: nothing of it is synced, and what the disk refuses is not
    written.
    """

    def __init__(self, path: Path, tasks: int) -> None:
        super().__init__()
        self._path, self._tasks, self._said = path, tasks, 0.0
        self.write()

    def add(self, number: int, size: int = 0) -> None:
        super().add(number, size)
        if time.monotonic() - self._said >= _EVERY:
            self.write()

    def write(self) -> None:
        self._said = time.monotonic()
        with contextlib.suppress(OSError):
            self._path.write_bytes(_COUNTS.pack(self.done, self.total, self._tasks))


@dataclass(frozen=True, slots=True)
class Running:
    """A task under way (a chain of so many): its kind, bytes read and to be read (0 or less: not known)."""

    kind: str
    done: int
    total: int
    tasks: int

    @property
    def share(self) -> float:
        """How much of it is done."""
        return min(self.done / self.total, 1.0) if self.total > 0 else 0.0


class Board:
    """What is under way."""

    def __init__(self) -> None:
        self.meters: list[Meter] = []
        self.planned: Counter[str] = Counter()
        """How many tasks there are of each kind, of those that run at present."""
        self._folder: Path | None = None

    def running(self) -> list[Running]:
        """The tasks that run, on any machine that sees the folder."""
        found = []
        for path in sorted(self._folder.iterdir()) if self._folder and self._folder.is_dir() else ():
            with contextlib.suppress(OSError, struct.error):  # it ended, or is being written
                found.append(Running(path.name.partition("-")[0], *_COUNTS.unpack(path.read_bytes())))
        return found

    @contextlib.contextmanager
    def watching(self, workspace: Path) -> Iterator[None]:
        """Lets all work within be counted here."""
        folder = workspace / FOLDER
        shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True)
        self._folder, token = folder, _BOARD.set(self)
        try:
            yield
        finally:
            _BOARD.reset(token)
            shutil.rmtree(folder, ignore_errors=True)


_BOARD: ContextVar[Board | None] = ContextVar("_BOARD", default=None)
_METER: ContextVar[Meter | None] = ContextVar("_METER", default=None)


@contextlib.contextmanager
def measured(what: str, name: str, unit: Unit = "byte", total: int = 0) -> Iterator[Meter]:
    """A stretch of work in this process; what it counts within stands on the board."""
    meter, board = Meter(what, name, unit, total), _BOARD.get()
    if board is not None:
        board.meters.append(meter)
    with _under_way(meter):
        try:
            yield meter
        finally:
            meter.ended = time.monotonic()


@contextlib.contextmanager
def counted(workspace: Path, name: str, tasks: int = 1) -> Iterator[None]:
    """A task (a chain of so many), whose counts stand in a file of the workspace where someone watches it."""
    folder = workspace / FOLDER
    if not folder.is_dir():
        yield
        return
    path = folder / f"{name}-{os.getpid()}"
    with _under_way(_Filed(path, tasks)):
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                path.unlink()


@contextlib.contextmanager
def _under_way(meter: Meter) -> Iterator[None]:
    token = _METER.set(meter)
    try:
        yield
    finally:
        _METER.reset(token)


def plan(tasks: Mapping[str, int]) -> None:
    """Says how many tasks there are of each kind."""
    if (board := _BOARD.get()) is not None:
        board.planned = Counter(tasks)


def advance(size: int) -> None:
    """So many bytes more."""
    if (meter := _METER.get()) is not None:
        meter.add(size if meter.unit == "byte" else 0, size)


def reach(size: int) -> None:
    """So many bytes in all so far, however they were counted before."""
    if (meter := _METER.get()) is not None and meter.unit == "byte":
        meter.add(size - meter.done, size - meter.size)


def had(size: int) -> None:
    """So many bytes were here before."""
    if (meter := _METER.get()) is not None and meter.unit == "byte":
        meter.had(size)


def expect(total: int) -> None:
    """So many bytes in all (-1: nobody knows); where bytes are not what is counted, that says nothing."""
    if (meter := _METER.get()) is not None and meter.unit == "byte":
        meter.total = total


def expected() -> bool:
    """Whether it is known how much there is, or nobody counts."""
    return (meter := _METER.get()) is None or meter.total != 0
