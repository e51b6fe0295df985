"""How far long work is, in words: of a stretch that is measured, and of tasks that run.

meter_line(meter, now)      `downloading    https://…: 12.0 MB of 34.0 MB, 3.00 MB/s, 0:04, 0:07 to go`
Under(running)              what the tasks that run add to the line of their stage
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tilth.cli.tables import count, duration, plural, printable, size
from tilth.core.progress import Meter, Running

_LEAST = 0.1
"""Seconds from which on a rate says something."""


def meter_line(meter: Meter, now: float) -> str:
    """A stretch of work in one line."""
    passed = (now if meter.ended is None else meter.ended) - meter.started
    fresh = max(meter.done - meter.before, 0)
    parts = [f"{printable(meter.name)}: {_done(meter)}"]
    if meter.unit != "byte" and meter.size:
        parts.append(size(meter.size))
    if fresh and passed >= _LEAST:
        rate = fresh / passed
        parts.append(f"{size(rate)}/s" if meter.unit == "byte" else f"{rate:.3g} {meter.unit}s/s")
    parts.append(duration(passed))
    if fresh and meter.ended is None and meter.total > meter.done:
        parts.append(f"{duration(passed / fresh * (meter.total - meter.done))} to go")
    trouble = f"; {printable(meter.trouble)}" if meter.trouble and meter.ended is None else ""
    return f"{meter.what:<14} {', '.join(parts)}{trouble}"


def _done(meter: Meter) -> str:
    of = meter.total if meter.ended is None and meter.total > meter.done else 0
    if meter.unit == "byte":
        return size(meter.done) + (f" of {size(of)}" if of else "")
    return f"{count(meter.done)} of {plural(of, meter.unit)}" if of else plural(meter.done, meter.unit)


@dataclass(frozen=True)
class Under:
    """Tasks under way, of one stage."""

    running: Sequence[Running] = ()

    @property
    def tasks(self) -> float:
        """As how many tasks done they count."""
        return sum(one.share * one.tasks for one in self.running)

    @property
    def read(self) -> int:
        """Bytes that they have read."""
        return sum(one.done for one in self.running)
