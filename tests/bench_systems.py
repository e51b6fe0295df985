"""Systems of the benchmarks' tests: each notes its turns in a file that all of them share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.worker import Pace, Turns


def note(options: dict[str, Any], word: str) -> None:
    with (Path(options["folder"]) / "order.txt").open("a") as file:
        file.write(word + "\n")


def steady(turns: Turns, options: dict[str, Any]) -> None:
    """Gives the figures it was told, and talks meanwhile, as libraries do."""
    print("loading")
    turns.ready(kind=options["name"])
    while turns.wait():
        print("working")
        note(options, options["name"])
        turns.give(**options["figures"])


def dies(turns: Turns, options: dict[str, Any]) -> None:
    """In its second turn."""
    turns.ready()
    turns.wait()
    turns.give(speed=1.0)
    turns.wait()
    raise RuntimeError("the second turn was too much")


def steps(turns: Turns, options: dict[str, Any]) -> None:
    """A loop that is paced: notes every step."""
    pace = Pace(turns, options["warm"], options["count"], lambda seconds: {"speed": 1.0 if seconds > 0 else 0.0})
    more = True
    while more:
        note(options, options["name"])
        more = pace.more()
    note(options, "over")


def threads(turns: Turns, options: dict[str, Any]) -> None:
    """How many threads it may use."""
    import os

    turns.ready()
    while turns.wait():
        turns.give(speed=float(os.environ["OMP_NUM_THREADS"]))


def prepare(folder: str, options: dict[str, Any]) -> None:
    if options.get("broken"):
        raise ValueError("there is nothing to prepare")
    (Path(folder) / "order.txt").write_text("prepared\n")
