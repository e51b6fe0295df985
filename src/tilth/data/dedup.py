"""Exact deduplication: of documents with the same text, the first in the order of the sources stays."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

DIGEST = np.dtype([("high", "<u8"), ("low", "<u8")])


def digest(text: str) -> bytes:
    """128 bits of the text; two different texts share them with odds of n² / 2^129 among n."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def first_of_each(digests: npt.NDArray[np.void]) -> npt.NDArray[np.int64]:
    """For each digest [n] the index of the first equal one [n]: a document is a duplicate when that is not itself."""
    _, first, inverse = np.unique(digests, return_index=True, return_inverse=True)
    return first[inverse].astype(np.int64)
