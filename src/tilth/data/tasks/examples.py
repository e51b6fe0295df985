"""Some documents of each rule as they were and as they became, for people to look at: examples.parquet.

Of all documents that a rule changed or dropped in a task, those with the smallest ids are kept: a draw that depends on
nothing but the documents. Long texts are clipped, around the first place that differs.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from tilth.data.document import Document, Verdict

EXAMPLES = "examples.parquet"
OF_EACH = 4
CHARACTERS = 1200
_BEFORE_CHANGE = 200
EXAMPLES_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("stage", "rule", "verdict", "value", "doc_id", "source", "locator")),
        ("before", pa.large_string()),
        ("after", pa.large_string()),  # null: dropped
        ("characters", pa.int64()),  # of the whole text before
    ]
)


class _Example(NamedTuple):
    order: int  # negated, so that the heap's smallest is the largest id
    verdict: Verdict
    before: Document
    after: str | None
    around: int  # of what was dropped: the character that mattered


class Examples:
    """Collects examples while a stage runs; `write` leaves them in its folder."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, str], list[_Example]] = {}

    def add(self, before: Document, after: Sequence[Document], verdicts: Sequence[Verdict], *, around: int = 0) -> None:
        """A document, what the stage left of it, and why; of a dropped one the part from about `around` is shown."""
        for verdict in verdicts:
            held = self._held.setdefault((verdict.rule, verdict.verdict), [])
            order = -int(before.doc_id, 16)
            if len(held) == OF_EACH and order <= held[0].order:
                continue
            left = "\n".join(document.text for document in after) if after else None
            example = _Example(order, verdict, before, left, around)
            (heapq.heappush if len(held) < OF_EACH else heapq.heappushpop)(held, example)

    def write(self, folder: Path) -> None:
        """Writes them, rule by rule, the smallest id first."""
        rows = [_row(example) for _, held in sorted(self._held.items()) for example in sorted(held, reverse=True)]
        columns = [list(column) for column in zip(*rows, strict=True)] or [[]] * len(EXAMPLES_SCHEMA)
        pq.write_table(pa.table(columns, schema=EXAMPLES_SCHEMA), folder / EXAMPLES, compression="zstd")


def _row(example: _Example) -> tuple[str | int | None, ...]:
    verdict, document = example.verdict, example.before
    before, after = around_the_change(document.text, example.after, example.around)
    about = (verdict.stage, verdict.rule, verdict.verdict, verdict.value)
    return (*about, document.doc_id, document.source, document.locator, before, after, len(document.text))


def around_the_change(before: str, after: str | None, around: int = 0) -> tuple[str, str | None]:
    """Both texts clipped, from a little before the first place where they differ; of a dropped one, before `around`."""
    if after is None:
        start = max(0, around - _BEFORE_CHANGE)
        return before[start : start + CHARACTERS], None
    same = next(
        (n for n, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), min(len(before), len(after))
    )
    start = max(0, same - _BEFORE_CHANGE)
    return before[start : start + CHARACTERS], after[start : start + CHARACTERS]
