"""What one sees while data is prepared: a line for each stretch of the way, with counts, rate, time and time to go."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from rich.console import Console, ConsoleOptions
from rich.text import Text

from tilth.cli.progress_lines import Under, meter_line
from tilth.cli.screen import Clock, Screen
from tilth.cli.tables import count, duration, plural, printable, size
from tilth.core.progress import Board
from tilth.core.tasks import Done

_LINES = {
    "reading": ("collect",),
    "items": ("items",),
    "cleaning": ("clean", "lines", "shared_lines", "decontaminate", "digest", "signature"),
    "shared lines": ("shared",),
    "deduplicating": ("exact", "candidates", "shingles", "near"),
    "dividing": ("assign", "refused", "recall", "held_out", "held_out_index", "hits", "leaks"),
    "tokenizer": ("tokenizer",),
    "encoding": ("encode",),
}
_COMPARING = ("deduplicating", "dividing")
_LINE_OF = {kind: name for name, kinds in _LINES.items() for kind in kinds}
_PLAIN_EVERY = 30.0
"""Seconds between lines on work that takes long, where nothing can be drawn."""
_LOOK_EVERY = 1.0
_METERS = 8  # lines of what was measured, the newest; a terminal has no more room


def _name_of(kind: str) -> str:
    return _LINE_OF.get(kind, printable(kind))


@dataclass
class _Line:
    """A stretch of data preparation: the tasks that are done, and what their facts add up to."""

    name: str
    started: float
    totals: dict[str, int] = field(default_factory=dict)
    finished: dict[str, int] = field(default_factory=dict)
    taken: dict[str, tuple[bool, Counter[str]]] = field(default_factory=dict)
    """Of each task, whether it had been done before, and its facts: one that is looked at again counts once."""
    ended: float | None = None
    facts: Counter[str] = field(default_factory=Counter)
    tokenizer: str = ""
    label: str = ""
    """What stands before its name."""

    def take(self, done: Done, finished: int, total: int, now: float) -> None:
        """Takes a task's facts over."""
        self.finished[done.task.kind], self.totals[done.task.kind] = finished, total
        facts = _facts(done.facts)
        if not done.reused:
            facts["new_bytes"] = facts["text_bytes"]
        _, before = self.taken.get(done.folder.name, (False, Counter[str]()))
        self.facts.subtract(before)
        self.facts.update(facts)
        self.taken[done.folder.name] = done.reused, facts
        self.tokenizer = str(done.facts.get("kind_of_tokenizer", ""))
        self.ended = now if self.finished == self.totals else None

    @property
    def reused(self) -> int:
        """Tasks that had been done before."""
        return sum(before for before, _ in self.taken.values())

    def line(self, now: float, under: Under = Under()) -> str:  # noqa: B008 - frozen
        """The stretch in one line: counts, rate, time; with what the tasks under way have done so far."""
        passed = (now if self.ended is None else self.ended) - self.started
        done, total = sum(self.finished.values()), sum(self.totals.values())
        parts = [*self._counts()]
        new_bytes = self.facts["new_bytes"] + under.read
        if new_bytes and passed >= 0.1 and self.name not in _COMPARING:  # whose bytes are what they drop
            parts.append(f"{size(new_bytes / passed)}/s")
        tasks = "" if self.ended is not None else f"{done}/{total} "
        if tasks and under.tasks:
            parts.insert(0, f"{min((done + under.tasks) / total, 1):.0%}")
        reused, seen = self.reused, max(total, len(self.taken))
        again = "done before" if reused == seen else f"{reused} of {seen} done before"
        parts.append(
            duration(passed) + (f" ({again})" if reused else "") + self._to_go(passed, done + under.tasks, total)
        )
        return f"{self.label}{self.name:<14} {tasks}{', '.join(parts)}"

    def _to_go(self, passed: float, done: float, total: int) -> str:
        new = done - self.reused
        return f", {duration(passed / new * (total - done))} to go" if new > 0 and done < total else ""

    def _counts(self) -> Iterator[str]:
        facts, dropped = self.facts, self.facts["dropped"]
        if self.name in _COMPARING:
            if self.finished:
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
    splits = (facts[split] for split in ("train", "validation", "test") if split in facts)
    inner = [*(part for part in facts.get("parts", ()) if isinstance(part, dict)), *splits]
    sums = Counter({"vocab_size": facts.get("vocab_size", 0)})
    once = [] if "stage" in facts else [facts]  # what a stage leaves is counted when all have run, by its digests
    for place in inner or once:
        sums.update({key: place.get(key, 0) for key in ("documents", "text_bytes", "tokens")})
    dropped = facts.get("rules", {}).get("dropped", {})
    sums["dropped"] = sum(dropped.values()) - dropped.get("read/bad_rows", 0)  # said of a file whose rows are counted
    return sums


class PrepareDisplay:
    """Shows data preparation, a line for each stretch; `display(done, finished, total)` after every task.

    Its arguments are those of `TrainDisplay`, and `label`, which stands before each line.
    """

    def __init__(
        self,
        console: Console | None = None,
        plain: bool | None = None,
        clock: Clock = time.monotonic,
        label: str = "",
    ):
        self.board = Board()
        """Where long work is to be counted."""
        self._lines: list[_Line] = []
        self._label = label
        self._told: set[int] = set()
        self._closed = 0
        self._lock, self._left = threading.RLock(), threading.Event()
        self._ticker = threading.Thread(target=self._tick, name="tilth-display", daemon=True)
        self._clock, self._over = clock, False
        self._since = self._said = clock()
        self._screen = Screen(self, console, plain)

    @property
    def made_something(self) -> bool:
        """Whether not all tasks had been done before."""
        return any(line.reused < len(line.taken) for line in self._lines)

    def __enter__(self) -> Self:
        self._since = self._said = self._clock()
        self._screen.start()
        if self._screen.plain:
            self._ticker.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over = True
        self._left.set()
        if self._screen.plain:
            self._ticker.join()
        self._end_line()
        self.tick()
        self._screen.stop()

    def __call__(self, done: Done, finished: int, total: int) -> None:
        """Shows a finished task; a `tasks.OnDone`."""
        with self._lock:
            self.tick()
            now, name = self._clock(), _name_of(done.task.kind)
            if not self._lines or self._lines[-1].name != name:
                self._end_line()
                self._lines = [*self._lines, _Line(name, self._since, label=self._label)]
            line = self._lines[-1]
            line.take(done, finished, total, now)
            if line.ended is not None:
                self._since = now
            elif self._screen.plain and now - self._said >= _PLAIN_EVERY:
                self._screen.say(line.line(now))
                self._said = now

    def _tick(self) -> None:
        while not self._left.wait(_LOOK_EVERY):
            self.tick()

    def tick(self) -> None:
        """Where nothing can be drawn: says what has been measured, and from time to time how far the rest is."""
        if not self._screen.plain:
            return
        with self._lock:
            now = self._clock()
            meters = [meter for meter in self.board.meters if id(meter) not in self._told and meter.tells]
            for meter in (meter for meter in meters if meter.ended is not None):
                self._told.add(id(meter))
                self._since = max(self._since, meter.ended or 0.0)
                self._screen.say(meter_line(meter, now))
            if not self._over and now - self._said >= _PLAIN_EVERY:
                running = self._under_way(now)
                if running and self._lines and self._lines[-1].ended is not None:
                    self._end_line()
                said = [meter_line(meter, now) for meter in meters if meter.ended is None] + running
                for line in said:
                    self._screen.say(line)
                self._said = now if said else self._said

    def _under_way(self, now: float) -> list[str]:
        """The line of the stage whose tasks run, with what these have done so far."""
        running = self.board.running()
        if not running:
            return []
        name = _name_of(running[0].kind)
        under = Under([one for one in running if _name_of(one.kind) == name])
        if self._lines and self._lines[-1].name == name and self._lines[-1].ended is None:
            return [self._lines[-1].line(now, under)]
        planned = {kind: n for kind, n in self.board.planned.items() if _name_of(kind) == name}
        return [_Line(name, self._since, totals=planned, label=self._label).line(now, under)]

    def _end_line(self) -> None:
        """Says the last line of what is over, once: only what follows shows that nothing more of it comes."""
        if self._lines and self._screen.plain and self._closed < len(self._lines):
            self._closed = len(self._lines)
            self._screen.say(self._lines[-1].line(self._clock()))
            self._said = self._clock()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        now, lines = self._clock(), [*self._lines]
        measured = [meter for meter in [*self.board.meters] if meter.tells]
        shown = [meter_line(meter, now) for meter in measured[-_METERS:]]
        under_way = [] if self._over else self._under_way(now)
        open_line = bool(lines) and lines[-1].ended is None
        shown += [line.line(now) for line in (lines[:-1] if open_line and under_way else lines)] + under_way
        if not self._over and not under_way and not open_line and not any(meter.ended is None for meter in measured):
            waiting = "reading" if not lines else "next"
            shown.append(f"{self._label}{waiting:<14} {duration(now - self._since)}")
        yield from map(Text, shown)
