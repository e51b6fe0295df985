"""Reading packed rows: their order in training, and a full pass over them.

PackedSampler     one ring: sample n is row `permutation(epoch)(n mod N)` of epoch n // N, of N rows
packed_rows(…)    some rows as a batch
packed_pass(…)    all of them in order: every label that bears loss once
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from functools import cached_property
from typing import Any, final

import numpy as np

from tilth.core.random import ORDER_VERSION
from tilth.data.batches.batch import IGNORE, Batch, Int64, positions_of
from tilth.data.batches.order import OneRing
from tilth.data.batches.packing import PACKING_VERSION, Packing


def packed_rows(packing: Packing, rows: Int64, samples: Int64) -> Batch:
    """Rows of a packing, filled up with padding: token 0, no label, in a document 0 that no other sees."""
    stream, length, ahead = packing.stream, packing.context_length, packing.ahead
    pieces, counts = _pieces_of(packing, rows)
    lengths, owners = packing.lengths[pieces], np.repeat(np.arange(len(rows)), counts)
    before = np.cumsum(lengths) - lengths  # the steps of all pieces before each
    columns = before - before[np.cumsum(counts) - counts][owners]
    target, places = _ranges(columns + owners * length, lengths), _ranges(packing.begins[pieces], lengths)
    shape = (len(rows), length)
    input_ids, labels = np.zeros(shape, np.int64), np.full(shape, IGNORE, np.int64)
    doc_ids = np.zeros(shape, np.int32)
    predicted = stream.take(places + ahead)
    input_ids.reshape(-1)[target] = stream.take(places) if ahead else predicted
    labels.reshape(-1)[target] = np.where(stream.trained(places + ahead), predicted, IGNORE)
    doc_ids.reshape(-1)[target] = np.repeat(_ranges(np.ones_like(counts), counts), lengths)
    return Batch(input_ids, labels, samples, doc_ids, positions_of(doc_ids), causal=ahead == 1)


def _pieces_of(packing: Packing, rows: Int64) -> tuple[Int64, Int64]:
    """The pieces of some rows, row by row, and how many each row has."""
    counts = packing.borders[rows + 1] - packing.borders[rows]
    return _ranges(packing.borders[rows], counts), counts


def _ranges(starts: Int64, counts: Int64) -> Int64:
    """start, start + 1, … of each, `count` numbers, one after another."""
    ends = np.cumsum(counts)
    return np.asarray(np.arange(counts.sum()) + np.repeat(starts - (ends - counts), counts))


def packed_pass(packing: Packing, rows: int) -> Iterator[Batch]:
    """All rows in order, `rows` at a time: each label that bears loss is predicted once."""
    for first in range(0, packing.rows, rows):
        numbers = np.arange(first, min(first + rows, packing.rows), dtype=np.int64)
        yield packed_rows(packing, numbers, numbers)


@final
class PackedSampler(OneRing):
    """Which packed row each sample number is."""

    def __init__(self, packing: Packing, seed: int) -> None:
        super().__init__(packing.stream, packing.context_length, seed, packing.ahead, packing.rows)
        self.packing = packing

    def batch(self, numbers: Int64, samples: Int64) -> Batch:
        """The rows of these numbers."""
        return packed_rows(self.packing, self.rows(numbers), samples)

    def rows(self, numbers: Int64) -> Int64:
        """The row that each sample number is, int64 [n]."""
        epochs, inside = np.divmod(numbers, self.samples_per_epoch)
        result = np.empty(len(numbers), np.int64)
        for epoch in np.unique(epochs).tolist():
            chosen = epochs == epoch
            result[chosen] = self._permuted(epoch)(inside[chosen])
        return result

    def starts(self, numbers: Int64) -> Int64:
        """Where the first piece of each row begins in the stream."""
        return self.packing.begins[self.packing.borders[self.rows(numbers)]] % self.stream.tokens

    def samples_of(self, first: int, stop: int, epoch: int) -> tuple[Int64, Int64]:
        """Which samples of an epoch predict tokens first..stop of the stream: sample numbers, rising [n], and how many
        tokens each predicts [n].
        """
        order, begins, ends = self._by_place
        pieces = np.arange(np.searchsorted(ends, first, side="right"), np.searchsorted(begins, stop))
        counts = np.minimum(ends[pieces], stop) - np.maximum(begins[pieces], first)
        rows = np.searchsorted(self.packing.borders, order[pieces], side="right") - 1
        rows, which = np.unique(rows, return_inverse=True)
        sums = np.bincount(which, weights=counts, minlength=len(rows)).astype(np.int64)
        samples = self._permuted(epoch).inverse(rows) + epoch * self.samples_per_epoch
        sorting = np.argsort(samples)
        return samples[sorting], sums[sorting]

    @cached_property
    def _by_place(self) -> tuple[Int64, Int64, Int64]:
        """The pieces in the order of the stream, and the first token that each predicts, and the one after its last."""
        begins = self.packing.begins + self.ahead
        order = np.argsort(begins)
        return order, begins[order], (begins + self.packing.lengths)[order]

    def documents(self, numbers: Int64) -> tuple[Int64, Int64]:
        """Of which documents the rows predict tokens, and how many."""
        pieces, _ = _pieces_of(self.packing, self.rows(numbers))
        places, lengths = self.packing.begins[pieces] + self.ahead, self.packing.lengths[pieces]
        owners = np.searchsorted(self.stream.document_starts(), places, side="right") - 1
        documents, which = np.unique(owners, return_inverse=True)
        return documents, np.bincount(which, weights=lengths).astype(np.int64)

    def tokens_per_sample(self) -> Fraction:
        """What is no padding."""
        return Fraction(self.packing.steps, self.packing.rows)

    def order(self) -> dict[str, Any]:
        """The versions of permutation and packing, and what else decides the rows."""
        packing = {"version": PACKING_VERSION, "opening": self.packing.opening, **self.packing.config.model_dump()}
        return {"order_version": ORDER_VERSION, "packing": packing}
