"""What one sees while tilth works: a live display on a terminal, plain lines anywhere else.

    TrainDisplay(limits)      display(event) for every event of a run
    PrepareDisplay()          display(done, finished, total) for every task of data preparation: a `tasks.OnDone`

Both are context managers, write to stderr (stdout is for results) and share `_Screen`, which knows the two ways of showing.
`_TrainState` keeps the figures and draws them; events only change numbers, and rich's thread draws a few times a second, so that
a step costs microseconds. All foreign text goes through `printable`. A display never ends a run: when its terminal is gone it is silent.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from rich.console import Console, ConsoleOptions, RenderableType
from rich.live import Live
from rich.text import Text

from tilth.cli.tables import (
    LABEL_WIDTH,
    METRICS,
    bar,
    brief_count,
    count,
    duration,
    flat,
    grid,
    labelled,
    metric_value,
    percent,
    plural,
    printable,
    scientific,
    size,
    sparkline,
)
from tilth.core.rundir import CheckpointRecord, EvaluationRecord, Event, Message, SampleRecord, StepRecord
from tilth.core.tasks import Done

REFRESH_PER_SECOND = 4
"""Drawing holds Python's lock for about a millisecond, which a training loop on a CPU would notice at higher rates."""
FIRST_STEPS = 3
_TREND = 40  # most characters of a sparkline
_STAGES = {
    "collect": "reading",
    "clean": "cleaning",
    "dedup": "deduplicating",
    "tokenizer": "tokenizer",
    "encode": "encoding",
}
_AFTER = {"collect": "cleaning", "dedup": "tokenizer", "tokenizer": "encoding", "encode": "putting together"}

Clock = Callable[[], float]


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


class _Console(Console):
    """stderr. rich would leave by SystemExit when the reader of a pipe is gone; a run outlives whoever watches it."""

    def __init__(self) -> None:
        # FORCE_COLOR makes rich take a file for a terminal: colours may go into a log, cursor movements must not.
        super().__init__(stderr=True, force_interactive=sys.stderr.isatty())

    def on_broken_pipe(self) -> None:
        self.quiet = True


class _Screen:
    """Where lines go: above a live drawing, or one after the other.

    Args:
        plain: lines only; None: unless the console is a terminal that can move its cursor and nobody's CI log.
    """

    def __init__(self, drawing: RenderableType, console: Console | None, plain: bool | None) -> None:
        self.console = console or _Console()
        if plain is None:
            plain = not self.console.is_interactive or bool(os.environ.get("CI"))
        self.plain = plain
        # stdout is left alone: where it is a file, what is printed there must not end on the terminal.
        self._live = None if plain else self._make_live(drawing)

    def _make_live(self, drawing: RenderableType) -> Live:
        return Live(
            drawing,
            console=self.console,
            refresh_per_second=REFRESH_PER_SECOND,
            redirect_stdout=sys.stdout.isatty(),
        )

    def start(self) -> None:
        if self._live:
            self._live.start(refresh=True)

    def stop(self) -> None:
        """Leaves the last state of the drawing where it is."""
        if self._live:
            with suppress(OSError):
                self._live.stop()

    def say(self, text: Text | str) -> None:
        """Puts a line (a block of lines, on a terminal) into the scrollback; a plain one is never broken or cut."""
        try:
            self.console.print(Text(text) if isinstance(text, str) else text, soft_wrap=self.plain)
        except OSError:  # the terminal is gone
            self.console.quiet = True


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
    warnings: list[str] = field(default_factory=list)

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
            self.warnings.append(flat(event.text))

    def share(self) -> float | None:
        """How much of the run is done, by the limit that is nearest; None when it is open-ended."""
        shares = []
        if self.limits.total_steps:
            shares.append((self.last.step if self.last else 0) / self.limits.total_steps)
        if self.limits.hours:
            shares.append(self._trained() / (self.limits.hours * 3600))
        return min(1.0, max(shares)) if shares else None

    def eta(self) -> float | None:
        """Seconds to the limit that comes first, evaluations and checkpoints included; None when unknown."""
        left = []
        if self.limits.total_steps and self.last:
            steps = self.limits.total_steps - self.last.step
            left.append(steps * self._step_seconds() - (self.now - self.last_at))
        if self.limits.hours:
            left.append(self.limits.hours * 3600 - self._trained())
        return max(0.0, min(left)) if left else None

    def _trained(self) -> float:
        return self.limits.seconds_before + (self.now - self.first_at + self.first.seconds if self.first else 0.0)

    def _step_seconds(self) -> float:
        assert self.first and self.last
        done = self.last.step - self.first.step
        # The first step compiles and warms up: its time says little about the others.
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
        if warnings := list(self.warnings):
            yield Text(f"{'warnings':<{LABEL_WIDTH}}{len(warnings)}, the last: {warnings[-1]}", "yellow")

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
        return f"{_metrics(record, names).removeprefix('loss ')}  step {count(record.step)}"

    def _cells(self) -> Iterator[tuple[str, str]]:
        record, eta = self.last, self.eta()
        yield "elapsed", duration(self.now - self.started)
        yield "eta", "-" if self.ended is not None else "unknown" if eta is None else duration(eta)
        if record:
            yield "tokens", brief_count(record.tokens)
            yield "lr", scientific(record.lr)
            yield "grad norm", f"{record.grad_norm:.3g}"
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


def _metrics(record: EvaluationRecord, names: Sequence[str]) -> str:
    shown = (name for name in names if name in record.metrics)
    return "  ".join(f"{METRICS[name][0]} {metric_value(name, record.metrics[name])}" for name in shown)


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
        self._screen = _Screen(self._state, console, plain)
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
        self._screen.stop()

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
        step = (
            f"step {record.step}" + (f"/{total}" if total else "") + (f" {percent(share)}" if share is not None else "")
        )
        parts = [step, f"loss {record.loss:.4f}", f"lr {scientific(record.lr)}", f"grad {record.grad_norm:.3g}"]
        parts.append(f"{brief_count(record.tokens_per_second)} tok/s")
        parts += [f"mfu {percent(record.mfu)}"] if record.mfu is not None else []
        parts += [f"skipped {record.skipped}"] if record.skipped else []
        return "  ".join([*parts, f"eta {'unknown' if eta is None else duration(eta)}"])

    def _line(self, event: Event) -> Text | str | None:
        """What an event says; None where the live display says it."""
        where = f"step {event.step}  "
        match event:
            case EvaluationRecord():
                best = "  best so far" if event.best else ""
                return f"{where}validation  {_metrics(event, self._metrics)}{best}"
            case CheckpointRecord():
                return f"{where}checkpoint {printable(event.path)}" if self._screen.plain else None
            case Message():
                return Text(
                    f"{where}{flat(event.level)}: {flat(event.text)}", "" if event.level == "info" else "yellow"
                )
            case SampleRecord():
                return f"{where}sample  {printable(event.text)}" if self._screen.plain else _sample(event)
        return None


def _sample(record: SampleRecord) -> Text:
    """A sample as a block: the prompt dim, what the model wrote not, line feeds as they are."""
    text = Text(f"sample at step {record.step}", "bold")
    given = record.prompt if record.text.startswith(record.prompt) else ""
    text.append("\n" + printable(given, lines=True), "not bold dim")
    return text.append(printable(record.text[len(given) :], lines=True) + "\n", "not bold")


@dataclass
class _Stage:
    """A stage of data preparation: the tasks that are done, and what their facts add up to."""

    kind: str
    started: float
    total: int = 0
    finished: int = 0
    reused: int = 0
    ended: float | None = None
    facts: Counter[str] = field(default_factory=Counter)
    tokenizer: str = ""

    def take(self, done: Done, finished: int, total: int, now: float) -> None:
        """Takes a task's facts over."""
        self.finished, self.total = finished, total
        self.reused += done.reused
        facts = _facts(done.facts)
        self.facts.update(facts)
        if not done.reused:
            self.facts["new_bytes"] += facts["text_bytes"]
        self.tokenizer = str(done.facts.get("kind_of_tokenizer", ""))
        self.ended = now if finished == total else None

    def line(self, now: float) -> str:
        """The stage in one line: counts, rate, time."""
        passed = (now if self.ended is None else self.ended) - self.started
        parts = [*self._counts()]
        if self.facts["new_bytes"] and passed >= 0.1:
            parts.append(f"{size(self.facts['new_bytes'] / passed)}/s")
        tasks = "" if self.ended is not None else f"{self.finished}/{self.total} "
        again = "done before" if self.reused == self.total else f"{self.reused} of {self.total} done before"
        parts.append(duration(passed) + (f" ({again})" if self.reused else ""))
        return f"{_STAGES.get(self.kind, printable(self.kind)):<14} {tasks}{', '.join(parts)}"

    def _counts(self) -> Iterator[str]:
        facts, dropped = self.facts, self.facts["dropped"]
        if self.kind == "dedup":
            yield f"{plural(dropped, 'document')} dropped"
            return
        if facts["documents"]:
            yield plural(facts["documents"], "document")
        if facts["text_bytes"]:
            yield size(facts["text_bytes"])
        if facts["tokens"]:
            yield plural(facts["tokens"], "token")
        if facts["vocab_size"]:
            yield f"{printable(self.tokenizer)}, {count(facts['vocab_size'])} ids"
        if dropped:
            yield f"{count(dropped)} dropped"


def _facts(facts: dict[str, Any]) -> Counter[str]:
    """The sums over a task's facts, which stand in its parts (collect), its splits (encode) or in itself."""
    inner = [*facts.get("parts", ()), *(facts[split] for split in ("train", "validation") if split in facts)]
    sums = Counter({"vocab_size": facts.get("vocab_size", 0)})
    for place in inner or [facts]:
        sums.update({key: place.get(key, 0) for key in ("documents", "text_bytes", "tokens")})
    sums["dropped"] = sum(facts.get("rules", {}).get("dropped", {}).values())
    return sums


class PrepareDisplay:
    """Shows data preparation, a line for each stage; `display(done, finished, total)` after every task.

    Args: as those of `TrainDisplay`.
    """

    def __init__(
        self, console: Console | None = None, plain: bool | None = None, clock: Clock = time.monotonic
    ) -> None:
        self._stages: list[_Stage] = []
        self._clock = clock
        self._since = clock()
        self._over = False
        self._screen = _Screen(self, console, plain)

    def __enter__(self) -> Self:
        self._since = self._clock()
        self._screen.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over = True
        self._screen.stop()

    def __call__(self, done: Done, finished: int, total: int) -> None:
        """Shows a finished task; a `tasks.OnDone`."""
        now = self._clock()
        stage = self._stages[-1] if self._stages else None
        if stage is None or stage.ended is not None:
            stage = _Stage(done.task.kind, self._since)
            self._stages = [*self._stages, stage]
        stage.take(done, finished, total, now)
        if stage.ended is not None:
            self._since = now
            if self._screen.plain:
                self._screen.say(stage.line(now))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        now, stages = self._clock(), self._stages
        lines = [stage.line(now) for stage in stages]
        if not self._over and (not stages or stages[-1].ended is not None):
            name = _AFTER.get(stages[-1].kind, "next stage") if stages else "reading"
            lines.append(f"{name:<14} {duration(now - self._since)}")
        for line in lines:
            yield Text(line, no_wrap=True, overflow="ellipsis")
