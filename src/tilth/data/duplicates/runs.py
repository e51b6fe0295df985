"""Sorted runs of hashes merged a range at a time: what is counted over the whole corpus, in bounded memory.

    merged(keys, columns) -> pieces      each the rows of all runs whose keys lie in one range, sorted by key
    NumbersOnDisk(path, numbers)         a run of numbers that are no hashes
    merged_numbers(runs, at_once)        all of several such runs, each once
    distinct(numbers)                    sorted, each once

The keys are hashes, and so spread evenly: cut at equal steps of 2^64, the ranges are of about the same size. Runs may
be arrays that are mapped into memory; of each only the range that is merged is touched.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tilth.data.words import I64, U64

ROWS_AT_ONCE = 1 << 22
_STEP = 1 << 12


class Piece(NamedTuple):
    """Rows of several runs, sorted by key; those of equal keys in the order of the runs, and in each in its order.

    Attributes:
        keys: [N].
        runs: which run a row comes from [N].
        columns: the values that stand beside the keys, each [N].
    """

    keys: U64
    runs: I64
    columns: list[npt.NDArray[Any]]

    @property
    def firsts(self) -> I64:
        """Where each key begins, and the number of rows: [distinct keys + 1]."""
        changes = np.concatenate([[True], self.keys[1:] != self.keys[:-1], [True]])
        return np.flatnonzero(changes) if len(self.keys) else np.zeros(1, np.int64)


def merged(
    keys: Sequence[U64], columns: Sequence[Sequence[npt.NDArray[Any]]], rows_at_once: int = ROWS_AT_ONCE
) -> Iterator[Piece]:
    """The rows of runs, range of keys by range, together in rising order.

    Args:
        keys: of each run, sorted.
        columns: of each run, the arrays that stand beside its keys.
        rows_at_once: about so many rows make a piece.
    """
    ranges = max(1, -(-sum(map(len, keys)) // rows_at_once))
    inner = np.array([number * 2**64 // ranges for number in range(1, ranges)], np.uint64)
    borders = [np.concatenate([[0], np.searchsorted(run, inner), [len(run)]]).astype(np.int64) for run in keys]
    for number in range(ranges):
        spans = [slice(int(own[number]), int(own[number + 1])) for own in borders]
        sizes = [span.stop - span.start for span in spans]
        joined = np.concatenate([run[span] for run, span in zip(keys, spans, strict=True)])
        order = np.argsort(joined, kind="stable")
        beside = [
            np.concatenate([own[place][span] for own, span in zip(columns, spans, strict=True)])[order]
            for place in range(len(columns[0]))
        ]
        yield Piece(joined[order], np.repeat(np.arange(len(keys)), sizes)[order], beside)


def distinct(numbers: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The different ones, rising. (`np.unique` looks each up in a hash table, which takes many times as long as to sort
    them.)
    """
    ordered: npt.NDArray[Any] = np.sort(numbers)
    fresh = np.append(True, ordered[1:] != ordered[:-1])[: len(ordered)]
    return ordered if fresh.all() else ordered[fresh]


class NumbersOnDisk:
    """Sorted numbers in a file, of which ranges are read. (Of a file that is mapped, every page that was looked at
    counts as this process's memory.)
    """

    def __init__(self, path: Path, numbers: I64) -> None:
        numbers.tofile(path)
        self._path, self._length = path, len(numbers)
        self.sample = numbers[::_STEP].copy()

    def __len__(self) -> int:
        return self._length

    def read(self, start: int, stop: int) -> I64:
        """Some of them."""
        return np.fromfile(self._path, np.int64, max(0, stop - start), offset=8 * start)

    def smaller(self, number: int) -> int:
        """How many are smaller."""
        block = max(0, int(np.searchsorted(self.sample, number)) - 1) * _STEP
        return block + int(np.searchsorted(self.read(block, min(block + _STEP, self._length)), number))


def merged_numbers(runs: Sequence[NumbersOnDisk], at_once: int) -> Iterator[I64]:
    """The different numbers of several runs, rising, about `at_once` at a time."""
    pieces = max(1, -(-sum(map(len, runs)) // at_once))
    sample = np.sort(np.concatenate([np.empty(0, np.int64), *(run.sample for run in runs)]))
    inner = [int(sample[len(sample) * number // pieces]) for number in range(1, pieces)]
    borders = [[0, *map(run.smaller, inner), len(run)] for run in runs]
    for number in range(pieces):
        spans = (run.read(*own[number : number + 2]) for run, own in zip(runs, borders, strict=True))
        yield distinct(np.concatenate([np.empty(0, np.int64), *spans]))
