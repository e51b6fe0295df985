"""What one sees while data is prepared: a line for each stage, with counts, rate and time."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from rich.console import Console, ConsoleOptions
from rich.text import Text

from tilth.cli.screen import Clock, Screen
from tilth.cli.tables import count, duration, plural, printable, size
from tilth.core.tasks import Done

_STAGES = {
    "collect": "reading",
    "clean": "cleaning",
    "dedup": "deduplicating",
    "tokenizer": "tokenizer",
    "encode": "encoding",
}
_AFTER = {"collect": "cleaning", "dedup": "tokenizer", "tokenizer": "encoding", "encode": "putting together"}


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
        if not done.reused and self.kind != "dedup":  # whose bytes are those that it drops
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

    Its arguments are those of `TrainDisplay`.
    """

    def __init__(self, console: Console | None = None, plain: bool | None = None, clock: Clock = time.monotonic):
        self._stages: list[_Stage] = []
        self._clock, self._since, self._over = clock, clock(), False
        self._screen = Screen(self, console, plain)

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
        yield from map(Text, lines)
