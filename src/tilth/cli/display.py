"""What one sees while a model trains: a live display on a terminal, plain lines anywhere else.

    TrainDisplay(limits)      display(event) for every event of a run

Events only change numbers; rich's thread draws them a few times a second, so a step costs microseconds. All foreign
text goes through `printable`. `screen.py` knows the two ways of showing, `prepare_display.py` is the same for data
preparation.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from rich.console import Console, ConsoleOptions
from rich.text import Text

from tilth.cli.screen import Clock, Screen
from tilth.cli.tables import (
    LABEL_WIDTH,
    bar,
    brief_count,
    count,
    duration,
    flat,
    grid,
    labelled,
    metrics_line,
    percent,
    plural,
    printable,
    scientific,
    size,
    sparkline,
)
from tilth.core.rundir import CheckpointRecord, EvaluationRecord, Event, Message, SampleRecord, StepRecord

FIRST_STEPS = 3
_TREND = 40  # most characters of a sparkline


@dataclass(frozen=True)
class Limits:
    """How long the run will be, where that is known; the first limit that is reached ends it.

    Attributes:
        total_steps: the last step's number.
        hours: hours of training, over all parts of a run that was resumed.
        seconds_before: how much of them had passed when this process began.
    """

    total_steps: int | None = None
    hours: float | None = None
    seconds_before: float = 0.0


class _Smooth:
    """A mean that becomes a moving one after 20 values, so that the first value does not weigh for long."""

    def __init__(self) -> None:
        self.value, self._seen = 0.0, 0

    def add(self, value: float) -> None:
        if math.isfinite(value):  # the loss of a skipped step may be no number
            self._seen += 1
            self.value += (value - self.value) / min(self._seen, 20)


class _Trend:
    """The recent half or more of a series, however long it gets, in a bounded list."""

    def __init__(self) -> None:
        self.values: list[float] = []
        self._stride, self._seen = 1, 0

    def add(self, value: float) -> None:
        if self._seen % self._stride == 0:
            self.values.append(value)
            if len(self.values) == 2 * _TREND:
                # A new list, in one assignment: the thread that draws may be reading the old one.
                self.values, self._stride = self.values[::2], self._stride * 2
        self._seen += 1


@dataclass
class _TrainState:
    """The figures of a run as they are now; drawn by rich."""

    limits: Limits
    clock: Clock
    started: float = 0.0
    ended: float | None = None
    first: StepRecord | None = None
    first_at: float = 0.0
    last: StepRecord | None = None
    last_at: float = 0.0
    loss: _Smooth = field(default_factory=_Smooth)
    speed: _Smooth = field(default_factory=_Smooth)
    wait: _Smooth = field(default_factory=_Smooth)
    trend: _Trend = field(default_factory=_Trend)
    validation: EvaluationRecord | None = None
    best: EvaluationRecord | None = None
    checkpoint: tuple[int, float] | None = None
    warnings: tuple[int, int] = (0, 0)  # how many, and the step of the last: its words stand above, whole

    @property
    def now(self) -> float:
        """The time, until the run ends; then that time."""
        return self.clock() if self.ended is None else self.ended

    def take_step(self, record: StepRecord) -> None:
        """Takes a step's figures over."""
        now = self.clock()
        if self.first is None:
            self.first, self.first_at = record, now
        self.last, self.last_at = record, now
        self.loss.add(record.loss)
        self.speed.add(record.tokens_per_second)
        self.wait.add(record.data_wait_seconds / record.seconds if record.seconds else 0.0)
        self.trend.add(self.loss.value)

    def take(self, event: Event) -> None:
        """Takes any other event over."""
        if isinstance(event, EvaluationRecord):
            self.validation = event
            self.best = event if event.best else self.best
        elif isinstance(event, CheckpointRecord):
            self.checkpoint = (event.step, self.clock())
        elif isinstance(event, Message) and event.level != "info":
            self.warnings = (self.warnings[0] + 1, event.step)

    def share(self) -> float | None:
        """How much of the run is done, by the limit that is nearest; None when it is open-ended."""
        shares = []
        if self.limits.total_steps:
            shares.append((self.last.step if self.last else 0) / self.limits.total_steps)
        if self.limits.hours:
            shares.append(self._trained() / (self.limits.hours * 3600))
        return min(1.0, max(shares)) if shares else None

    def eta(self) -> float | None:
        """Seconds to the limit that comes first (less than none when late), evaluations included; None when unknown."""
        left = []
        if self.limits.total_steps and self.last:
            steps = self.limits.total_steps - self.last.step
            left.append(steps * self._step_seconds() - (self.now - self.last_at))
        if self.limits.hours:
            left.append(self.limits.hours * 3600 - self._trained())
        return min(left) if left else None

    def _trained(self) -> float:
        return self.limits.seconds_before + (self.now - self.first_at + self.first.seconds if self.first else 0.0)

    def _step_seconds(self) -> float:
        assert self.first and self.last
        done = self.last.step - self.first.step
        # The first step warms up: its time says little about the others.
        return (self.last_at - self.first_at) / done if done else self.last.seconds

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        for line in self._lines(options.max_width, options.ascii_only):
            line.no_wrap = True
            line.truncate(options.max_width, overflow="ellipsis")
            line.rstrip()
            yield line

    def _lines(self, width: int, ascii_only: bool) -> Iterator[Text]:
        yield self._progress(width, ascii_only)
        if self.last:
            yield self._loss(width, ascii_only)
        yield from self._validation(width)
        yield from grid([*self._cells(), *self._saved()], width)
        warnings, last = self.warnings
        if warnings:
            yield Text(f"{'warnings':<{LABEL_WIDTH}}{warnings}, above; the last at step {count(last)}", "yellow")

    def _loss(self, width: int, ascii_only: bool) -> Text:
        line = labelled("loss", f"{self.loss.value:.4f}  ")
        return line.append(sparkline(self.trend.values, min(_TREND, width - len(line)), ascii_only), "cyan")

    def _progress(self, width: int, ascii_only: bool) -> Text:
        share, step = self.share(), self.last.step if self.last else 0
        total = self.limits.total_steps
        where = f" step {count(step)}" + (f" of {count(total)}" if total else "")
        if share is None:
            return Text.assemble((f"{'running':<{LABEL_WIDTH}}", "bold"), where.strip(), (", open-ended", "dim"))
        room = max(0, width - LABEL_WIDTH - len(where))
        return Text.assemble((f"{percent(share):<{LABEL_WIDTH}}", "bold"), bar(share, room, ascii_only), where)

    def _validation(self, width: int) -> Iterator[Text]:
        if not self.validation:
            return
        line = labelled("validation", self._figures(self.validation, ("loss", "bits_per_byte")))
        best = self._figures(self.best, ("loss",)) if self.best else ""
        if best and len(line) + len(best) + 7 > width:
            yield line
            line = labelled("best", best)
        elif best:
            line.append("  best ", "dim").append(best)
        yield line

    @staticmethod
    def _figures(record: EvaluationRecord, names: Sequence[str]) -> str:
        return f"{metrics_line(record.metrics, names).removeprefix('loss ')}  step {count(record.step)}"

    def _cells(self) -> Iterator[tuple[str, str]]:
        record, eta = self.last, self.eta()
        yield "elapsed", duration(self.now - self.started)
        yield "eta", "-" if self.ended is not None else "unknown" if eta is None else duration(eta)
        if record:
            yield "tokens", brief_count(record.tokens)
            yield "lr", scientific(record.lr)
            yield "grad norm", _norm(record)
            yield "skipped", plural(record.skipped, "step")
            yield "speed", f"{brief_count(self.speed.value)} tok/s"
            yield "MFU", "unknown" if record.mfu is None else percent(record.mfu)
            yield "data wait", percent(self.wait.value)
            yield "memory", size(record.memory_bytes)

    def _saved(self) -> Iterator[tuple[str, str]]:
        if self.checkpoint is None:
            yield "checkpoint", "none yet"
            return
        step, at = self.checkpoint
        yield "checkpoint", f"step {step}"
        yield "saved", f"{duration(self.now - at)} ago"


class TrainDisplay:
    """Shows a run while it goes; `display(event)` for every event, from the thread that trains.

    Args:
        limits: how long the run will be, for percent and ETA.
        console: where to (default: stderr).
        plain: lines only; None: unless the console is a terminal.
        metrics: which metrics the line of an evaluation names (a recipe's `evaluate.metrics`).
        clock: seconds, for tests.
    """

    def __init__(
        self,
        limits: Limits,
        console: Console | None = None,
        plain: bool | None = None,
        metrics: Sequence[str] = ("loss", "perplexity", "bits_per_byte", "accuracy"),
        clock: Clock = time.monotonic,
    ) -> None:
        self._state = _TrainState(limits, clock, started=clock())
        self._screen = Screen(self._state, console, plain)
        self._metrics, self._clock = metrics, clock
        self._steps_said, self._said_step, self._said_at = 0, 0, -math.inf

    def __enter__(self) -> Self:
        self._state.started = self._clock()
        self._screen.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        state = self._state
        state.ended = self._clock()
        if self._screen.plain and state.last and state.last.step != self._said_step:
            self._screen.say(self._step_line(state.last))
        self._screen.stop(leave=state.last is not None)  # where nothing was trained the events have said why

    def __call__(self, event: Event) -> None:
        """Shows an event."""
        if isinstance(event, StepRecord):
            self._state.take_step(event)
            if self._screen.plain and self._is_due():
                self._say_step(event)
            return
        self._state.take(event)
        text = self._line(event)
        if text is not None:
            self._screen.say(text)

    def _is_due(self) -> bool:
        """The first steps, then every 5 seconds, and less often the longer it goes on: once a minute after an hour."""
        elapsed = self._state.last_at - self._state.started
        pause = min(60.0, max(5.0, elapsed / 60))
        return self._steps_said < FIRST_STEPS or self._state.last_at - self._said_at >= pause

    def _say_step(self, record: StepRecord) -> None:
        self._steps_said, self._said_step, self._said_at = self._steps_said + 1, record.step, self._state.last_at
        self._screen.say(self._step_line(record))

    def _step_line(self, record: StepRecord) -> str:
        share, eta, total = self._state.share(), self._state.eta(), self._state.limits.total_steps
        where = f"step {record.step}" + (f"/{total}" if total else "")
        where += "" if share is None else f" {percent(share)}"
        parts = [where, f"loss {record.loss:.4f}", f"lr {scientific(record.lr)}", f"grad {_norm(record)}"]
        parts.append(f"{brief_count(record.tokens_per_second)} tok/s")
        parts += [f"mfu {percent(record.mfu)}"] if record.mfu is not None else []
        parts += [f"skipped {record.skipped}"] if record.skipped else []
        return "  ".join([*parts, f"eta {'unknown' if eta is None else duration(eta)}"])

    def _line(self, event: Event) -> Text | str | None:
        """What an event says; None where the live display says it."""
        where = f"step {event.step}  "
        match event:
            case EvaluationRecord():
                best = "  best" if event.best else ""
                return f"{where}validation  {metrics_line(event.metrics, self._metrics)}{best}"
            case CheckpointRecord():
                return f"{where}checkpoint {printable(event.path)}" if self._screen.plain else None
            case Message():
                style = "" if event.level == "info" else "yellow"
                return Text(f"{where}{flat(event.level)}: {flat(event.text)}", style)
            case SampleRecord():
                said = f"{where}sample{_after(event)}  {printable(event.text)}"
                return said if self._screen.plain else _sample(event)
        return None


def _norm(record: StepRecord) -> str:
    """The gradient's norm; under fp16 a step whose gradient overflowed has none, and was skipped."""
    return "overflow" if record.grad_norm is None else f"{record.grad_norm:.3g}"


def _sample(record: SampleRecord) -> Text:
    """A sample as a block, line feeds as they are."""
    text = Text(f"sample at step {record.step}{_after(record)}", "bold")
    return text.append("\n" + printable(record.text, lines=True) + "\n", "not bold")


def _after(record: SampleRecord) -> str:
    return f" after '{printable(record.prompt)}':" if record.prompt else ""
