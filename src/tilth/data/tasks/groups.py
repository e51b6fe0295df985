"""Which documents belong together beyond their own groups, so that a split never parts them.

Together belong near-duplicates, documents of one group, and what exact duplicates of either were; over any number of
steps. Memory grows with the documents that stand in such a pair, not with all.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tilth.core.config import fingerprint
from tilth.data.duplicates.dedup import I64, components
from tilth.data.duplicates.runs import distinct
from tilth.data.tasks.corpus import Corpus, group_names

GROUPS, ALIKE = "groups.parquet", "alike.parquet"
NAMED_BY = ("source", "doc_id", "group")
Flags = npt.NDArray[np.bool_]


def write_groups(folder: Path, corpus: Corpus, found: I64, drops: Path | None, dropped: I64) -> list[str]:
    """Writes (part, row, group) of documents that stay; returns a fingerprint of those of each part.

    A group is called by the first of the groups that it joins, so that most documents are drawn as they would be if
    nothing were like them.

    Args:
        found: near-duplicates [P, 2].
        drops: the task that dropped exact duplicates.
        dropped: near-duplicates that go.
    """
    gone = corpus.gone([drops])
    gone[dropped] = True
    grouped = corpus.grouped()
    # An exact duplicate ties two groups together only if it is of one; else it is nothing but the other once more.
    copies = [np.stack([kept, own], axis=1)[grouped[own]] for own, kept in corpus.dropped(drops)]
    numbers, pairs = np.unique(np.concatenate([found, *copies]), return_inverse=True)
    table = corpus.take(numbers, NAMED_BY)
    names = pa.chunked_array(group_names(table)).combine_chunks().dictionary_encode()
    own = np.asarray(names.indices, np.int64)
    labels = components(own[pairs.reshape(-1, 2)], len(names.dictionary))
    heads = pc.unique(table["group"].drop_null())
    alone = numbers[~grouped[numbers]]
    staying = _staying(corpus, grouped, gone, alone, heads, names.dictionary) if len(numbers) else iter(())
    found = np.concatenate([np.empty((2, 0), np.int64), *staying], axis=1)
    return _write(folder, corpus, found[0], labels[found[1]], found[1], names.dictionary)


def write_alike(folder: Path, corpus: Corpus, ties: I64, gone: Flags) -> None:
    """Writes (part, row, first) of documents that stay and are near-duplicates of others that do, over any number of
    steps: the same `first` for all that belong together.

    Args:
        ties: pairs that tie them [T, 2].
        gone: what exact and near-duplicates are dropped [n].
    """
    numbers, pairs = np.unique(ties, return_inverse=True)
    first = numbers[components(pairs.reshape(-1, 2), len(numbers))]
    stays = ~gone[numbers]
    numbers, first = numbers[stays], first[stays]
    _, place, counts = np.unique(first, return_inverse=True, return_counts=True)
    several = counts[place] > 1 if len(place) else np.empty(0, bool)
    part, row = corpus.places(numbers[several])
    pq.write_table(pa.table({"part": part, "row": row, "first": first[several]}), folder / ALIKE)


def _staying(
    corpus: Corpus, grouped: Flags, gone: Flags, alone: I64, heads: pa.Array, names: pa.Array
) -> Iterator[I64]:
    """Documents that may belong to others, but for those that go: their numbers, and which of the names is theirs
    [2, D]. Of those of pairs, all that have a group, and those that groups are called by, which state none.
    """
    looked_at = grouped.copy()
    looked_at[alone] = True
    for part, own in enumerate(corpus.by_part(looked_at)):
        start = int(corpus.starts[part])
        if len(heads):
            own |= np.asarray(pc.is_in(corpus.part(part, ["doc_id"])["doc_id"], heads))
        places = np.flatnonzero(own & ~gone[start : start + len(own)])
        if len(places):
            called = group_names(corpus.part(part, NAMED_BY).take(pa.array(places)))
            which = pc.index_in(called, names).fill_null(-1)
            found = np.stack([start + places, np.asarray(which)])
            yield found[:, found[1] >= 0]


def _write(folder: Path, corpus: Corpus, numbers: I64, labels: I64, own: I64, names: pa.Array) -> list[str]:
    """Writes those that share a label with another of another name, with the first name of that label."""
    total = len(names)
    by_name = np.asarray(pc.sort_indices(names), np.int64)
    rank = np.empty(total, np.int64)
    rank[by_name] = np.arange(total)
    first = np.full(total, total)
    np.minimum.at(first, labels, rank[own])
    different = np.bincount(distinct(labels * total + own) // max(1, total), minlength=total)
    several = different[labels] > 1
    numbers, labels = numbers[several], labels[several]
    part, row = corpus.places(numbers)
    group = names.take(pa.array(by_name[first[labels]]))
    pq.write_table(pa.table({"part": part, "row": row, "group": group}), folder / GROUPS)
    rows = list(zip(row.tolist(), group.to_pylist(), strict=True))
    return [fingerprint([list(rows[n]) for n in some]) for some in corpus.split(part, np.arange(len(rows)))]
