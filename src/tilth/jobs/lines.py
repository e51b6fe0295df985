"""Plain lines on standard error about a run while it goes: what `tilth.train` writes in a script unless told otherwise.
The command has displays of its own (cli/display.py).

    lines = Lines()
    lines.expect(total_steps)        how long the run will be
    lines(event)                     each event of a run
    lines.done(done, finished, of)   each task of preparing its data
    lines.say(text)                  what else is said on the way
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable

from tilth.core.environment import launched
from tilth.core.rundir import CheckpointRecord, EvaluationRecord, Event, Message, SampleRecord, StepRecord
from tilth.core.tasks import Done
from tilth.core.words import duration

_FIRST_STEPS = 3
_PAUSE = 5.0
"""Seconds between the lines of steps, and of tasks; a hundredth of the run where that is longer, a minute at most."""


class Lines:
    """Events as lines. Under torchrun one process writes them; a stream that is gone ends no run.

    Args:
        clock: seconds, for tests.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._started, self._said_at, self._steps = clock, clock(), 0.0, 0
        self._speaks = launched().rank == 0
        self._total_steps: int | None = None
        self._first: tuple[int, float] | None = None

    def expect(self, total_steps: int | None) -> None:
        """How many steps the run takes at most, for how far it is and how long the rest takes; None: not known."""
        self._total_steps = total_steps

    def __call__(self, event: Event) -> None:
        """Writes an event, of steps the first few and then now and then."""
        if isinstance(event, StepRecord):
            self._first = self._first or (event.step, self._clock())
            if self._steps >= _FIRST_STEPS and not self._is_due():
                return
            self._steps, self._said_at = self._steps + 1, self._clock()
            of = f"/{self._total_steps}" if self._total_steps else ""
            self._write(f"step {event.step}{of}  {_said(event)}{self._rest(event)}")
            return
        self._write(f"step {event.step}  {_said(event)}")

    def done(self, done: Done, finished: int, of: int) -> None:
        """Writes how far a stage is: when it ends, and now and then; nothing of what was there already."""
        if not done.reused and (finished == of or self._is_due()):
            self._said_at = self._clock()
            self._write(f"preparing  {done.task.kind}: {finished:,} of {of:,}")

    def say(self, text: str) -> None:
        """Writes what is said before the run."""
        self._write(text)

    def _rest(self, record: StepRecord) -> str:
        """How long the rest should take, by the steps until now; the first warms up, and says little."""
        if not self._total_steps or self._first is None:
            return ""
        step, at = self._first
        each = (self._clock() - at) / (record.step - step) if record.step > step else record.seconds
        return f"  eta {duration(each * (self._total_steps - record.step))}"

    def _is_due(self) -> bool:
        now = self._clock()
        return now - self._said_at >= min(60.0, max(_PAUSE, (now - self._started) / 100))

    def _write(self, line: str) -> None:
        if self._speaks and sys.stderr is not None:
            with contextlib.suppress(OSError, ValueError):  # nobody reads it any more, or it is closed
                print(_on_one_line(line), file=sys.stderr, flush=True)


def _said(event: Event) -> str:
    match event:
        case StepRecord():
            return f"loss {event.loss:.4f}  lr {event.lr:.2e}  {event.tokens_per_second:,.0f} tokens/s"
        case EvaluationRecord():
            figures = ", ".join(f"{name} {value:.4f}" for name, value in event.metrics.items() if name != "tokens")
            return f"validation  {figures}{'  best' if event.best else ''}"
        case CheckpointRecord():
            return f"checkpoint {event.path}"
        case Message():
            return f"{event.level}: {event.text}"
        case SampleRecord():
            after = f" after {event.prompt!r}:" if event.prompt else ""
            return f"sample{after}  {event.text}"


def _on_one_line(text: str) -> str:
    """What a model writes may hold line feeds, and sequences that a terminal obeys: these are spelled out."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in text)
