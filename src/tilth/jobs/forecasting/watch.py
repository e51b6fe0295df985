"""What the steps of a run take, in truth, beside what was foretold.

Watch                      takes their time as they are recorded
own_pace(steps)            by those that are done, what those to come will take
misjudged(taken)           whether the machine is not what its calibration says
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any

from tilth.core.rundir import Event, StepRecord
from tilth.jobs.forecasting.forecast_run import RunForecast

LONG = 20.0
"""Seconds of steps from which on a run says something of the machine."""
_LATEST = 50
_FEWEST = 5


def own_pace(steps: Sequence[StepRecord]) -> float | None:
    """Seconds of a step by the latest records of a run; None where they are too few to tell."""
    latest = [step.seconds for step in steps[-_LATEST:]]
    return statistics.median(latest) if len(latest) >= _FEWEST else None


class Watch:
    """Takes the time of the steps that are recorded; the first one, in which much is made ready, is left out.

    Args:
        record: is given every event.
    """

    def __init__(self, record: Callable[[Event], None]) -> None:
        self._record = record
        self._steps, self._seconds = 0, 0.0

    def __call__(self, event: Event) -> None:
        """Takes the time of a step; every event goes on to `record`."""
        if isinstance(event, StepRecord):
            self._seconds += event.seconds if self._steps else 0.0
            self._steps += 1
        self._record(event)

    def against(self, forecast: RunForecast, peak: int, price: float | None) -> dict[str, Any]:
        """The forecast, and beside it what was: `actual`. All is of this sitting.

        Args:
            peak: bytes at the most.
        """
        step = self._seconds / (self._steps - 1) if self._steps > 1 else None
        seconds = None if step is None else step * self._steps
        cost = None if price is None or seconds is None else round(price * seconds / 3600, 2)
        actual = {
            "memory": peak,
            "step_seconds": None if step is None else float(f"{step:.4g}"),
            "seconds": None if seconds is None else round(seconds, 1),
            "cost": cost,
        }
        return {**forecast.plain(), "actual": actual}


def misjudged(taken: dict[str, Any]) -> bool:
    """Whether the steps of a run that lasted took less than half, or more than double of what was said: the calibration
    is then not to be trusted.
    """
    actual = taken["actual"]
    lasted = actual["seconds"] is not None and actual["seconds"] >= LONG
    return lasted and not 0.5 <= taken["step_seconds"] / actual["step_seconds"] <= 2
