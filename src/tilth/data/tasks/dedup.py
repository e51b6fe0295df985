"""The tasks that compare documents with each other, over all parts.

    exact         digests              -> drops.parquet      (part, row, kept): the text stood before, as `kept`
    candidates    signatures           -> pairs.bin          pairs of documents to compare; rows-NNNNN.bin for each part
    shingles      one part             -> the sets of n-grams of its candidates
    near          pairs, shingles      -> drops.parquet, groups.parquet, clusters.parquet: what went, and for which

A document's number is its place in all parts, end to end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tilth.core import progress
from tilth.core.config import fingerprint
from tilth.core.errors import DataError
from tilth.data import minhash
from tilth.data.dedup import F64, I64, MOST_OF_A_SOURCE, NearConfig, choose, preference
from tilth.data.document import encoded_texts
from tilth.data.minhash import MinHashConfig
from tilth.data.tasks.corpus import DROPS, ROWS_AT_ONCE, Corpus
from tilth.data.tasks.emptied import Dropped, emptied
from tilth.data.tasks.groups import write_groups
from tilth.data.tasks.parts import LedgerWriter, Part, verified_array
from tilth.data.tasks.ranges import Numbers, first_by_digest, of_bands, places
from tilth.data.words import U64

VERSIONS = {"exact": 3, "candidates": 3, "shingles": 3, "near": 5}
CLUSTERS = "clusters.parquet"
CLUSTERS_SCHEMA = pa.schema(
    [
        *((f"{role}{name}", pa.string()) for role in ("kept", "member") for name in ("", "_source", "_locator")),
        ("similarity", pa.float64()),
    ]
)
_DROPS_SCHEMA = pa.schema([(name, pa.int64()) for name in ("part", "row", "kept")])
_PAIRS_HELD = 1 << 24
_SMALL = 64  # n-grams of a pair: so few are compared faster many pairs at a time than pair by pair
_CHUNK = 20_000  # pairs


def exact(folder: Path, digests: Sequence[Path]) -> dict[str, Any]:
    """Finds documents whose text stood before; `emptied` of the facts says which sources lose most of theirs."""
    corpus = Corpus(digests)
    first = first_by_digest(corpus)
    with _Drops(folder, corpus, "exact_duplicate") as drops:
        for copies in _copies(first):
            drops.add(copies.numbers, copies.kept)
    lossy = emptied(corpus, lambda: _copies(first), MOST_OF_A_SOURCE)
    return {**drops.facts, "emptied": [f"{found}; the largest clusters: {found.clusters}" for found in lossy]}


def _copies(first: Numbers) -> Iterator[Dropped]:
    """Documents whose text stood before, with the first that holds it, some at a time."""
    for start in range(0, len(first), ROWS_AT_ONCE):
        own = first[start : start + ROWS_AT_ONCE]
        numbers = start + np.flatnonzero(own != np.arange(start, start + len(own)))
        yield Dropped(numbers, first[numbers].astype(np.int64))


def candidates(
    folder: Path, digests: Sequence[Path], signatures: Sequence[Path], drops: Path | None, config: NearConfig
) -> dict[str, Any]:
    """Pairs of documents that share a band of their signatures, exact duplicates left out."""
    corpus = Corpus(digests)
    gone = corpus.gone([drops])
    order = places(corpus, folder) if config.keep == "longest" else np.arange(len(corpus))
    found = _Pairs(len(corpus))
    progress.expect(config.keys)

    def sharing(numbers: Numbers, hashes: U64) -> I64:
        local = np.argsort(np.argsort(order[numbers]))
        return numbers.astype(np.int64)[minhash.candidates([hashes], local)]

    for some in of_bands(sharing, signatures, config.keys, gone, folder):
        found.add(some)
    pairs = found.all()
    pairs.tofile(folder / "pairs.bin")
    wanted = np.unique(pairs)
    parts, rows = corpus.places(wanted)
    listed = corpus.split(parts, rows)
    for part, own in enumerate(listed):
        own.tofile(folder / f"rows-{part:05d}.bin")
    identities = [fingerprint(own.tolist()) for own in listed]
    return {"pairs": len(pairs), "candidates": len(wanted), "parts": identities, "rules": {}}


class _Pairs:
    """Pairs of documents, each once; bands give the same ones again and again."""

    def __init__(self, documents: int) -> None:
        self._base = max(1, documents)
        self._held, self._fresh = [np.empty(0, np.int64)], 0

    def add(self, pairs: I64) -> None:
        """More pairs [P, 2]."""
        self._held.append(pairs[:, 0] * self._base + pairs[:, 1])
        self._fresh += len(pairs)
        if self._fresh > _PAIRS_HELD:
            self._held = [np.unique(np.concatenate(self._held))]
            self._fresh = len(self._held[0]) // 2  # what stays must not be sorted again for every band

    def all(self) -> I64:
        """All of them [P, 2]."""
        return np.stack(np.divmod(np.unique(np.concatenate(self._held)), self._base), axis=1)


def shingles(folder: Path, part: Part, number: int, pairs: Path, config: MinHashConfig) -> dict[str, Any]:
    """The n-grams of the documents of a part that stand in a pair."""
    rows: I64 = verified_array(pairs, f"rows-{number:05d}.bin", np.int64)
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


def near(
    folder: Path,
    digests: Sequence[Path],
    pairs: Path,
    shingled: Sequence[Path],
    drops: Path | None,
    config: NearConfig,
    drop: bool,
) -> dict[str, Any]:
    """Compares candidates, and says which documents go (where `drop`) and which belong together.

    Together belong near-duplicates, documents of one group, and what exact duplicates of either were; over any number
    of steps. A split never parts them.
    """
    corpus = Corpus(digests)
    compared = verified_array(pairs, "pairs.bin", np.int64).reshape(-1, 2)
    similarities = _similarities(compared, pairs, shingled, corpus, config.threshold)
    close = similarities >= config.threshold
    found, similarities = compared[close], similarities[close]
    chosen = (
        _choose(corpus, found, similarities, config) if drop else _Chosen(found[:0, 0], found[:0, 1], similarities[:0])
    )
    if drop:
        _refuse_emptying(corpus, drops, chosen, config)
    groups = write_groups(folder, corpus, found, drops, chosen.dropped)
    _write_clusters(folder, corpus, chosen)
    with _Drops(folder, corpus, "near_duplicate") as writer:
        for some in _slices(len(chosen.dropped)):
            values = [f"{value:.3f}" for value in chosen.values[some].tolist()]
            writer.add(chosen.dropped[some], chosen.kept[some], pa.array(values))
    facts = writer.facts
    parts = [fingerprint([drop, group]) for drop, group in zip(facts["parts"], groups, strict=True)]
    return {**facts, "parts": parts, "pairs": len(close), "near_pairs": len(found)}


class _Chosen(NamedTuple):
    """Near-duplicates that go, in rising order, and for which each goes."""

    dropped: I64
    kept: I64
    values: F64


def _choose(corpus: Corpus, found: I64, similarities: F64, config: NearConfig) -> _Chosen:
    """Who goes; of all documents only those that stand in a pair are looked at."""
    numbers, local = np.unique(found, return_inverse=True)
    table = corpus.take(numbers, ["characters", "doc_id"])
    order = preference(np.asarray(table["characters"]), table["doc_id"].to_pylist(), config.keep)
    stays_for, values = choose(local.reshape(-1, 2), similarities, order)
    goes = np.flatnonzero(stays_for != np.arange(len(numbers)))
    return _Chosen(numbers[goes], numbers[stays_for[goes]], values[goes])


def _slices(length: int) -> list[slice]:
    """Runs of rows that are written together; one that is empty where there are none."""
    return [slice(start, start + ROWS_AT_ONCE) for start in range(0, max(length, 1), ROWS_AT_ONCE)]


def _similarities(pairs: I64, listed: Path, shingled: Sequence[Path], corpus: Corpus, threshold: float) -> F64:
    """The Jaccard similarity of each pair; 0 where the sizes of the two sets say that it is below the threshold."""
    rows = [verified_array(listed, f"rows-{part:05d}.bin", np.int64) for part in range(len(shingled))]
    sets = [_Shingles(path) for path in shingled]
    stretches = [pairs[start : start + ROWS_AT_ONCE] for start in range(0, len(pairs), ROWS_AT_ONCE)]
    found = [_compared(some, rows, sets, corpus, threshold) for some in stretches]
    return np.concatenate(found) if found else np.empty(0, np.float64)


def _compared(pairs: I64, rows: Sequence[I64], sets: Sequence[_Shingles], corpus: Corpus, threshold: float) -> F64:
    """The same of some pairs."""
    parts, places = corpus.places(pairs)
    for part, own in enumerate(rows):
        here = parts == part
        places[here] = np.searchsorted(own, places[here])
    sizes = np.empty_like(pairs)
    for part, one in enumerate(sets):
        here = parts == part
        sizes[here] = one.sizes[places[here]]
    # |A and B| is at most the smaller size, |A or B| at least the larger.
    possible = sizes.min(axis=1) >= threshold * np.maximum(sizes.max(axis=1), 1)
    common = np.zeros(len(pairs), np.int64)
    small = possible & (sizes.sum(axis=1) <= _SMALL) & (parts[:, 0] == parts[:, 1])
    for part, one in enumerate(sets):
        for chunk in _chunks(np.flatnonzero(small & (parts[:, 0] == part))):
            common[chunk] = minhash.common_counts(one.hashes, one.starts[places[chunk]], sizes[chunk])
    for chunk in _chunks(np.flatnonzero(possible & ~small)):  # as objects, pairs take ten times their memory
        for n, (a, b), (i, j) in zip(chunk.tolist(), parts[chunk].tolist(), places[chunk].tolist(), strict=True):
            common[n] = minhash.common_count(sets[a].of(i), sets[b].of(j))
    similarities: F64 = common / np.maximum(sizes.sum(axis=1) - common, 1)
    return similarities


def _chunks(numbers: I64) -> list[I64]:
    return np.split(numbers, range(_CHUNK, len(numbers), _CHUNK))


class _Shingles:
    """The sets that a `shingles` task left, mapped into memory."""

    def __init__(self, folder: Path) -> None:
        offsets: I64 = verified_array(folder, "offsets.bin", np.int64)
        self.starts, self.sizes = offsets[:-1], np.diff(offsets)
        self.hashes: U64 = verified_array(folder, "hashes.bin", np.uint64)
        self._offsets = offsets.tolist()

    def of(self, place: int) -> U64:
        return self.hashes[self._offsets[place] : self._offsets[place + 1]]


class _Drops:
    """Writes which documents go, in rising order; `facts`: sizes, and for each part what decides its rest."""

    def __init__(self, folder: Path, corpus: Corpus, rule: str) -> None:
        self._corpus, self._rule = corpus, rule
        self._ledger = LedgerWriter(folder)
        self._file = pq.ParquetWriter(folder / DROPS, _DROPS_SCHEMA)
        self._rows: list[list[I64]] = [[] for _ in corpus.starts]
        self._sizes = Counter[str](characters=0, text_bytes=0)
        self._documents = 0

    def add(self, numbers: I64, kept: I64, values: pa.Array | None = None) -> None:
        """More of them, and for which each goes; `ROWS_AT_ONCE` at most."""
        part, row = self._corpus.places(numbers)
        self._file.write_table(pa.table([part, row, kept], schema=_DROPS_SCHEMA))
        table = self._corpus.take(numbers, ["doc_id", *self._sizes])
        kept_ids = self._corpus.take(kept, ["doc_id"])["doc_id"]
        said = (kept_ids, "") if values is None else (values, kept_ids)
        self._ledger.add_columns(table["doc_id"], "deduplicate", self._rule, *said)
        for name in self._sizes:
            self._sizes[name] += int(np.asarray(table[name]).sum())
        for place, rows in enumerate(self._corpus.split(part, row)):
            self._rows[place] += [rows] if len(rows) else []
        self._documents += len(numbers)

    @property
    def facts(self) -> dict[str, Any]:
        """As they stand in the manifest."""
        own = [fingerprint([row for piece in pieces for row in piece.tolist()]) for pieces in self._rows]
        rules = self._ledger.rules
        by_rule = dict.fromkeys(rules["dropped"], self._sizes["text_bytes"])  # of which there is one at most
        return {"documents": self._documents, **self._sizes, "parts": own, "dropped_bytes": by_rule, "rules": rules}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ledger.__exit__(kind, error, at)
        self._file.close()


def _write_clusters(folder: Path, corpus: Corpus, chosen: _Chosen) -> None:
    """Near-duplicates that go, each beside the one that stays for it; by the latter, the most similar first."""
    order = np.lexsort((chosen.dropped, -chosen.values, chosen.kept))
    with pq.ParquetWriter(folder / CLUSTERS, CLUSTERS_SCHEMA, compression="zstd") as file:
        for some in _slices(len(order)):
            columns: list[Any] = []
            for numbers in (chosen.kept[order[some]], chosen.dropped[order[some]]):
                table = corpus.take(numbers, ["doc_id", "source", "locator"])
                columns += [column.cast(pa.string()) for column in table.columns]
            file.write_table(pa.table([*columns, chosen.values[order[some]]], schema=CLUSTERS_SCHEMA))


def _refuse_emptying(corpus: Corpus, exact: Path | None, chosen: _Chosen, config: NearConfig) -> None:
    def dropped() -> Iterator[Dropped]:
        yield from (Dropped(*piece) for piece in corpus.dropped(exact))
        for some in _slices(len(chosen.dropped)):
            yield Dropped(chosen.dropped[some], chosen.kept[some], chosen.values[some])

    for found in emptied(corpus, dropped, config.most_of_a_source):
        raise DataError(
            f"deduplication would drop {found}. The largest clusters: {found.clusters}",
            "look at these documents; if they are copies or near-duplicates, and the source may lose them, raise "
            f"data.deduplicate.most_of_a_source (now {config.most_of_a_source:g}); if they are not, raise "
            f"data.deduplicate.threshold (now {config.threshold:g})",
        )
