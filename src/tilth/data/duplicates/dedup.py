"""Which documents go because others hold the same text, and which belong together.

    digest(text), first_of_each(digests)       exact: the first in the order of the sources stays
    Choice(documents).add(pairs, …)            near: who goes, and for whom, and who belongs together
    components(pairs, total)                   who belongs together

A near-duplicate goes only when a text that stays was compared with it and is similar enough: being like a text that is
like another is not enough, so that no chain of small steps empties a source. The outcome depends on the texts and on
nothing else, whatever order they come in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from tilth.data.duplicates.minhash import MinHashConfig

DIGEST_BYTES = 16
DIGEST = np.dtype([("high", "<u8"), ("low", "<u8")])
I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]
_PAIRS_AT_ONCE = 1 << 16  # as objects they take ten times their memory
MOST_OF_A_SOURCE = 0.5
"""The share of its documents that a source may lose."""


class NearConfig(MinHashConfig):
    """How near-duplicates are found, and what becomes of them."""

    threshold: float = Field(default=0.75, gt=0, le=1)
    """The Jaccard similarity of the word n-grams from which on two documents are near-duplicates; 0.75 as FineWeb means
    (Penedo et al. 2024, section 3.4)."""
    keep: Literal["longest", "first"] = "longest"
    """Which one stays: the longest (of equally long ones that with the smaller hash of its text), or the first in the
    order of the sources."""
    most_of_a_source: float = Field(default=MOST_OF_A_SOURCE, gt=0, le=1)
    """The run stops when a source would lose more than this share of its documents (and at least 20), exact copies
    among them. `deduplicate: exact` names such a source (at 0.5) and goes on; 1: nothing stops it."""


def digest(text: bytes) -> bytes:
    """128 bits of a text in UTF-8; two different texts share them with odds of n² / 2^129 among n."""
    return hashlib.blake2b(text, digest_size=DIGEST_BYTES).digest()


def first_of_each(digests: npt.NDArray[np.void]) -> I64:
    """For each digest [n] the index of the first equal one [n]: a document is a duplicate when that is not itself."""
    high, low = digests["high"], digests["low"]
    order = np.argsort(high, kind="stable")  # of equal ones the first comes first
    same_high = high[order[1:]] == high[order[:-1]]
    if (low[order[1:]] != low[order[:-1]])[same_high].any():  # never by chance
        order = np.lexsort((low, high))
        same_high = high[order[1:]] == high[order[:-1]]
    fresh = np.concatenate([[True], ~(same_high & (low[order[1:]] == low[order[:-1]]))])[: len(order)]
    first = np.empty(len(order), np.int64)
    first[order] = order[fresh][np.cumsum(fresh) - 1]
    return first


class Choice:
    """Who goes, and who belongs together, of documents whose pairs come by in the order of preference.

    Documents are looked at in that order. One goes when a pair ties it to one that stays: to the one that it is most
    similar to, of equally similar ones to the preferred one.

    Attributes:
        stays_for: for each document the one that it goes for, or itself [n].
        values: how similar the two are [n].
        compared: pairs so far.
    """

    def __init__(self, documents: int, *, drop: bool = True) -> None:
        self.stays_for, self.values, self.compared = np.arange(documents), np.ones(documents), 0
        self._drop = drop
        self._parents = np.arange(documents)

    def add(self, pairs: I64, similarity: Callable[[I64], F64], threshold: float) -> None:
        """More pairs [P, 2]; those of one second document all together, by the places of the second, then the first, in
        the order of preference.

        Args:
            similarity: of some of the pairs; asked only where it can matter. A document that goes decides about nobody,
                and two that belong together do so already.
            threshold: from which on two documents are near-duplicates.
        """

        def near(places: I64) -> tuple[I64, F64]:
            values = similarity(pairs[places])
            self.compared += len(places)
            close = values >= threshold
            return places[close], values[close]

        first = pairs[:, 0]
        decides = (self.stays_for[first] == first) & self._drop
        open_ = np.isin(first, pairs[:, 1])  # whether the first one stays is decided by these very pairs
        close, values = near(np.flatnonzero(decides & ~open_))
        decides &= ~(open_ & np.isin(first, pairs[close, 1]))
        further, their_values = near(np.flatnonzero(decides & open_))
        close, values = np.concatenate([close, further]), np.concatenate([values, their_values])
        order = np.argsort(close)
        self._decide(pairs[close[order]], values[order])
        self._tie(pairs[close])
        others = np.flatnonzero(~decides)
        roots = self._roots(pairs[others])
        self._tie(pairs[near(others[roots[:, 0] != roots[:, 1]])[0]])

    def _decide(self, pairs: I64, similarities: F64) -> None:
        runs = np.cumsum(np.append(False, pairs[1:, 1] != pairs[:-1, 1])[: len(pairs)])
        order = np.lexsort((-similarities, runs))  # of equally similar ones the preferred comes first, as it came
        for start in range(0, len(order), _PAIRS_AT_ONCE):
            some = order[start : start + _PAIRS_AT_ONCE]
            for first, second, value in zip(*pairs[some].T.tolist(), similarities[some].tolist(), strict=True):
                if self.stays_for[second] == second and self.stays_for[first] == first:
                    self.stays_for[second], self.values[second] = first, value

    def _tie(self, pairs: I64) -> None:
        roots = self._roots(pairs)
        roots = roots[roots[:, 0] != roots[:, 1]]
        numbers, own = np.unique(roots, return_inverse=True)
        self._parents[numbers] = numbers[components(own.reshape(-1, 2), len(numbers))]

    def _roots(self, documents: I64) -> I64:
        roots = self._parents[documents]
        while len(roots) and ((above := self._parents[roots]) != roots).any():
            roots = above
        self._parents[documents] = roots  # the way is short the next time
        return roots

    def goes(self) -> I64:
        """The documents that go, rising."""
        return np.flatnonzero(self.stays_for != np.arange(len(self.stays_for)))

    def ties(self) -> I64:
        """Pairs that tie all that belong together, over any number of steps [T, 2]."""
        roots = self._roots(np.arange(len(self._parents)))
        tied = np.flatnonzero(roots != np.arange(len(roots)))
        return np.stack([roots[tied], tied], axis=1)


def components(pairs: I64, total: int) -> I64:
    """For each document the smallest number of those that pairs tie it to, over any number of steps [total]."""
    labels = np.arange(total)
    while len(pairs):  # each round halves the longest way at least: labels jump to the label of their label
        low = np.minimum(labels[pairs[:, 0]], labels[pairs[:, 1]])
        before = labels.copy()
        for side in (0, 1):
            np.minimum.at(labels, labels[pairs[:, side]], low)
            np.minimum.at(labels, pairs[:, side], low)
        labels = labels[labels]
        if (before == labels).all():
            break
    return labels
