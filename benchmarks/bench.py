"""What a benchmark is. A system is a function `f(turns, options)` that worker.py runs in a process of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Metric:
    """A figure of a turn; `compared` is false where more or less of it is neither better nor worse."""

    unit: str
    higher_is_better: bool = True
    compared: bool = True


def figure(value: float) -> str:
    """Four digits that count."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


@dataclass(frozen=True)
class System:
    """One side of a benchmark.

    Attributes:
        function: `module:function`, imported by the worker.
        needs: modules without which it cannot run; it is then left out, and `remedy` told.
        packages: whose versions stand with the results.
        target: how many times better than this system ours is meant to be, by the first metric.
        targets: the same by others.
    """

    name: str
    function: str
    options: Mapping[str, Any] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    remedy: str = ""
    target: float | None = None
    targets: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Bench:
    """Systems on the same work.

    Attributes:
        metrics: by name; the first, which every turn gives, is the one that a `target` is about.
        ours: the system that the others are compared with; None where there is nothing to compare.
        minutes: about how long it takes on two cores.
        prepare: `module:function(folder, options)` that makes, once, what all systems read.
        agree: a figure that must be the same for all systems (a hash of what they wrote).
        long: run only when it is named.
        repeats: turns of each system, unless others are asked for.
        blocked: why it cannot be run here, where that is known before (a text that was not given).
    """

    name: str
    about: str
    metrics: Mapping[str, Metric]
    systems: tuple[System, ...]
    minutes: float
    ours: str | None = "tilth"
    prepare: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    agree: str | None = None
    blocked: str | None = None
    long: bool = False
    repeats: int = 5

    def __post_init__(self) -> None:
        names = [system.name for system in self.systems]
        assert len(set(names)) == len(names) and (self.ours is None or self.ours in names), self.name
