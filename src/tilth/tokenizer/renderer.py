"""The parent's side of rendering: a process that a template cannot hold up, and that is replaced when it was killed.

    Renderer(template, names, …)     closes its process when it is closed
        .render(mode, rows)          one answer for each row, in order: what rendering.py gives, or Dropped

A template that runs away (no end, too much memory or output, an attempt on Python's own attributes) ends in a DataError
that names the template and the conversation: with another row it would run away again, so none is tried.
"""

from __future__ import annotations

import datetime
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from tilth.core.channel import ChannelClosedError, LateError
from tilth.core.errors import DataError
from tilth.core.worker import PATIENCE, Worker, WorkerOwner, ending, out_of_time
from tilth.tokenizer.conversation import Dropped
from tilth.tokenizer.marks import Names

Mode = Literal["answers", "all", "prompt", "text", "text_prompt"]
Answer = dict[str, Any] | Dropped

SECONDS = 10.0
MEMORY = 1 << 30
LONGEST_ROW = 1 << 26  # bytes of JSON
_BATCH = 1 << 20  # bytes of JSON in a message, about

_SAYS = {
    "syntax": "does not compile",
    "output": "writes without end",
    "MemoryError": "asks for more memory than it may have",
    "RecursionError": "calls itself without end",
    "SecurityError": "reaches for what a template must not touch",
}


class Renderer(WorkerOwner):
    """Renders conversations by one template for one tokenizer; close it, or use it as a context manager.

    Args:
        name: what errors call the template.
        template: its Jinja2 source.
        names: the tokenizer's added tokens.
        variables: what it sees besides the conversation.
        today: the date that `strftime_now` reads.
        seconds: processor time for one conversation; ten times as much on the clock.
        memory: bytes of address space of the process.

    Not for several threads at a time. The process starts with the first conversation.
    """

    def __init__(
        self,
        name: str,
        template: str,
        names: Names,
        variables: Mapping[str, Any],
        today: datetime.date,
        seconds: float = SECONDS,
        memory: int = MEMORY,
    ) -> None:
        self.name, self._seconds, self._memory = name, seconds, memory
        setup = {"template": template, "names": list(names), "variables": variables, "today": today.isoformat()}
        self._setup = json.dumps(setup).encode()

    def render(
        self, mode: Mode, rows: Sequence[Mapping[str, Any]], called: Sequence[str] | None = None
    ) -> Iterator[Answer]:
        """One answer for each row ({messages, tools, documents}), in order.

        Args:
            called: what errors call each row; by its place in `rows` where nothing is said.

        Raises:
            DataError: the template runs away; names it, and the row.
        """
        called = [f"conversation {place}" for place in range(len(rows))] if called is None else called
        packed = [_packed(row) for row in rows]
        at = 0
        while at < len(packed):
            end = _batch_end(packed, at)
            batch = [row for row in packed[at:end] if isinstance(row, bytes)]
            places = [called[n] for n in range(at, end) if isinstance(packed[n], bytes)]
            answers = iter(self._asked(mode, batch, places))
            yield from (row if isinstance(row, Dropped) else next(answers) for row in packed[at:end])
            at = end

    def _asked(self, mode: Mode, batch: list[bytes], places: list[str]) -> list[Answer]:
        worker = self._started(places)
        deadline = time.monotonic() + self._seconds * PATIENCE
        try:
            worker.channel.send({"mode": mode}, b"[" + b",".join(batch) + b"]", deadline)
        except (LateError, ChannelClosedError) as error:
            raise self._runaway(error, places[:1]) from None
        return [self._one(worker, place) for place in places]

    def _one(self, worker: Worker, place: str | None) -> Answer:
        """The next answer of the process, with all its time before it."""
        try:
            header, body = worker.channel.receive(time.monotonic() + self._seconds * PATIENCE)
            if "runaway" in header:
                kind, detail = header["runaway"]
                raise self._refusal(_SAYS[kind], detail, place)
            found = json.loads(body)
            return Dropped(str(found["rule"]), str(found["detail"])) if "rule" in found else dict(found)
        except (LateError, ChannelClosedError) as error:
            raise self._runaway(error, [] if place is None else [place]) from None

    def _started(self, places: list[str]) -> Worker:
        if self._worker is None:
            setup = {"memory": self._memory, "seconds": self._seconds}
            self._worker = Worker("tilth.tokenizer.render_worker", "renders chat templates", setup)
            try:
                self._worker.channel.send({}, self._setup, time.monotonic() + self._seconds * PATIENCE)
            except (LateError, ChannelClosedError) as error:
                raise self._runaway(error, places[:1]) from None
            self._one(self._worker, None)
        return self._worker

    def _runaway(self, error: Exception, places: list[str]) -> DataError:
        assert self._worker is not None
        if isinstance(error, LateError):
            why = f"did not end within {self._seconds * PATIENCE:g} seconds"
        else:
            status = self._worker.ended()
            late = f"took more than {self._seconds:g} seconds of processor time"
            why = late if out_of_time(status) else f"ended its process ({ending(status)})"
        return self._refusal(why, "", places[0] if places else None)

    def _refusal(self, why: str, detail: str, place: str | None) -> DataError:
        self.close()
        where = "" if place is None else f", at {place}"
        return DataError(
            f"the chat template {self.name} {why}{where}{f': {detail}' if detail else ''}",
            "mend the template, or use a built-in one (`data.chat.template: chatml`)",
        )


def _packed(row: Mapping[str, Any]) -> bytes | Dropped:
    """A row as JSON, its size with it."""
    try:
        given = {key: row.get(key) for key in ("messages", "tools", "documents")}
        text = json.dumps(given)
    except (TypeError, ValueError, RecursionError) as error:
        return Dropped("malformed", f"the messages are not JSON: {error}"[:300])
    if len(text) > LONGEST_ROW:
        return Dropped("too_large", f"{len(text)} characters as JSON, more than {LONGEST_ROW}")
    return f'{text[:-1]}, "size": {len(text)}}}'.encode()


def _batch_end(packed: list[bytes | Dropped], start: int) -> int:
    """Where the batch that begins at `start` ends: at least one row, about `_BATCH` bytes."""
    size = 0
    for end in range(start, len(packed)):
        row = packed[end]
        size += len(row) if isinstance(row, bytes) else 0
        if size > _BATCH:
            return max(end, start + 1)
    return len(packed)
