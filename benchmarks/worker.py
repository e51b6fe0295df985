"""The process of one system: it gets ready, and does one repeat whenever it is asked.

    python -m benchmarks.worker MODULE:FUNCTION OPTIONS

On standard input comes a line for each turn, its end ends the process; what goes back are JSON lines: first that the
system is ready, then the figures of each turn. Whatever libraries print goes to standard error. Only the standard
library is imported here: a peer may have a Python of its own.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from typing import Any, TextIO


class Turns:
    """The other end of the harness.

    turns.ready()               all is loaded, compiled and warm
    while turns.wait():         False when there are no more turns
        turns.give(...)         the figures of this turn
    """

    def __init__(self, asked: TextIO, answers: TextIO) -> None:
        self._asked, self._answers, self._started = asked, answers, time.perf_counter()

    def ready(self, **facts: Any) -> None:
        """Says that what is done once is done, with facts worth telling."""
        self._say({"ready": True, "warm_up_seconds": time.perf_counter() - self._started, **facts})

    def wait(self) -> bool:
        """Waits for the next turn."""
        return bool(self._asked.readline())

    def give(self, **figures: float | str) -> None:
        """The figures of a turn, by metric."""
        self._say(figures)

    def _say(self, line: dict[str, Any]) -> None:
        self._answers.write(json.dumps(line) + "\n")
        self._answers.flush()


class Pace:
    """Lets so many steps of a loop go by in a turn, be it ours or a library's that calls back after each.

    Args:
        warm: steps before the first turn.
        count: steps of a turn.
        figures: seconds of a turn -> its figures.
    """

    def __init__(self, turns: Turns, warm: int, count: int, figures: Callable[[float], dict[str, float]]) -> None:
        self._turns, self._count, self._figures = turns, count, figures
        self._left, self._started = warm, 0.0

    def more(self) -> bool:
        """To be called after every step; between turns it does not return. False when there are no more turns."""
        self._left -= 1
        if self._left:
            return True
        now = time.perf_counter()
        if self._started:
            self._turns.give(**self._figures(now - self._started))
        else:
            self._turns.ready()
        more = self._turns.wait()
        self._left, self._started = self._count, time.perf_counter()
        return more


def repeat(turns: Turns, work: Callable[[], dict[str, float]], *, warm: bool = True) -> None:
    """A system whose turn is one call."""
    if warm:
        work()
    turns.ready()
    while turns.wait():
        turns.give(**work())


def peak_mib() -> float:
    """The most memory that this process has held (resident), MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def find(name: str) -> Callable[..., Any]:
    """The function of `module:function`."""
    module, _, function = name.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), function)
    return found


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints must not come between the lines
    name, options = sys.argv[1], json.loads(sys.argv[2])
    find(name)(Turns(sys.stdin, answers), options)


if __name__ == "__main__":
    main()
