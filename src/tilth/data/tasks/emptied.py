"""Sources that lose most of their documents to deduplication: how many go, and the largest clusters, as evidence.

    emptied(corpus, dropped, most) -> list of Emptied

Exact copies and near-duplicates count alike, of documents of the same source or of another. A few documents say little:
below 20 that go no source is judged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tilth.data.duplicates.dedup import F64, I64
from tilth.data.tasks.corpus import Corpus

_JUDGED_FROM = 20  # dropped documents; a share of fewer says little
_SHOWN = 5
_EXAMPLES = 3


class Dropped(NamedTuple):
    """Documents that go, in rising order, for which each goes, and how similar the two are (None: the same text)."""

    numbers: I64
    kept: I64
    values: F64 | None = None


Pieces = Callable[[], Iterable[Dropped]]
"""Gives all of them, some at a time; more than once."""


class Emptied(NamedTuple):
    """A source that loses more than its share.

    Attributes:
        clusters: the largest ones, in words, with examples.
    """

    source: str
    documents: int
    lost: int
    clusters: str

    def __str__(self) -> str:
        return f"{self.lost:,} of {self.documents:,} documents of source {self.source}"


def emptied(corpus: Corpus, dropped: Pieces, most: float) -> list[Emptied]:
    """The sources that would lose more than the share `most` of their documents, in their order."""
    had, lost = _counts(table["source"] for _, table in corpus.parts(["source"])), Counter[str]()
    for piece in dropped():
        lost += _counts([_sources(corpus, piece.numbers)])
    judged = [name for name in had if lost[name] >= _JUDGED_FROM and lost[name] > most * had[name]]
    return [Emptied(name, had[name], lost[name], _clusters(corpus, dropped, name)) for name in judged]


def _sources(corpus: Corpus, numbers: I64) -> pa.ChunkedArray:
    return corpus.take(numbers, ["source"])["source"]


def _counts(columns: Iterable[pa.ChunkedArray]) -> Counter[str]:
    counts = Counter[str]()
    for column in columns:
        for row in pc.value_counts(column.cast(pa.string())).to_pylist():
            counts[row["values"]] += row["counts"]
    return counts


def _clusters(corpus: Corpus, dropped: Pieces, source: str) -> str:
    """The largest clusters of a source, in words."""
    own = [_of_source(corpus, piece, source) for piece in dropped()]
    kept, sizes = np.unique(np.concatenate([piece.kept for piece in own]), return_counts=True)
    largest = sorted(zip(kept.tolist(), sizes.tolist(), strict=True), key=lambda pair: -pair[1])[:_SHOWN]
    return "; ".join(f"{size:,} like {_examples(corpus, own, number)}" for number, size in largest)


def _of_source(corpus: Corpus, piece: Dropped, source: str) -> Dropped:
    which = np.flatnonzero(np.asarray(pc.equal(_sources(corpus, piece.numbers).cast(pa.string()), source)))
    return Dropped(piece.numbers[which], piece.kept[which], None if piece.values is None else piece.values[which])


def _examples(corpus: Corpus, pieces: Iterable[Dropped], kept: int) -> str:
    """The document that stays, and some of those that go for it."""
    found: list[tuple[int, str]] = []
    for piece in pieces:
        for place in np.flatnonzero(piece.kept == kept)[: _EXAMPLES - len(found)].tolist():
            similar = "the same" if piece.values is None else f"{piece.values[place]:.2f}"
            found.append((int(piece.numbers[place]), similar))
    numbers = np.array([kept, *(number for number, _ in found)])
    first, *others = (f"{row['locator']} of {row['source']}" for row in corpus.rows(numbers, ["locator", "source"]))
    shown = (f"{name} ({similar})" for name, (_, similar) in zip(others, found, strict=True))
    return f"{first}, such as {', '.join(shown)}"
