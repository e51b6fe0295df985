"""One sequence of numbers dealt out to several, in proportions that hold for every prefix; and back.

Interleaving(shares, key)(numbers)       the sequence of each number, and its place there
Interleaving.numbers(sequence, places)   which number stands at each place of a sequence
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, final

import numpy as np
import numpy.typing as npt

from tilth.core.random import derive_seed

Int64 = npt.NDArray[np.int64]


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
