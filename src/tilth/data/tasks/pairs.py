"""The tasks that say which documents are to be compared with each other, and what they are compared by.

    candidates    signatures    -> pairs.bin: pairs of documents; rows-NNNNN.bin: which those are, for each part
    shingles      one part      -> the sets of n-grams of its candidates

    stretches(folder)           the pairs, some at a time, in the order in which `near` decides
    Sets(listed, shingled)      the sets, and how similar two of them are

Where very many documents are alike there are hundreds of pairs for each: so they are never in memory all at once, and
those of a document stand together, after those of all that are preferred to it. So each can be decided when its pairs
come by.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tilth.core import progress
from tilth.core.config import fingerprint
from tilth.data.document import encoded_texts
from tilth.data.duplicates import minhash
from tilth.data.duplicates.dedup import F64, I64, NearConfig
from tilth.data.duplicates.minhash import MinHashConfig
from tilth.data.duplicates.runs import NumbersOnDisk, distinct, merged_numbers
from tilth.data.tasks.corpus import Corpus
from tilth.data.tasks.parts import Part, verified_array, verified_file
from tilth.data.tasks.ranges import Numbers, aside, numbered, of_bands, places
from tilth.data.words import U64

VERSIONS = {"candidates": 5, "shingles": 4}
PAIRS = "pairs.bin"
HELD = 1 << 22
"""Pairs that are in memory at a time."""
STRETCH = 1 << 15
"""About so many pairs are decided together: the fewer, the sooner it shows which need not be compared."""
_SMALL = 64  # n-grams of a pair: so few are compared faster many pairs at a time than pair by pair
_CHUNK = 20_000  # pairs


def candidates(
    folder: Path, digests: Sequence[Path], signatures: Sequence[Path], drops: Path | None, config: NearConfig
) -> dict[str, Any]:
    """Pairs of documents that share a band of their signatures, exact duplicates left out; the preferred one first."""
    corpus = Corpus(digests)
    gone = corpus.gone([drops])
    order = places(corpus, folder) if config.keep == "longest" else numbered(0, len(corpus), len(corpus))
    progress.expect(config.keys)

    with aside(folder, "pairs.tmp") as place:
        pairs = _Pairs(place)

        def sharing(numbers: Numbers, hashes: U64) -> None:
            own = order[numbers].astype(np.int64)
            ranked = np.argsort(own)
            own = own[ranked]
            for first, second in minhash.sharing(hashes[ranked]):
                pairs.add(own[second] * len(corpus) + own[first])

        of_bands(sharing, signatures, config.keys, gone, folder)
        wanted, number_of = _wanted(pairs, order)
        count = 0
        with (folder / PAIRS).open("wb") as file:
            for keys in pairs.pieces():
                second, first = np.divmod(keys, len(corpus))
                both = np.searchsorted(wanted, np.stack([first, second], axis=1))
                file.write(number_of[both].data)
                count += len(keys)
    listed = corpus.split(*corpus.places(np.sort(number_of)))
    for part, own in enumerate(listed):
        own.tofile(folder / _rows(part))
    identities = [fingerprint(own.tolist()) for own in listed]
    return {"pairs": count, "candidates": len(wanted), "parts": identities, "rules": {}}


def _wanted(pairs: _Pairs, order: Numbers) -> tuple[I64, I64]:
    """The documents that stand in a pair: their places in the order of preference, rising, and their numbers."""
    stands = np.zeros(len(order), bool)
    for keys in pairs.pieces():
        for one in np.divmod(keys, len(order)):
            stands[one] = True
    wanted = np.flatnonzero(stands)
    number_of = np.empty(len(wanted), np.int64)
    for start in range(0, len(order), HELD):
        own = order[start : start + HELD]
        numbers = np.flatnonzero(stands[own])
        number_of[np.searchsorted(wanted, own[numbers])] = start + numbers
    return wanted, number_of


class _Pairs:
    """Pairs of documents as one number each, (place of the second) * documents + place of the first; many bands give
    the same ones, at the same time.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: list[I64] = [np.empty(0, np.int64)]
        self._fresh = 0
        self._runs: list[NumbersOnDisk] = []
        self._lock = threading.Lock()

    def add(self, keys: I64) -> None:
        """More pairs, in any order."""
        with self._lock:
            self._held.append(keys)
            self._fresh += len(keys)
            if self._fresh > HELD:
                whole = distinct(np.concatenate(self._held))
                self._held, self._fresh = [whole], len(whole)
                if len(whole) > HELD // 2:  # what stays must not be sorted again for every band
                    self._runs.append(NumbersOnDisk(self._folder / f"{len(self._runs)}.run", whole))
                    self._held, self._fresh = [whole[:0]], 0

    def pieces(self) -> Iterator[I64]:
        """All of them, rising, each once."""
        self._held = [distinct(np.concatenate(self._held))]
        if not self._runs:
            yield self._held[0]
            return
        last = NumbersOnDisk(self._folder / "last.run", self._held[0])
        yield from merged_numbers([*self._runs, last], HELD)


def _rows(part: int) -> str:
    return f"rows-{part:05d}.bin"


def shingles(folder: Path, part: Part, number: int, pairs: Path, config: MinHashConfig) -> dict[str, Any]:
    """The n-grams of the documents of a part that stand in a pair."""
    rows: I64 = verified_array(pairs, _rows(number), np.int64)
    sizes, row = [np.zeros(1, np.int64)], 0
    with (folder / "hashes.bin").open("wb") as file:
        for table in part.tables() if len(rows) else ():
            first, stop = np.searchsorted(rows, [row, row + len(table)])
            texts = encoded_texts(table["text"].take(pa.array(rows[first:stop] - row)))
            row += len(table)
            for hashes, counts in minhash.shingles(texts, config.ngram):
                file.write(hashes.tobytes())
                sizes.append(counts)
    np.cumsum(np.concatenate(sizes)).tofile(folder / "offsets.bin")
    return {"candidates": len(rows), "rules": {}}


def stretches(folder: Path) -> Iterator[I64]:
    """The pairs that `candidates` found [P, 2], some at a time; those of one second document are never parted."""
    path = verified_file(folder, PAIRS)
    total, start = path.stat().st_size // 16, 0
    left = np.empty((0, 2), np.int64)
    while start < total:
        # Read, and not mapped: pages of a map count as this process's memory for as long as it stands.
        read = np.fromfile(path, np.int64, 2 * STRETCH, offset=16 * start).reshape(-1, 2)
        start += len(read)
        some = np.concatenate([left, read])
        whole = len(some)
        if start < total:
            whole = int(np.flatnonzero(some[:, 1] != some[-1, 1])[-1]) + 1 if (some[:, 1] != some[-1, 1]).any() else 0
        left = some[whole:]
        if whole:
            yield some[:whole]


class Sets:
    """The n-grams of all candidates, as `shingles` left them, mapped into memory.

    Attributes:
        members: the numbers of the candidates, rising [M]; a candidate is called by its place among them.
    """

    def __init__(self, listed: Path, shingled: Sequence[Path], corpus: Corpus) -> None:
        rows = [verified_array(listed, _rows(part), np.int64) for part in range(len(shingled))]
        none = [np.empty(0, np.int64)]
        self.members: I64 = np.concatenate(
            [*none, *(own + start for own, start in zip(rows, corpus.starts, strict=True))]
        )
        self._hashes: list[U64] = [verified_array(folder, "hashes.bin", np.uint64) for folder in shingled]
        offsets = [verified_array(folder, "offsets.bin", np.int64) for folder in shingled]
        self._starts: I64 = np.concatenate([*none, *(own[:-1] for own in offsets)])
        self._sizes: I64 = np.concatenate([*none, *(np.diff(own) for own in offsets)])
        self._parts = np.repeat(np.arange(len(rows)), [len(own) for own in rows])

    def similarity(self, threshold: float) -> Callable[[I64], F64]:
        """What compares pairs by this threshold."""
        return partial(self.compare, threshold=threshold)

    def compare(self, pairs: I64, threshold: float) -> F64:
        """The Jaccard similarity of each pair of candidates [P]; 0 where the sizes of the two sets say that it is below
        the threshold.
        """
        sizes, starts, parts = self._sizes[pairs], self._starts[pairs], self._parts[pairs]
        # |A and B| is at most the smaller size, |A or B| at least the larger.
        possible = sizes.min(axis=1) / np.maximum(sizes.max(axis=1), 1) >= threshold
        common = np.zeros(len(pairs), np.int64)
        small = possible & (sizes.sum(axis=1) <= _SMALL) & (parts[:, 0] == parts[:, 1])
        for part in np.unique(parts[small, 0]).tolist():
            for chunk in _chunks(np.flatnonzero(small & (parts[:, 0] == part))):
                common[chunk] = minhash.common_counts(self._hashes[part], starts[chunk], sizes[chunk])
        for chunk in _chunks(np.flatnonzero(possible & ~small)):  # as objects, pairs take ten times their memory
            ends = (starts[chunk] + sizes[chunk]).tolist()
            for n, own, begins, stops in zip(
                chunk.tolist(), parts[chunk].tolist(), starts[chunk].tolist(), ends, strict=True
            ):
                first, second = (self._hashes[p][a:b] for p, a, b in zip(own, begins, stops, strict=True))
                common[n] = minhash.common_count(first, second)
        similarities: F64 = common / np.maximum(sizes.sum(axis=1) - common, 1)
        return similarities


def _chunks(numbers: I64) -> list[I64]:
    return np.split(numbers, range(_CHUNK, len(numbers), _CHUNK))
