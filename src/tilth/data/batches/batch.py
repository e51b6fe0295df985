"""Rows of tokens as numpy arrays: what training and evaluation read.

    Batch             rows, what each position shall predict, and who may look at whom
    make_batch(…)     windows of a stream as rows
    joined(…)         rows from several places as one batch

Shapes: B rows, T tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tilth.data.shards import TokenStream

IGNORE = -100
"""The label of a position that bears no loss, as in torch's cross_entropy."""

Int64 = npt.NDArray[np.int64]
Ahead = Literal[0, 1]
"""How many places after a position its label stands: 1, the next token; 0, the token itself, for `masking.py` to hide.
With 0 attention looks both ways."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of tokens with what each position shall predict. All arrays int64 but doc_ids (int32).

    `doc_ids` is None when attention may cross documents: `positions` is then None as well (0..T-1 in each row). Where
    a row is filled up, its padding is a document of its own, number 0, which nothing else sees; others count from 1.
    `causal` is false when a position may look at those after it.
    """

    input_ids: Int64
    labels: Int64
    sample_ids: Int64
    doc_ids: npt.NDArray[np.int32] | None = None
    positions: Int64 | None = None
    causal: bool = True

    def rows(self, start: int, stop: int) -> Batch:
        """The rows start..stop, as views."""
        doc_ids = None if self.doc_ids is None else self.doc_ids[start:stop]
        positions = None if self.positions is None else self.positions[start:stop]
        inputs, labels = self.input_ids[start:stop], self.labels[start:stop]
        return Batch(inputs, labels, self.sample_ids[start:stop], doc_ids, positions, self.causal)

    @property
    def valid_labels(self) -> int:
        """Positions that bear loss."""
        return int((self.labels != IGNORE).sum())


def make_batch(
    stream: TokenStream, starts: Int64, context_length: int, samples: Int64, isolate: bool, ahead: Ahead = 1
) -> Batch:
    """Windows of the stream as a batch; with `isolate`, documents are numbered and positions restart with each.

    Where a position predicts the next token, the end-of-text that ends a document is predicted inside it, and is read
    as the start of the next one: so every token is predicted, the first of a document too, and no query ever sees
    another document's text. What the shards say is not trained bears no loss.
    """
    windows = np.stack([stream.read(int(start), context_length + ahead) for start in starts])
    input_ids, labels = windows[:, :context_length], windows[:, ahead:]
    if stream.has_mask:
        places = starts[:, None] + np.arange(ahead, context_length + ahead)
        labels = np.where(stream.trained(places), labels, IGNORE)
    if not isolate:
        return Batch(input_ids, labels, samples, causal=ahead == 1)
    numbers = np.stack([stream.document_numbers(int(start) + ahead, context_length) for start in starts])
    restarts = np.diff(numbers, axis=1, prepend=numbers[:, :1] - 1) != 0
    doc_ids = restarts.cumsum(axis=1, dtype=np.int32)
    return Batch(input_ids, labels, samples, doc_ids, positions_of(doc_ids), causal=ahead == 1)


def positions_of(doc_ids: npt.NDArray[np.int32]) -> Int64:
    """The place of each token in its document, whose tokens stand together [B, T]; of padding 0."""
    columns = np.broadcast_to(np.arange(doc_ids.shape[1]), doc_ids.shape)
    begins = np.diff(doc_ids, axis=1, prepend=-1) != 0
    positions = columns - np.maximum.accumulate(np.where(begins, columns, 0), axis=1)
    return np.where(doc_ids == 0, 0, positions)


def joined(parts: Sequence[Batch], rows: Sequence[Int64]) -> Batch:
    """Several batches as one, of which `rows` says where each row of each stands."""
    if len(parts) == 1:
        return parts[0]
    places = np.argsort(np.concatenate(rows))

    def all_of(name: str) -> Any:
        arrays = [getattr(part, name) for part in parts]
        return None if arrays[0] is None else np.concatenate(arrays)[places]

    names = ("input_ids", "labels", "sample_ids", "doc_ids", "positions")
    inputs, labels, samples, doc_ids, positions = (all_of(name) for name in names)
    return Batch(inputs, labels, samples, doc_ids, positions, parts[0].causal)
