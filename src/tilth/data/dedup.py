"""Which documents go because others hold the same text, and which belong together.

    digest(text), first_of_each(digests)       exact: the first in the order of the sources stays
    preference(characters, doc_ids)            near: the order in which texts are preferred
    choose(pairs, similarities, total)         near: who goes, and for whom
    components(pairs, total)                   who belongs together

A near-duplicate goes only when a text that stays was compared with it and is similar enough: being like a text that is
like another is not enough, so that no chain of small steps empties a source. The outcome depends on the texts and on
nothing else, whatever order they come in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from tilth.data.minhash import MinHashConfig

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
    """Which one stays: the longest (of equally long ones that with the smaller id), or the first in the order of the
    sources."""
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


def preference(characters: I64, doc_ids: Sequence[str], keep: Literal["longest", "first"]) -> I64:
    """The place of each document in the order in which documents are preferred [n], 0 for the best."""
    order = np.arange(len(characters)) if keep == "first" else np.lexsort((np.asarray(doc_ids), -characters))
    places = np.empty(len(order), np.int64)
    places[order] = np.arange(len(order))
    return places


def choose(pairs: I64, similarities: F64, places: I64) -> tuple[I64, F64]:
    """For each document the one that it goes for, or itself when it stays [n]; and how similar the two are [n].

    Documents are looked at in the order of preference. One goes when a pair ties it to one that stays.

    Args:
        pairs: [P, 2] of documents that are similar enough, the preferred one first.
        similarities: of the pairs [P].
        places: of `preference` [n].
    """
    stays_for, values = np.arange(len(places)), np.ones(len(places))
    # By the second document's place; among its pairs the most similar first, then the preferred.
    order = np.lexsort((places[pairs[:, 0]], -similarities, places[pairs[:, 1]]))
    for start in range(0, len(order), _PAIRS_AT_ONCE):
        some = order[start : start + _PAIRS_AT_ONCE]
        for first, second, value in zip(*pairs[some].T.tolist(), similarities[some].tolist(), strict=True):
            if stays_for[second] == second and stays_for[first] == first:
                stays_for[second], values[second] = first, value
    return stays_for, values


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
