"""What an order of samples is: which tokens each sample number of a run stands for, and back.

    Sampler          of a whole run: it shares the samples out to rings
    RingSampler      of one ring, the tokens of a split or of an entry of a mixture
    OneRing          what those that exist have in common: a permutation an epoch, and a run of nothing else
    read(…)          samples as a batch

All follows from (seed, number); nothing is drawn or remembered. sampling.py and packed.py have the orders that exist.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any, NamedTuple, Protocol

import numpy as np

from tilth.core.random import Permutation, derive_seed
from tilth.data.batches.batch import Ahead, Batch, Int64, joined
from tilth.data.shards import TokenStream


class RingSampler(Protocol):
    """The order of the samples of one ring."""

    stream: TokenStream
    samples_per_epoch: int

    def batch(self, numbers: Int64, samples: Int64) -> Batch:
        """Its own samples of these numbers, which are called `samples` in the run."""

    def starts(self, numbers: Int64) -> Int64:
        """The first place of the stream that each of its samples reads, int64 [n]."""

    def samples_of(self, first: int, stop: int, epoch: int) -> tuple[Int64, Int64]:
        """Which of its samples in an epoch predict tokens first..stop of the stream, rising [n], and how many [n]."""

    def documents(self, numbers: Int64) -> tuple[Int64, Int64]:
        """The documents (their numbers in the stream) of which these samples predict tokens [n], and how many [n]."""

    def tokens_per_sample(self) -> Fraction:
        """Tokens of text that a sample has on average."""

    def order(self) -> dict[str, Any]:
        """What decides its order beside seed, context length and data: plain data for the loader's state."""


class Share(NamedTuple):
    """Samples of a batch that are from one ring.

    Attributes:
        ring: whose they are.
        rows: which of the samples asked for, int64 [n].
        numbers: what the ring calls them, int64 [n].
    """

    ring: RingSampler
    rows: Int64
    numbers: Int64


class OneRing(RingSampler):
    """The order of one ring, which is a run's `Sampler` where there is no other. Abstract."""

    def __init__(self, stream: TokenStream, context_length: int, seed: int, ahead: Ahead, per_epoch: int) -> None:
        self.stream, self.context_length, self.seed, self.ahead = stream, context_length, seed, ahead
        self.samples_per_epoch = per_epoch
        self._epoch = -1
        self._permutation: Permutation | None = None

    @property
    def rings(self) -> list[RingSampler]:
        """Itself alone."""
        return [self]

    def counts(self, samples: int) -> list[int]:
        """All of them are from it."""
        return [samples]

    def numbers(self, ring: int, samples: Int64) -> Int64:
        """The same numbers: the run has no other ring."""
        del ring
        return samples

    def shares(self, samples: Int64) -> list[Share]:
        """All samples, of the one ring."""
        return [Share(self, np.arange(len(samples), dtype=np.int64), samples)]

    def _permuted(self, epoch: int) -> Permutation:
        """The order of an epoch's samples; the last one is kept, for most batches are of it."""
        if epoch != self._epoch or self._permutation is None:
            self._permutation = Permutation(self.samples_per_epoch, derive_seed(self.seed, "order", epoch))
            self._epoch = epoch
        return self._permutation


class Sampler(Protocol):
    """From sample numbers to tokens. `samples_per_epoch` is what `train.epochs` counts by."""

    context_length: int
    seed: int
    ahead: Ahead
    samples_per_epoch: int

    @property
    def rings(self) -> list[RingSampler]:
        """The rings that samples are from, each with the order of its own samples."""

    def counts(self, samples: int) -> list[int]:
        """How many of the first `samples` of a run are from each ring."""

    def numbers(self, ring: int, samples: Int64) -> Int64:
        """Which samples of a run the samples of a ring are, int64 [n]."""

    def shares(self, samples: Int64) -> list[Share]:
        """The samples, ring by ring; every row stands in one of them."""

    def order(self) -> dict[str, Any]:
        """What decides the order beside seed, context length and data: plain data for the loader's state."""


def read(sampler: Sampler, samples: Int64) -> Batch:
    """The samples as one batch, in their order."""
    shares = sampler.shares(samples)
    return joined([share.ring.batch(share.numbers, samples[share.rows]) for share in shares], [s.rows for s in shares])
