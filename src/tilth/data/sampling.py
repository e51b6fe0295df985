"""Which tokens each sample number is: computed from (seed, number) and nothing else.

    WindowSampler      one ring: sample n is window `permutation(epoch)(n mod N)` of epoch n // N
    MixtureSampler     several rings: `Interleaving` says which ring sample n is from and its number there
    Interleaving       n -> (sequence, number in it), in proportions that hold for every prefix; and back
    make_sampler(…)    the one for a stream, or for a mixture

Each goes both ways: from sample numbers to tokens, and from tokens of a ring to the samples that predict them.

An epoch cuts the ring of tokens, from a start drawn per epoch, into N = tokens // T windows of T tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, final

import numpy as np
import numpy.typing as npt

from tilth.core.errors import DataError
from tilth.core.random import ORDER_VERSION, Permutation, derive_seed
from tilth.data.mixture import Mixture
from tilth.data.shards import TokenStream

MIXTURE_VERSION = 1
"""Changes when `Interleaving` or the seeds of rings change; only runs with a mixture depend on it."""

Int64 = npt.NDArray[np.int64]


class Windows(NamedTuple):
    """Samples of a batch that are from one ring.

    Attributes:
        stream: the ring.
        rows: which of the samples asked for, int64 [n].
        starts: the first token of each, int64 [n].
    """

    stream: TokenStream
    rows: Int64
    starts: Int64


class Sampler(Protocol):
    """From sample numbers to windows. `samples_per_epoch` is what `train.epochs` counts by."""

    context_length: int
    seed: int
    samples_per_epoch: int

    @property
    def rings(self) -> list[WindowSampler]:
        """The rings that samples are from, each with the order of its own samples."""

    def counts(self, samples: int) -> list[int]:
        """How many of the first `samples` of a run are from each ring."""

    def numbers(self, ring: int, samples: Int64) -> Int64:
        """Which samples of a run the samples of a ring are, int64 [n]."""

    def windows(self, samples: Int64) -> list[Windows]:
        """Where the samples lie, ring by ring; every row stands in one of them."""

    def order(self) -> dict[str, Any]:
        """What decides the order beside seed, context length and data: plain data for the loader's state."""


@final
class WindowSampler:
    """Which window of the stream each sample number is."""

    def __init__(self, stream: TokenStream, context_length: int, seed: int, shift: bool = True) -> None:
        if stream.tokens <= context_length:
            raise DataError(
                f"the training split has {stream.tokens} tokens; one sample needs {context_length + 1}",
                f"give more text, or set model.context_length below {stream.tokens}",
            )
        self.stream, self.context_length, self.seed, self.shifts = stream, context_length, seed, shift
        self.samples_per_epoch = stream.tokens // context_length
        self._epoch = -1
        self._permutation: Permutation | None = None
        self._shift = 0

    @property
    def rings(self) -> list[WindowSampler]:
        """This one."""
        return [self]

    def counts(self, samples: int) -> list[int]:
        """All."""
        return [samples]

    def numbers(self, ring: int, samples: Int64) -> Int64:
        """Those that they are."""
        del ring
        return samples

    def windows(self, samples: Int64) -> list[Windows]:
        """All samples, of the one ring."""
        return [Windows(self.stream, np.arange(len(samples), dtype=np.int64), self.starts(samples))]

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

        The other way round than `starts`: window w of an epoch predicts the T tokens after its first one. Up to T - 1
        tokens of the ring are in no window of an epoch.

        Returns:
            sample numbers, rising [n], and how many of these tokens each of them predicts [n].
        """
        permutation, shift = self._order(epoch)
        tokens, length = self.stream.tokens, self.context_length
        start = (first - 1 - shift) % tokens  # counted from the first token that the epoch predicts
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
        if epoch != self._epoch or self._permutation is None:
            self._permutation = Permutation(self.samples_per_epoch, derive_seed(self.seed, "order", epoch))
            self._shift = derive_seed(self.seed, "shift", epoch) % self.stream.tokens if self.shifts else 0
            self._epoch = epoch
        return self._permutation, self._shift

    def order(self) -> dict[str, Any]:
        """The version of the permutation."""
        return {"order_version": ORDER_VERSION}


def _overlaps(start: int, stop: int, length: int) -> tuple[Int64, Int64]:
    """The windows of `length` that start..stop touches, and how much of it lies in each."""
    if stop <= start:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    windows = np.arange(start // length, (stop - 1) // length + 1)
    return windows, np.minimum(stop, (windows + 1) * length) - np.maximum(start, windows * length)


@final
class MixtureSampler:
    """Samples from several rings in given proportions; each ring has its own epochs, permutations and shifts."""

    def __init__(self, mixture: Mixture, context_length: int, seed: int) -> None:
        self.mixture, self.context_length, self.seed = mixture, context_length, seed
        self.samples_per_epoch = max(1, mixture.epoch_tokens // context_length)
        self.rings: list[WindowSampler] = [
            WindowSampler(ring.stream, context_length, derive_seed(seed, f"source/{ring.name}"))
            for ring in mixture.rings
        ]
        self._interleaving = Interleaving([ring.share for ring in mixture.rings], seed)

    def counts(self, samples: int) -> list[int]:
        """By the shares."""
        return self._interleaving.counts(samples)

    def numbers(self, ring: int, samples: Int64) -> Int64:
        """Back through the interleaving."""
        return self._interleaving.numbers(ring, samples)

    def windows(self, samples: Int64) -> list[Windows]:
        """The samples of each ring that has some."""
        rings, numbers = self._interleaving(samples)
        found = []
        for ring, sampler in enumerate(self.rings):
            rows = np.flatnonzero(rings == ring)
            if len(rows):
                found.append(Windows(sampler.stream, rows, sampler.starts(numbers[rows])))
        return found

    def order(self) -> dict[str, Any]:
        """Versions, and the rings with their shares."""
        return {
            "order_version": ORDER_VERSION,
            "mixture_version": MIXTURE_VERSION,
            "mixture": {ring.name: ring.share for ring in self.mixture.rings},
        }

    def seen(self, samples: int) -> list[dict[str, Any]]:
        """Of the first `samples` of a run: name, share, tokens and epochs of each ring, and the tokens that it has."""
        whole = sum(ring.share for ring in self.mixture.rings)
        counts = self._interleaving.counts(samples)
        return [
            {
                "name": ring.name,
                "share": ring.share / whole,
                "tokens": count * self.context_length,
                "epochs": round(count / sampler.samples_per_epoch, 4),
                "held_tokens": ring.stream.tokens,
            }
            for ring, sampler, count in zip(self.mixture.rings, self.rings, counts, strict=True)
        ]


class _Fork(NamedTuple):
    """A node of the tree: of every `whole` numbers `left` go left; a leaf is the number of a sequence."""

    left: int
    whole: int
    phase: int
    children: tuple[_Fork | int, _Fork | int]

    def taken(self, numbers: Int64) -> Int64:
        """How many of the first n numbers go left: floor((n * left + phase) / whole), without overflow."""
        rounds, inside = np.divmod(numbers, self.whole)
        return np.asarray(rounds * self.left + (inside * self.left + self.phase) // self.whole)

    def number_of(self, places: Int64, right: bool) -> Int64:
        """Which number was the one at each place of a side: one less than the first n of which more went there.

        Of the first n, floor((n * s + p) / whole) go to a side of share s: p is the phase on the left, and what is
        missing to a whole one on the right.
        """
        share, phase = (self.left, self.phase) if not right else (self.whole - self.left, self.whole - 1 - self.phase)
        rounds, inside = np.divmod(places + 1, share)
        return np.asarray(rounds * self.whole - (phase - inside * self.whole) // share - 1)


@final
class Interleaving:
    """Deals the numbers 0, 1, 2 … out to several sequences in the proportion of `shares`, exactly, and without a state.

    A tree of forks: of the first n numbers that come to a fork, floor((n * left + phase) / whole) go left, which is
    less than one off the exact share (between two sequences: a Beatty sequence). The heaviest come first and each fork
    parts them about in half, so that no inner branch has more than two thirds of its fork; a sequence is then less
    than 1 + 1 / (1 - 2/3) = 4 numbers off its share of any prefix (in practice two). The phases are drawn from the key.

    Args:
        shares: positive integers whose sum is at most 2**31 (so that no product leaves 64 bits).
    """

    def __init__(self, shares: Sequence[int], key: int) -> None:
        assert shares and all(share > 0 for share in shares) and sum(shares) <= (1 << 31) + len(shares)
        self.sequences = len(shares)
        self._shares, self._key = list(shares), key
        self._root = self._tree(sorted(range(len(shares)), key=lambda n: (-shares[n], n)))

    def _tree(self, numbers: list[int]) -> _Fork | int:
        if len(numbers) == 1:
            return numbers[0]
        sums = np.cumsum([self._shares[n] for n in numbers])
        whole = int(sums[-1])
        cut = 1 + int(np.argmin(np.abs(2 * sums[:-1] - whole)))
        phase = derive_seed(self._key, "mixture", *numbers) % whole
        return _Fork(int(sums[cut - 1]), whole, phase, (self._tree(numbers[:cut]), self._tree(numbers[cut:])))

    def __call__(self, numbers: Int64) -> tuple[Int64, Int64]:
        """The sequence of each number, and its place there, int64 [n] both."""
        sequences, places = np.empty(len(numbers), np.int64), np.empty(len(numbers), np.int64)
        self._deal(self._root, np.arange(len(numbers)), np.asarray(numbers, np.int64), sequences, places)
        return sequences, places

    def _deal(self, node: _Fork | int, rows: Int64, numbers: Int64, sequences: Int64, places: Int64) -> None:
        if isinstance(node, int):
            sequences[rows], places[rows] = node, numbers
            return
        before = node.taken(numbers)
        left = node.taken(numbers + 1) > before
        self._deal(node.children[0], rows[left], before[left], sequences, places)
        self._deal(node.children[1], rows[~left], (numbers - before)[~left], sequences, places)

    def counts(self, number: int) -> list[int]:
        """How many of the first `number` numbers each sequence has."""
        result = [0] * self.sequences
        waiting = [(self._root, number)]
        while waiting:
            node, count = waiting.pop()
            if isinstance(node, int):
                result[node] = count
                continue
            left = int(node.taken(np.array([count]))[0])
            waiting += [(node.children[0], left), (node.children[1], count - left)]
        return result

    def numbers(self, sequence: int, places: Int64) -> Int64:
        """The other way round: which number stands at each place of a sequence, int64 [n]."""
        path = _path(self._root, sequence)
        assert path is not None
        for fork, right in reversed(path):
            places = fork.number_of(places, right)
        return places


def _path(node: _Fork | int, leaf: int) -> list[tuple[_Fork, bool]] | None:
    """The forks on the way to a leaf, and whether it lies to their right; None when it is not below."""
    if isinstance(node, int):
        return [] if node == leaf else None
    for right, child in enumerate(node.children):
        if (rest := _path(child, leaf)) is not None:
            return [(node, bool(right)), *rest]
    return None


def make_sampler(stream: TokenStream | Mixture, context_length: int, seed: int, *, same_windows: bool) -> Sampler:
    """The order in which training goes through a stream, or through a mixture of several.

    Args:
        same_windows: cut every epoch at the same places.
    """
    if isinstance(stream, Mixture):
        assert not same_windows, "the recipe refuses this before"
        return MixtureSampler(stream, context_length, seed)
    return WindowSampler(stream, context_length, seed, shift=not same_windows)
