"""The tasks that compare documents with each other, over all parts.

    exact    digests            -> drops.parquet      (part, row, kept): the text stood before, as `kept`
    near     pairs, shingles    -> drops.parquet, groups.parquet, clusters.parquet: what went, and for which

A document's number is its place in all parts, end to end. Which pairs are compared, `pairs.py` says.
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
from tilth.data.duplicates.dedup import F64, I64, MOST_OF_A_SOURCE, Choice, NearConfig
from tilth.data.tasks.corpus import DROPS, ROWS_AT_ONCE, Corpus
from tilth.data.tasks.emptied import Dropped, emptied
from tilth.data.tasks.groups import write_alike, write_groups
from tilth.data.tasks.pairs import PAIRS, Sets, stretches
from tilth.data.tasks.parts import LedgerWriter, verified_file
from tilth.data.tasks.ranges import Numbers, first_by_digest

VERSIONS = {"exact": 3, "near": 7}
CLUSTERS = "clusters.parquet"
CLUSTERS_SCHEMA = pa.schema(
    [
        *((f"{role}{name}", pa.string()) for role in ("kept", "member") for name in ("", "_source", "_locator")),
        ("similarity", pa.float64()),
    ]
)
_DROPS_SCHEMA = pa.schema([(name, pa.int64()) for name in ("part", "row", "kept")])


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
    sets = Sets(pairs, shingled, corpus)
    choice = Choice(len(sets.members), drop=drop)
    progress.expect(verified_file(pairs, PAIRS).stat().st_size // 16)
    for numbers in stretches(pairs):
        choice.add(np.searchsorted(sets.members, numbers), sets.similarity(config.threshold), config.threshold)
        progress.advance(len(numbers))
    goes = choice.goes()
    chosen = _Chosen(sets.members[goes], sets.members[choice.stays_for[goes]], choice.values[goes])
    if drop:
        _refuse_emptying(corpus, drops, chosen, config)
    ties = sets.members[choice.ties()]
    groups = write_groups(folder, corpus, ties, drops, chosen.dropped)
    gone = corpus.gone([drops])
    gone[chosen.dropped] = True
    write_alike(folder, corpus, ties, gone)
    _write_clusters(folder, corpus, chosen)
    with _Drops(folder, corpus, "near_duplicate") as writer:
        for some in _slices(len(chosen.dropped)):
            values = [f"{value:.3f}" for value in chosen.values[some].tolist()]
            writer.add(chosen.dropped[some], chosen.kept[some], pa.array(values))
    facts = writer.facts
    parts = [fingerprint([drop, group]) for drop, group in zip(facts["parts"], groups, strict=True)]
    return {**facts, "parts": parts, "compared": choice.compared}


class _Chosen(NamedTuple):
    """Near-duplicates that go, in rising order, and for which each goes."""

    dropped: I64
    kept: I64
    values: F64


def _slices(length: int) -> list[slice]:
    """Runs of rows that are written together; one that is empty where there are none."""
    return [slice(start, start + ROWS_AT_ONCE) for start in range(0, max(length, 1), ROWS_AT_ONCE)]


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
