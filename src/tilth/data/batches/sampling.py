"""Which tokens each sample number is: computed from (seed, number) and nothing else.

    WindowSampler      one ring: sample n is window `permutation(epoch)(n mod N)` of epoch n // N
    MixtureSampler     several rings, whose samples interleaving.py deals out
    make_sampler(…)    the one for a stream or a mixture, in windows or packed (packed.py)

What a sampler is stands in order.py. An epoch of windows cuts the ring of tokens, from a start drawn per epoch, into
N = tokens // T windows of T tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any, final

import numpy as np

from tilth.core.errors import DataError
from tilth.core.random import ORDER_VERSION, Permutation, derive_seed
from tilth.data.batches.batch import Ahead, Batch, Int64, make_batch
from tilth.data.batches.interleaving import Interleaving
from tilth.data.batches.mixture import Mixture, whole_shares
from tilth.data.batches.order import OneRing, RingSampler, Sampler, Share
from tilth.data.batches.packed import PackedSampler
from tilth.data.batches.packing import PackingConfig, pack
from tilth.data.shards import TokenStream

MIXTURE_VERSION = 1
"""Changes when `Interleaving` or the seeds of rings change; only runs with a mixture depend on it."""


@final
class WindowSampler(OneRing):
    """Which window of the stream each sample number is."""

    def __init__(
        self,
        stream: TokenStream,
        context_length: int,
        seed: int,
        shift: bool = True,
        *,
        isolate: bool = False,
        ahead: Ahead = 1,
    ) -> None:
        if stream.tokens < context_length + ahead:
            room = stream.tokens - ahead
            # Of the sizes that fit a power of two is most likely to divide train.batch_tokens, too.
            fits = f", or set model.context_length: {1 << room.bit_length() - 1}" if room > 0 else ""
            raise DataError(
                f"the training split has {stream.tokens} tokens; one sample needs {context_length + ahead}",
                f"give more text{fits}",
            )
        super().__init__(stream, context_length, seed, ahead, stream.tokens // context_length)
        self.shifts, self.isolate = shift, isolate

    def batch(self, numbers: Int64, samples: Int64) -> Batch:
        """The windows of these numbers."""
        starts = self.starts(numbers)
        return make_batch(self.stream, starts, self.context_length, samples, self.isolate, self.ahead)

    def documents(self, numbers: Int64) -> tuple[Int64, Int64]:
        """Of which documents the windows predict tokens, and how many."""
        starts = (self.starts(numbers) + self.ahead).tolist()
        found = [self.stream.document_numbers(start, self.context_length) for start in starts]
        return np.unique(np.concatenate(found) % self.stream.documents, return_counts=True)

    def tokens_per_sample(self) -> Fraction:
        """All of a window."""
        return Fraction(self.context_length)

    def starts(self, samples: Int64) -> Int64:
        """The first token of each sample number, int64 [n]."""
        epochs, inside = np.divmod(samples, self.samples_per_epoch)
        result = np.empty(len(samples), dtype=np.int64)
        for epoch in np.unique(epochs):
            chosen = epochs == epoch
            permutation, shift = self._order(int(epoch))
            result[chosen] = (permutation(inside[chosen]) * self.context_length + shift) % self.stream.tokens
        return result

    def samples_of(self, first: int, stop: int, epoch: int) -> tuple[Int64, Int64]:
        """Which samples of an epoch predict tokens first..stop of the stream, in the order in which they come.

        The other way round than `starts`: window w of an epoch predicts its T tokens, or those one place later. Up to
        T - 1 tokens of the ring are in no window of an epoch.

        Returns:
            sample numbers, rising [n], and how many of these tokens each of them predicts [n].
        """
        permutation, shift = self._order(epoch)
        tokens, length = self.stream.tokens, self.context_length
        start = (first - self.ahead - shift) % tokens  # counted from the first token that the epoch predicts
        end = start + min(stop - first, tokens)
        pieces = [(start, min(end, tokens)), (0, end - tokens)]  # the second where they go round the ring's end
        (before, some), (after, others) = (_overlaps(*piece, length) for piece in pieces)
        windows, counts = np.concatenate([before, after]), np.concatenate([some, others])
        inside = windows < self.samples_per_epoch
        windows, which = np.unique(windows[inside], return_inverse=True)
        sums = np.bincount(which, weights=counts[inside], minlength=len(windows)).astype(np.int64)
        samples = permutation.inverse(windows) + epoch * self.samples_per_epoch
        order = np.argsort(samples)
        return samples[order], sums[order]

    def _order(self, epoch: int) -> tuple[Permutation, int]:
        shift = derive_seed(self.seed, "shift", epoch) % self.stream.tokens if self.shifts else 0
        return self._permuted(epoch), shift

    def order(self) -> dict[str, Any]:
        """The version of the permutation."""
        return {"order_version": ORDER_VERSION}


def _overlaps(start: int, stop: int, length: int) -> tuple[Int64, Int64]:
    """The windows of `length` that start..stop touches, and how much of it lies in each."""
    if stop <= start:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    windows = np.arange(start // length, (stop - 1) // length + 1)
    return windows, np.minimum(stop, (windows + 1) * length) - np.maximum(start, windows * length)


MakeRing = Callable[[TokenStream, int], "WindowSampler | PackedSampler"]
"""The sampler of a ring, from its tokens and the seed of its order."""


@final
class MixtureSampler:
    """Samples from several rings in given proportions; each ring has its own epochs, permutations and shifts."""

    def __init__(self, mixture: Mixture, context_length: int, seed: int, make_ring: MakeRing | None = None) -> None:
        self.mixture, self.context_length, self.seed = mixture, context_length, seed
        make_ring = make_ring or (lambda stream, own_seed: WindowSampler(stream, context_length, own_seed))
        made = [make_ring(ring.stream, derive_seed(seed, f"source/{ring.name}")) for ring in mixture.rings]
        self.ahead: Ahead = made[0].ahead
        self.rings: list[RingSampler] = [*made]
        # Shares are of tokens, and a packed row of one ring may hold fewer than one of another.
        weights = [Fraction(m.share) / ring.tokens_per_sample() for m, ring in zip(mixture.rings, made, strict=True)]
        self.samples_per_epoch = max(1, int(mixture.epoch_tokens * sum(weights) / self._whole))
        even = len({ring.tokens_per_sample() for ring in made}) == 1
        shares = [ring.share for ring in mixture.rings] if even else whole_shares(weights)
        self._interleaving = Interleaving(shares, seed)

    @property
    def _whole(self) -> int:
        return sum(ring.share for ring in self.mixture.rings)

    def counts(self, samples: int) -> list[int]:
        """By the shares."""
        return self._interleaving.counts(samples)

    def numbers(self, ring: int, samples: Int64) -> Int64:
        """Back through the interleaving."""
        return self._interleaving.numbers(ring, samples)

    def shares(self, samples: Int64) -> list[Share]:
        """The samples of each ring that has some."""
        rings, numbers = self._interleaving(samples)
        found = []
        for place, ring in enumerate(self.rings):
            rows = np.flatnonzero(rings == place)
            if len(rows):
                found.append(Share(ring, rows, numbers[rows]))
        return found

    def order(self) -> dict[str, Any]:
        """Versions, how rings are read, and their shares."""
        return {
            **self.rings[0].order(),
            "mixture_version": MIXTURE_VERSION,
            "mixture": {ring.name: ring.share for ring in self.mixture.rings},
        }

    def seen(self, samples: int) -> list[dict[str, Any]]:
        """Of the first `samples` of a run: name, share, tokens and epochs of each ring, and the tokens that it has."""
        counts = self._interleaving.counts(samples)
        return [
            {
                "name": ring.name,
                "share": ring.share / self._whole,
                "tokens": round(count * sampler.tokens_per_sample()),
                "epochs": round(count / sampler.samples_per_epoch, 4),
                "held_tokens": ring.stream.tokens,
            }
            for ring, sampler, count in zip(self.mixture.rings, self.rings, counts, strict=True)
        ]


def make_sampler(
    stream: TokenStream | Mixture,
    context_length: int,
    seed: int,
    *,
    same_windows: bool = False,
    isolate: bool = False,
    ahead: Ahead = 1,
    packing: PackingConfig | None = None,
    opening: bool = False,
    longest: int | None = None,
) -> Sampler:
    """The order in which training goes through a stream, or through a mixture of several.

    Args:
        same_windows: cut every epoch at the same places, so that full-batch descent has one objective.
        isolate: documents of a window do not see each other; those of a packed row never do.
        ahead: 0 for masked language models: labels are the tokens themselves.
        packing: whole documents in a row, instead of windows.
        opening, longest: of packed documents, see `pack`.
    """

    def ring(own: TokenStream, own_seed: int) -> WindowSampler | PackedSampler:
        if packing is not None:
            rows = pack(own, context_length, packing, ahead=ahead, opening=opening, longest=longest)
            return PackedSampler(rows, own_seed)
        return WindowSampler(own, context_length, own_seed, not same_windows, isolate=isolate, ahead=ahead)

    if isinstance(stream, Mixture):
        assert not same_windows, "the recipe refuses this before"
        return MixtureSampler(stream, context_length, seed, ring)
    return ring(stream, seed)
