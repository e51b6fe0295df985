"""What the documents of a split are as tokens: one pass over its shards, a million tokens at a time.

    read_split(stream, …) -> SplitFacts

Equal documents are found by a 64-bit hash: the sum, over their tokens, of a random number of the id times a random odd
number of the place, and their length. That two of a million different ones have the same is less likely than one in ten
million. Beyond `PERIOD` tokens the numbers of places come again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tilth.core.random import derive_seed, draws
from tilth.data.batches.batch import Int64
from tilth.data.shards import Shard, TokenStream

AT_ONCE = 1 << 20
"""Tokens."""
PERIOD = 1 << 20
MOST_TOKENS = 1 << 30
"""Of a split: of a larger one the first shards are read, and it is said how much that is."""

Bool = npt.NDArray[np.bool_]
U64 = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class SplitFacts:
    """The documents of a split, as far as they were read: the first of them, all but in the largest splits.

    Attributes:
        documents, tokens: of the split.
        lengths: tokens of each document that was read, int64 [n].
        trained: those of them that training predicts, int64 [n].
        keys: equal for equal tokens, uint64 [n].
        endless: whether an answer (or the text) does not end with a token that is trained and ends answers, bool [n].
        bare: answers that are nothing but the token that ends them.
        used: how often each id occurs, int64 [at least V].
        frame: tokens of a document without text.
    """

    documents: int
    tokens: int
    lengths: Int64
    trained: Int64
    keys: U64
    endless: Bool
    bare: int
    used: Int64
    frame: int = 1

    @property
    def empty(self) -> Bool:
        """Which documents hold nothing, bool [n]."""
        return self.lengths <= self.frame

    @property
    def read(self) -> int:
        """Tokens that were read."""
        return int(self.lengths.sum())

    @property
    def duplicates(self) -> int:
        """Documents whose tokens are those of an earlier one."""
        return len(self.keys) - len(np.unique(self.keys))

    @property
    def largest_id(self) -> int:
        """The largest id that occurs; -1 where there is none."""
        return int(np.flatnonzero(self.used)[-1]) if self.used.any() else -1

    def in_common_with(self, other: SplitFacts) -> Bool:
        """Which documents have the tokens of one of another split, bool [n]."""
        return np.isin(self.keys, other.keys)


def read_split(
    stream: TokenStream,
    vocab_size: int,
    ends: set[int],
    *,
    whole: bool = False,
    most: int = MOST_TOKENS,
    frame: int = 1,
) -> SplitFacts:
    """The facts of a split.

    Args:
        ends: ids that end an answer.
        whole: every token of a document is trained, so that answers are not told apart: one trained end in it will do.
        most: tokens to read at most; shards are read whole.
        frame: of a document without text.
    """
    tables, parts, left = _Tables(vocab_size, ends), list[_Documents](), most
    for shard in stream.shards:
        if left <= 0:
            break
        parts.append(_read_shard(shard, tables, whole))
        left -= shard.tokens
    lengths, trained, keys, endless = (
        np.concatenate([np.empty(0, dtype), *(getattr(part, name) for part in parts)])
        for name, dtype in (("lengths", np.int64), ("trained", np.int64), ("keys", np.uint64), ("endless", np.bool_))
    )
    bare = 0 if whole else sum(part.bare for part in parts)
    return SplitFacts(stream.documents, stream.tokens, lengths, trained, keys, endless, bare, tables.used, frame)


class _Tables:
    """What is looked up by id and by place, and how often each id was seen."""

    def __init__(self, vocab_size: int, ends: set[int]) -> None:
        self.of_id = draws([derive_seed(0, "preflight/id")], vocab_size)[0]
        self.of_place = draws([derive_seed(0, "preflight/place")], PERIOD)[0] | np.uint64(1)
        self.ends = np.zeros(vocab_size, np.bool_)
        self.ends[[end for end in ends if end < vocab_size]] = True
        self.used = np.zeros(vocab_size, np.int64)

    def count(self, tokens: Int64) -> None:
        """Ids beyond the vocabulary are counted as well: they are what is looked for."""
        found = np.bincount(tokens, minlength=len(self.used))
        found[: len(self.used)] += self.used
        self.used = found


@dataclass(slots=True)
class _Documents:
    """What is gathered of each document of a shard, piece by piece.

    Attributes:
        open_ends: stretches of trained tokens that no end closes.
        ends: trained tokens that end an answer.
        bare: stretches of trained tokens that begin with one, in all.
    """

    lengths: Int64
    trained: Int64
    keys: U64
    open_ends: Int64
    ends: Int64
    endless: Bool
    bare: int = 0


def _read_shard(shard: Shard, tables: _Tables, whole: bool) -> _Documents:
    offsets = shard.offsets
    trained, open_ends, ends = (np.zeros(shard.documents, np.int64) for _ in range(3))
    keys = np.zeros(shard.documents, np.uint64)
    found = _Documents(np.diff(offsets), trained, keys, open_ends, ends, trained > 0)
    for first in range(0, shard.tokens, AT_ONCE):
        _read_piece(shard, first, min(first + AT_ONCE, shard.tokens), tables, found)
    found.keys ^= found.lengths.astype(np.uint64) * tables.of_place[-1]
    found.endless = found.ends == 0 if whole else (found.open_ends > 0) | (found.trained == 0)
    return found


def _read_piece(shard: Shard, first: int, stop: int, tables: _Tables, found: _Documents) -> None:
    offsets = shard.offsets
    own = slice(int(np.searchsorted(offsets, first, "right")) - 1, int(np.searchsorted(offsets, stop, "left")))
    begins = np.maximum(offsets[own], first) - first
    tokens = shard.read(first, stop).astype(np.int64)
    tables.count(tokens)
    places = np.arange(first, stop) - np.repeat(offsets[own], np.diff(begins, append=stop - first))
    numbers = np.take(tables.of_id, tokens, mode="clip") * tables.of_place[places & (PERIOD - 1)]
    found.keys[own] += np.add.reduceat(numbers, begins)
    around, last = _marks(shard, first - 1, stop + 1), np.take(tables.ends, tokens, mode="clip")
    comes_from, trained, goes_on = around[:-2].copy(), around[1:-1], around[2:].copy()
    comes_from[begins[offsets[own] >= first]] = False
    borders = offsets[own.start + 1 : own.stop + 1]
    goes_on[borders[borders <= stop] - 1 - first] = False
    found.trained[own] += np.add.reduceat(trained, begins, dtype=np.int64)
    found.open_ends[own] += np.add.reduceat(trained & ~goes_on & ~last, begins, dtype=np.int64)
    found.ends[own] += np.add.reduceat(trained & last, begins, dtype=np.int64)
    found.bare += int((trained & last & ~comes_from).sum()) if shard.has_mask else 0


def _marks(shard: Shard, first: int, stop: int) -> Bool:
    """What is trained of some places; nothing before the shard and behind it."""
    marks, inside = np.zeros(stop - first, np.bool_), slice(max(first, 0), min(stop, shard.tokens))
    own = slice(inside.start - first, inside.stop - first)
    marks[own] = shard.mask()[inside].astype(np.bool_) if shard.has_mask else True
    return marks
