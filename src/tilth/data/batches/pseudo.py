"""One token hidden at a time, all others seen: what the pseudo-perplexity of a masked language model is made of.

Salazar et al. 2020 (arXiv:1910.14659), equations 1 and 2: the model is asked for each token of a text with that one
replaced by the mask token; exp of the mean negative log-likelihood is the pseudo-perplexity. A token costs a pass over
its whole row, so a bounded number of them is asked about: those that a fixed draw names, the same in every evaluation.
Special tokens are not asked about.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from tilth.core.random import Permutation, derive_seed
from tilth.data.batches.batch import IGNORE, Batch, Int64
from tilth.data.batches.masking import Bool, Masker, padded_windows, unpadded
from tilth.data.shards import TokenStream

_PIECE = 1 << 16


def drawn_places(stream: TokenStream, special: Bool, most: int) -> Int64:
    """Places of at most `most` ordinary tokens of a stream, rising; all of them where it has no more."""
    order = Permutation(stream.tokens, derive_seed(0, "pseudo-perplexity"))
    found, missing = [np.empty(0, np.int64)], most
    for first in range(0, stream.tokens, _PIECE):
        places = order(np.arange(first, min(first + _PIECE, stream.tokens), dtype=np.int64))
        found.append(places[~special[stream.take(places)]][:missing])
        missing -= len(found[-1])
        if not missing:
            break
    return np.sort(np.concatenate(found))


def one_hidden_pass(
    stream: TokenStream, context_length: int, rows: int, masker: Masker, isolate: bool, places: Int64
) -> Iterator[Batch]:
    """For each of these places the window that holds it, in which it alone is hidden and bears loss."""
    for first in range(0, len(places), rows):
        windows, columns = np.divmod(places[first : first + rows], context_length)
        batch = padded_windows(stream, context_length, windows, isolate)
        here = np.arange(len(windows)), columns
        input_ids, labels = batch.input_ids.copy(), np.full_like(batch.labels, IGNORE)
        labels[here], input_ids[here] = input_ids[here], masker.mask_token
        yield from unpadded(replace(batch, input_ids=input_ids, labels=labels), stream)
