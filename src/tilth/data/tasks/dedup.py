"""The tasks that compare documents with each other, over all parts.

    exact         digests              -> drops.parquet      (part, row, kept): the text stood before, as `kept`
    candidates    signatures           -> pairs.bin          pairs of documents to compare; rows-NNNNN.bin for each part
    shingles      one part             -> the sets of n-grams of its candidates
    near          pairs, shingles      -> drops.parquet, groups.parquet, clusters.parquet: what went, and for which

A document's number is its place in all parts, end to end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tilth.core.config import fingerprint
from tilth.core.errors import DataError
from tilth.data import minhash
from tilth.data.dedup import F64, I64, NearConfig, choose, components, first_of_each, preference
from tilth.data.document import Verdict
from tilth.data.minhash import MinHashConfig
from tilth.data.tasks.cleaning import SIGNATURES
from tilth.data.tasks.corpus import DROPS, Corpus
from tilth.data.tasks.parts import LedgerWriter, Part, verified_array
from tilth.data.words import U64

VERSIONS = {"exact": 2, "candidates": 2, "shingles": 2, "near": 3}
GROUPS, CLUSTERS = "groups.parquet", "clusters.parquet"
CLUSTERS_SCHEMA = pa.schema(
    [
        *((f"{role}{name}", pa.string()) for role in ("kept", "member") for name in ("", "_source", "_locator")),
        ("similarity", pa.float64()),
    ]
)
_JUDGED_FROM = 20  # dropped documents; a share of fewer says little
_SHOWN = 5
_SMALL = 64  # n-grams of a pair: so few are compared faster many pairs at a time than pair by pair
_CHUNK = 20_000  # pairs


def exact(folder: Path, digests: Sequence[Path]) -> dict[str, Any]:
    """Finds documents whose text stood before."""
    table = Corpus(digests)
    first = first_of_each(table.digests())
    dropped = np.flatnonzero(first != np.arange(len(first)))
    ids = table.column("doc_id").to_pylist()
    verdicts = (Verdict(ids[i], "deduplicate", "exact_duplicate", "dropped", ids[first[i]]) for i in dropped)
    return _write_drops(folder, table, dropped, first[dropped], verdicts)


def candidates(
    folder: Path, digests: Sequence[Path], signatures: Sequence[Path], drops: Path | None, config: NearConfig
) -> dict[str, Any]:
    """Pairs of documents that share a band of their signatures, exact duplicates left out."""
    table = Corpus(digests)
    gone = table.dropped(drops)
    places = preference(table.sizes("characters"), table.column("doc_id").to_pylist(), config.keep)
    pairs = minhash.candidates(_bands(signatures, config.keys, gone), places)
    pairs.tofile(folder / "pairs.bin")
    wanted = np.unique(pairs)
    parts, rows = table.places(wanted)
    listed = table.split(parts, rows)
    for part, own in enumerate(listed):
        own.tofile(folder / f"rows-{part:05d}.bin")
    identities = [fingerprint(own.tolist()) for own in listed]
    return {"pairs": len(pairs), "candidates": len(wanted), "parts": identities, "rules": {}}


def _bands(folders: Sequence[Path], keys: int, gone: I64) -> Iterator[U64]:
    """Band by band the hashes of all documents; those that are gone are like no other."""
    parts = [verified_array(folder, SIGNATURES, np.uint64).reshape(keys, -1) for folder in folders]
    for key in range(keys):
        hashes = np.concatenate([bands[key] for bands in parts])
        hashes[gone] = 0
        yield hashes


def shingles(folder: Path, part: Part, number: int, pairs: Path, config: MinHashConfig) -> dict[str, Any]:
    """The n-grams of the documents of a part that stand in a pair."""
    rows = set(verified_array(pairs, f"rows-{number:05d}.bin", np.int64).tolist())
    sizes, row = [np.zeros(1, np.int64)], 0
    with (folder / "hashes.bin").open("wb") as file:
        for batch in part.batches() if rows else ():
            texts = [document.text for n, document in enumerate(batch, row) if n in rows]
            row += len(batch)
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
    table = Corpus(digests)
    compared = verified_array(pairs, "pairs.bin", np.int64).reshape(-1, 2)
    similarities = _similarities(compared, pairs, shingled, table, config.threshold)
    close = similarities >= config.threshold
    found, similarities = compared[close], similarities[close]
    ids = table.column("doc_id").to_pylist()
    together = components(np.concatenate([found, table.ties(), table.exact_pairs(drops)]), len(ids))
    stays_for, values = np.arange(len(ids)), np.ones(len(ids))
    if drop:
        places = preference(table.sizes("characters"), ids, config.keep)
        stays_for, values = choose(found, similarities, places)
    dropped = np.flatnonzero(stays_for != np.arange(len(ids)))
    if drop:
        _refuse_emptying(table, dropped, stays_for, values, config)
    groups = _write_groups(folder, table, together, {*dropped.tolist(), *table.dropped(drops).tolist()})
    _write_clusters(folder, table, dropped, stays_for, values)
    verdicts = (
        Verdict(ids[i], "deduplicate", "near_duplicate", "dropped", f"{values[i]:.3f}", ids[stays_for[i]])
        for i in dropped
    )
    facts = _write_drops(folder, table, dropped, stays_for[dropped], verdicts)
    parts = [fingerprint([drop, group]) for drop, group in zip(facts["parts"], groups, strict=True)]
    return {**facts, "parts": parts, "pairs": len(close), "near_pairs": len(found)}


def _similarities(pairs: I64, listed: Path, shingled: Sequence[Path], corpus: Corpus, threshold: float) -> F64:
    """The Jaccard similarity of each pair; 0 where the sizes of the two sets say that it is below the threshold."""
    rows = [verified_array(listed, f"rows-{part:05d}.bin", np.int64) for part in range(len(shingled))]
    sets = [_Shingles(path) for path in shingled]
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
    rest = np.flatnonzero(possible & ~small)
    for n, (a, b), (i, j) in zip(rest.tolist(), parts[rest].tolist(), places[rest].tolist(), strict=True):
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


def _write_drops(folder: Path, table: Corpus, dropped: I64, kept: I64, verdicts: Iterator[Verdict]) -> dict[str, Any]:
    """Writes which documents go, `dropped` in rising order; facts: sizes, and for each part what decides its rest."""
    part, row = table.places(dropped)
    pq.write_table(pa.table({"part": part, "row": row, "kept": kept}), folder / DROPS)
    with LedgerWriter(folder) as ledger:
        ledger.add(verdicts)
    sizes = {name: int(table.sizes(name)[dropped].sum()) for name in ("characters", "text_bytes")}
    own = [fingerprint(rows.tolist()) for rows in table.split(part, row)]
    bytes_by_rule = dict.fromkeys(ledger.rules["dropped"], sizes["text_bytes"])  # of which there is one at most
    return {"documents": len(dropped), **sizes, "parts": own, "dropped_bytes": bytes_by_rule, "rules": ledger.rules}


def _write_clusters(folder: Path, table: Corpus, dropped: I64, stays_for: I64, values: F64) -> None:
    """Near-duplicates that go, each beside the one that stays for it; by the latter, the most similar first."""
    order = np.lexsort((dropped, -values[dropped], stays_for[dropped]))
    gone = dropped[order]
    columns: dict[str, Any] = {}
    for role, numbers in (("kept", stays_for[gone]), ("member", gone)):
        for name, column in (("", "doc_id"), ("_source", "source"), ("_locator", "locator")):
            values_of = table.column(column).take(numbers)
            columns[role + name] = values_of.cast(pa.string())
    pq.write_table(
        pa.table({**columns, "similarity": values[gone]}, schema=CLUSTERS_SCHEMA),
        folder / CLUSTERS,
        compression="zstd",
    )


def _write_groups(folder: Path, table: Corpus, together: I64, dropped: set[int]) -> list[str]:
    """Documents that stay and belong together beyond their own groups: (part, row, group).

    The group is called by the first of the groups that it joins, so that most documents are drawn as they would be if
    nothing were like them. Returns a fingerprint of those of each part.
    """
    own_names = table.groups(None)
    members: dict[int, list[int]] = {}
    for number in np.flatnonzero(np.bincount(together, minlength=len(table))[together] > 1).tolist():
        if number not in dropped:
            members.setdefault(int(together[number]), []).append(number)
    joined = [(group, sorted({own_names[n] for n in group})) for group in members.values()]
    several = sorted((n, names[0]) for group, names in joined if len(names) > 1 for n in group)
    part, row = table.places(np.array([n for n, _ in several], np.int64))
    names = [name for _, name in several]
    pq.write_table(pa.table({"part": part, "row": row, "group": names}), folder / GROUPS)
    named = table.split(part, np.arange(len(names)))
    return [fingerprint([[int(row[n]), names[n]] for n in own]) for own in named]


def _refuse_emptying(table: Corpus, dropped: I64, stays_for: I64, values: F64, config: NearConfig) -> None:
    sources = table.column("source").combine_chunks()
    codes, names = np.asarray(sources.indices), sources.dictionary.to_pylist()
    had, lost = (np.bincount(codes[which], minlength=len(names)) for which in (slice(None), dropped))
    for code in np.flatnonzero((lost >= _JUDGED_FROM) & (lost > config.most_of_a_source * had)).tolist():
        own = dropped[codes[dropped] == code]
        raise DataError(
            f"near-deduplication would drop {lost[code]:,} of {had[code]:,} documents of source {names[code]}. "
            f"The largest clusters: {_clusters(table, own, stays_for, values)}",
            "look at these documents; if they are near-duplicates, raise data.deduplicate.most_of_a_source "
            f"(now {config.most_of_a_source:g}), else raise data.deduplicate.threshold (now {config.threshold:g})",
        )


def _clusters(table: Corpus, dropped: I64, stays_for: I64, values: F64) -> str:
    locators = table.column("locator")
    kept, sizes = np.unique(stays_for[dropped], return_counts=True)
    shown = []
    for number, size in sorted(zip(kept.tolist(), sizes.tolist(), strict=True), key=lambda pair: -pair[1])[:_SHOWN]:
        own = dropped[stays_for[dropped] == number][:3]
        examples = ", ".join(f"{locators[int(n)].as_py()} ({values[n]:.2f})" for n in own)
        shown.append(f"{size:,} like {locators[number].as_py()}, such as {examples}")
    return "; ".join(shown)
