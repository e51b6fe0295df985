"""MinHash: which texts may be near-duplicates, found without comparing all with all.

    MinHash(config).bands(texts) -> [D, keys]      a hash of each band of every text's signature
    sharing(hashes) -> first, second               pairs of texts that share one band, some at a time
    shingles(texts, n) -> sorted hashes, counts    what the real similarity is computed from
    jaccard(a, b) -> float

A signature holds, for each of bands x rows hash functions, the smallest hash over the text's word n-grams: two texts
agree in one with the probability of their Jaccard similarity J (Broder 1997). Cut into bands of `rows`, two texts share
a whole band with probability 1 - (1 - J^rows)^bands (Leskovec, Rajaraman and Ullman, "Mining of Massive Datasets",
3.4): 92% at J = 0.8 for 14 x 8. What shares a band is a candidate, no more: whoever drops a text compares the real
similarity first. That makes it cheap to look at more candidates: the same signature is cut into bands several times,
each time in another order of its hashes (92% become 99% with three cuts, no hash is computed twice).

The hash functions are a_i x mod 2^32 with odd a_i, over the high half x of the hashes of n-grams that `words.py` makes:
which of two is smaller, their high bits say, and these depend on all bits of x (Dietzfelbinger et al. 1997). x being
random itself, a number added to the product would make nothing more so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cache

import numpy as np
from pydantic import Field

from tilth.core.config import Config
from tilth.core.random import Permutation, derive_seed
from tilth.data import words
from tilth.data.words import I64, U32, U64, AnyText

_BLOCK, _TOGETHER = 1 << 14, 4  # n-grams, and functions of them, at a time: what is computed on stays in the cache
_ALL_PAIRS = 64  # so many texts that share a band are all compared with each other; of more, each with the preferred
_NEIGHBOURS = 4  # one and with so many neighbours: what very many share is boilerplate, and pairs would grow squarely
_PAIRS_AT_ONCE = 1 << 18
_ROW_FACTOR = np.uint64(0x9E3779B97F4A7C15)  # odd: a polynomial in it tells the rows of a band apart


class MinHashConfig(Config):
    """How near-duplicates are looked for."""

    ngram: int = Field(default=5, ge=1, le=50)
    """Words in a row that are compared as one."""
    bands: int = Field(default=14, ge=1, le=256)
    """More bands find less similar texts, and more pairs that are none."""
    rows: int = Field(default=8, ge=1, le=64)
    """Hashes to a band: more make candidates rarer and surer."""
    cuts: int = Field(default=3, ge=1, le=16)
    """How often a signature is cut into bands, each time in another order."""

    @property
    def keys(self) -> int:
        """Bands of all cuts."""
        return self.bands * self.cuts


class MinHash:
    """Signatures of texts, band by band."""

    def __init__(self, config: MinHashConfig) -> None:
        self.config = config
        self._factors = _factors(config.bands * config.rows)
        self._orders = _orders(config.bands * config.rows, config.cuts)

    def bands(self, texts: Sequence[AnyText]) -> U64:
        """A hash of each band of each cut [D, keys]; 0 in all of a text without a word, which is like no other.

        Args:
            texts: as they are, or as UTF-8.
        """
        parts = [
            self._bands(words.ngrams(words.hash_words(batch), self.config.ngram)) for batch in words.batches(texts)
        ]
        return np.concatenate(parts) if parts else np.empty((0, self.config.keys), np.uint64)

    def _bands(self, grams: words.Hashes) -> U64:
        signature = self._signature(grams)
        cuts = [self._cut(signature[:, order]) for order in self._orders]
        hashes = np.concatenate(cuts, axis=1)
        hashes[np.flatnonzero(np.diff(grams.offsets) == 0)] = 0
        return hashes

    def _cut(self, signature: U32) -> U64:
        rows = signature.reshape(-1, self.config.bands, self.config.rows).astype(np.uint64)
        hashes = np.zeros(rows.shape[:2], np.uint64)
        for row in range(self.config.rows):
            hashes = hashes * _ROW_FACTOR + rows[:, :, row]
        return words.mix(hashes)

    def _signature(self, grams: words.Hashes) -> U32:
        """The smallest hash of each function over the n-grams of each text, uint32 [D, functions]."""
        texts = len(grams.offsets) - 1
        smallest = np.full((len(self._factors), texts), np.uint32(0xFFFFFFFF))
        for owners, hashes, starts in _blocks(grams):
            least = np.empty((len(self._factors), len(owners)), np.uint32)
            for first in range(0, len(self._factors), _TOGETHER):
                some = slice(first, first + _TOGETHER)
                np.minimum.reduceat(hashes * self._factors[some, None], starts, axis=1, out=least[some])
            smallest[:, owners] = np.minimum(smallest[:, owners], least)
        return np.ascontiguousarray(smallest.T)


@cache
def _factors(count: int) -> U32:
    """The factors of so many hash functions."""
    return np.array([derive_seed(0, "minhash/a", n) >> 32 | 1 for n in range(count)], np.uint32)


@cache
def _orders(functions: int, cuts: int) -> list[I64]:
    """The order of a signature's hashes for each cut."""
    drawn = (Permutation(functions, derive_seed(0, "minhash/cut", cut)) for cut in range(1, cuts))
    return [np.arange(functions), *(order(np.arange(functions)) for order in drawn)]


def _blocks(grams: words.Hashes) -> Iterator[tuple[I64, U32, I64]]:
    """The n-grams in blocks: the texts that have some in it [t], the high halves of their hashes, and where each
    text's begin [t].
    """
    filled = np.flatnonzero(np.diff(grams.offsets))
    starts = grams.offsets[filled]
    for start in range(0, len(grams.hashes), _BLOCK):
        stop = min(start + _BLOCK, len(grams.hashes))
        first = int(np.searchsorted(starts, start, side="right")) - 1
        last = int(np.searchsorted(starts, stop, side="left"))
        high = (grams.hashes[start:stop] >> np.uint64(32)).astype(np.uint32)
        yield filled[first:last], high, np.maximum(starts[first:last] - start, 0)


def sharing(hashes: U64) -> Iterator[tuple[I64, I64]]:
    """Pairs of places i < j with equal hashes, some at a time: [P] and [P]; a few stand there twice.

    Args:
        hashes: of one band of all texts [D], as `MinHash.bands` gives them, the preferred text first; 0 is like no
            other.

    Of texts that share a band all pairs are given, where they are not more than 64; else each with the first, and with
    four neighbours in the order of preference.
    """
    order = np.argsort(hashes, kind="stable")
    ordered = hashes[order]
    borders = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1], [True]]))
    sizes = np.diff(borders)
    several = np.flatnonzero(sizes > 1)
    several = several[ordered[borders[several]] != 0]
    starts, sizes = borders[several], sizes[several]
    for size in np.unique(sizes).tolist():
        own = starts[sizes == size, None]
        for first, second in _within(size):
            step = max(1, _PAIRS_AT_ONCE // len(first))
            for some in range(0, len(own), step):
                yield order[own[some : some + step] + first].ravel(), order[own[some : some + step] + second].ravel()


def _within(size: int) -> Iterator[tuple[I64, I64]]:
    """Which of so many texts that share a band make pairs: their places, the preferred one first."""
    if size <= _ALL_PAIRS:
        yield np.triu_indices(size, 1)
        return
    for start in range(1, size, _PAIRS_AT_ONCE):
        second = np.arange(start, min(start + _PAIRS_AT_ONCE, size))
        yield np.zeros_like(second), second
        for gap in range(1, _NEIGHBOURS + 1):
            yield second[second > gap] - gap, second[second > gap]


def shingles(texts: Iterable[AnyText], n: int) -> Iterator[tuple[U64, I64]]:
    """The distinct n-grams of texts, as sorted hashes: for each batch of texts all of them, text after text, and how
    many each has.
    """
    for batch in words.batches(texts):
        grams = words.ngrams(words.hash_words(batch), n)
        hashes, counts = grams.hashes, np.diff(grams.offsets)
        for start, end in zip(grams.offsets[:-1].tolist(), grams.offsets[1:].tolist(), strict=True):
            hashes[start:end].sort()
        owners = np.repeat(np.arange(len(batch)), counts)
        again = (hashes[1:] == hashes[:-1]) & (owners[1:] == owners[:-1])
        first = np.concatenate([[True], ~again]) if len(hashes) else np.empty(0, bool)
        yield hashes[first], np.bincount(owners[first], minlength=len(batch))


def jaccard(a: U64, b: U64) -> float:
    """|A and B| / |A or B| of two sorted sets of hashes; 0 for two empty ones."""
    common = common_count(a, b)
    return common / (len(a) + len(b) - common) if common else 0.0


def common_count(a: U64, b: U64) -> int:
    """|A and B| of two sorted sets of hashes."""
    if not len(a) or not len(b):
        return 0
    small, large = (a, b) if len(a) <= len(b) else (b, a)
    places = large.searchsorted(small)  # the methods: half of the time of so few numbers goes into numpy's functions
    return int(np.count_nonzero(large.take(places, mode="clip") == small))


def common_counts(hashes: U64, starts: I64, sizes: I64) -> I64:
    """|A and B| of many pairs of small sets at once [P].

    Args:
        hashes: in which all sets lie.
        starts, sizes: where the two sets of each pair lie [P, 2].
    """
    pairs, total = len(sizes), sizes.sum(axis=1)
    own = np.repeat(np.arange(pairs), total)
    flat_sizes = sizes.ravel()
    begins = np.cumsum(flat_sizes) - flat_sizes
    at = np.arange(int(total.sum())) + np.repeat(starts.ravel() - begins, flat_sizes)
    # A hash of (pair, n-gram): what stands twice is common to the two sets of that pair, for within a set all differ.
    keys = words.mix(hashes[at] ^ words.mix(own.astype(np.uint64)))
    order = np.argsort(keys)
    twice = keys[order[1:]] == keys[order[:-1]]
    return np.bincount(own[order[1:][twice]], minlength=pairs)
