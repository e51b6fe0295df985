"""Learning a BPE vocabulary from pretoken counts: the most frequent pair of tokens becomes a token, again and again.

    learn_merges(counts, size) -> Merges

Ties go to the pair with the smaller left id, then the smaller right id, as in Hugging Face's BpeTrainer, so the result
depends on the counts alone. A pair that occurs once is not learned. When the bytes of the chosen pair are a token
already (abc was a + bc, now ab + c is most frequent), that token is used and none is added: tiktoken goes by bytes too.

All distinct pretokens lie end to end in one array, a separator between them:

    position      0    1  2  3  4    5    6  7  8   …
    symbol[p]    SEP   th .  e  .   SEP   a  n  .       the token that starts at p (one that was swallowed: GONE)
    start[p]      0    1  1  3  3    5    6  7  7       at the last byte of a token: where that token starts

The token after the one at p starts at p + length[symbol[p]], the one before it at start[p - 1]. A merge is then a dozen
array operations over the places where the pair stands, which are found among the places of its rarer half. The heap
holds a pair as often as its count rose; an entry with an outdated count is put right when it comes up.
Counts are 64-bit: a count is at most the bytes of text read, so it cannot overflow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from heapq import heappop, heappush

import numpy as np
import numpy.typing as npt

from tilth.tokenizer.hf_format import byte_letters

Array = npt.NDArray[np.int64]

GONE = -1
_SHIFT = 48  # a heap entry is (-count << 48) + pair key: ordered by count, then left id, then right id


@dataclass
class Merges:
    """What was learned.

    Attributes:
        tokens: bytes of each id: the 256 bytes in GPT-2's order, then the learned ones.
        pairs: (left id, right id) of every merge, in order; one more than learned tokens for each reused token.
    """

    tokens: list[bytes] = field(default_factory=lambda: byte_tokens())
    pairs: list[tuple[int, int]] = field(default_factory=list)


def byte_tokens() -> list[bytes]:
    """The 256 bytes in GPT-2's order: sorted by the letter that stands for each in tokenizer.json."""
    return [bytes([value]) for value in sorted(range(256), key=byte_letters().__getitem__)]


def learn_merges(counts: Mapping[bytes, int], size: int) -> Merges:
    """Learns up to `size` tokens (256 bytes included); fewer when no pair occurs twice."""
    merges = Merges()
    known = {token: place for place, token in enumerate(merges.tokens)}
    corpus = _Corpus(counts, size)
    while len(merges.tokens) < size:
        pair = corpus.most_frequent()
        if pair is None:
            break
        left, right = pair
        joined = merges.tokens[left] + merges.tokens[right]
        token = known.setdefault(joined, len(merges.tokens))
        if token == len(merges.tokens):
            merges.tokens.append(joined)
        merges.pairs.append(pair)
        corpus.merge(left, right, token)
    return merges


class _Corpus:
    """The pretokens as tokens, and the count of every pair of neighbours."""

    def __init__(self, counts: Mapping[bytes, int], size: int) -> None:
        words = sorted(counts)
        lengths = np.array([len(word) for word in words], np.int64)
        self.separator = max(size, 256)  # an id that no token has
        self.base = self.separator + 1
        self.length = np.ones(self.base, np.int64)
        self.symbol = self._lay_out(words, lengths)
        self.weight = np.repeat(np.array([0, *map(counts.__getitem__, words)], np.int64), [1, *(lengths + 1).tolist()])
        self.start = np.arange(len(self.symbol))
        self.places = {token: np.flatnonzero(self.symbol == token) for token in range(256)}
        self.pairs: dict[int, int] = {}
        self.heap: list[int] = []
        self._count(self.symbol[:-1], self.symbol[1:], self.weight[1:])

    def _lay_out(self, words: list[bytes], lengths: Array) -> npt.NDArray[np.int32]:
        id_of_byte = np.empty(256, np.int32)
        id_of_byte[np.frombuffer(b"".join(byte_tokens()), np.uint8)] = np.arange(256)
        symbol = id_of_byte[np.frombuffer(b"\0" + b"".join(word + b"\0" for word in words), np.uint8)]
        symbol[0] = symbol[np.cumsum(lengths + 1)] = self.separator
        return symbol

    def most_frequent(self) -> tuple[int, int] | None:
        """The pair to merge next; None when no pair occurs twice."""
        while self.heap:
            entry = heappop(self.heap)
            count, key = -(entry >> _SHIFT), entry & ((1 << _SHIFT) - 1)
            now = self.pairs.get(key, 0)
            if now == count:
                return divmod(key, self.base)
            if 1 < now < count:  # when it rose instead, a newer entry says so
                heappush(self.heap, (-now << _SHIFT) + key)
        return None

    def merge(self, left: int, right: int, token: int) -> None:
        """Puts `token` for every `left right`, and counts the neighbours anew."""
        symbol, start = self.symbol, self.start
        self.length[token] = self.length[left] + self.length[right]
        first = self._find(left, right)
        second = first + self.length[left]
        after = second + self.length[right]
        # Where one pair directly follows another, the neighbours between them are counted with the latter.
        apart = np.ones(len(first), bool)
        apart[:-1] = after[:-1] != first[1:]
        weight, follower = self.weight[first], symbol[after[apart]]
        self._uncount(symbol[start[first - 1]], left, weight)
        self._uncount(right, follower, weight[apart])
        symbol[first], symbol[second] = token, GONE
        start[after - 1] = first
        self._settle_places(left, right, token, first)
        before = symbol[start[first - 1]]
        lefts = np.concatenate([before, np.full(len(follower), token, before.dtype)])
        rights = np.concatenate([np.full(len(before), token, before.dtype), follower])
        self._count(lefts, rights, np.concatenate([weight, weight[apart]]))
        self.pairs.pop(left * self.base + right, None)

    def _find(self, left: int, right: int) -> Array:
        """Where the pair stands, in ascending order, none overlapping the one before it."""
        first: Array
        if self._rarer(left, right) == left:
            first = self.places[left]
            first = first[self.symbol[first] == left]
            first = first[self.symbol[first + self.length[left]] == right]
        else:
            second = self.places[right]
            first = self.start[second[self.symbol[second] == right] - 1]
            first = first[self.symbol[first] == left]
        return _every_other(first, int(self.length[left])) if left == right else first

    def _settle_places(self, left: int, right: int, token: int, first: Array) -> None:
        """Notes where the new token stands; of its halves only the list just read is cleared, the other when it is."""
        rarer = self._rarer(left, right)
        self.places[rarer] = self.places[rarer][self.symbol[self.places[rarer]] == rarer]
        before = self.places.get(token)
        self.places[token] = first if before is None else np.sort(np.concatenate([before, first]))

    def _rarer(self, left: int, right: int) -> int:
        return left if len(self.places[left]) <= len(self.places[right]) else right

    def _uncount(self, lefts: npt.NDArray[np.int32] | int, rights: npt.NDArray[np.int32] | int, weight: Array) -> None:
        keys, sums = self._grouped(lefts, rights, weight)
        for key, lost in zip(keys, sums, strict=True):
            rest = self.pairs[key] - lost
            if rest:
                self.pairs[key] = rest
            else:
                del self.pairs[key]

    def _count(self, lefts: npt.NDArray[np.int32], rights: npt.NDArray[np.int32], weight: Array) -> None:
        pairs, heap = self.pairs, self.heap
        for key, gained in zip(*self._grouped(lefts, rights, weight), strict=True):
            count = pairs[key] = pairs.get(key, 0) + gained
            if count > 1:
                heappush(heap, (-count << _SHIFT) + key)

    def _grouped(
        self, lefts: npt.NDArray[np.int32] | int, rights: npt.NDArray[np.int32] | int, weight: Array
    ) -> tuple[list[int], list[int]]:
        """Distinct pairs as keys, separators left out, and the sum of weights of each."""
        keys = np.multiply(lefts, self.base, dtype=np.int64) + rights
        inside = np.not_equal(lefts, self.separator) & np.not_equal(rights, self.separator)
        keys, weight = keys[inside], weight[inside]
        if not len(keys):
            return [], []
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        heads = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
        return keys[heads].tolist(), np.add.reduceat(weight[order], heads).tolist()


def _every_other(first: Array, length: int) -> Array:
    """Of places in a row at distance `length` (`aaaa`: three pairs), the first, third, fifth …, as one reads."""
    place = np.arange(len(first))
    heads = np.ones(len(first), bool)
    heads[1:] = first[1:] - first[:-1] != length
    since = place - np.maximum.accumulate(np.where(heads, place, 0))
    kept: Array = first[since % 2 == 0]
    return kept
