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
from tilth.data.dedup import I64, components
from tilth.data.tasks.corpus import Corpus, group_names

GROUPS = "groups.parquet"
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
    names = group_names(table)
    codes: dict[str, int] = {}
    own = np.array([codes.setdefault(name, len(codes)) for name in names], np.int64)
    labels = components(own[pairs.reshape(-1, 2)], len(codes)).tolist()
    heads = pc.unique(table["group"].drop_null())
    members: dict[int, list[tuple[int, str]]] = {}
    alone = numbers[~grouped[numbers]]
    for number, name in _staying(corpus, grouped, gone, alone, heads) if len(numbers) else ():
        if name in codes:
            members.setdefault(labels[codes[name]], []).append((number, name))
    joined = [(min(name for _, name in some), some) for some in members.values() if len({n for _, n in some}) > 1]
    return _write(folder, corpus, sorted((number, group) for group, some in joined for number, _ in some))


def _staying(corpus: Corpus, grouped: Flags, gone: Flags, alone: I64, heads: pa.Array) -> Iterator[tuple[int, str]]:
    """Documents that may belong to others, but for those that go: those of pairs, all that have a group, and those that
    groups are called by, which state none.
    """
    looked_at = grouped.copy()
    looked_at[alone] = True
    for part, own in enumerate(corpus.by_part(looked_at)):
        start = int(corpus.starts[part])
        if len(heads):
            own |= np.asarray(pc.is_in(corpus.part(part, ["doc_id"])["doc_id"], heads))
        places = np.flatnonzero(own & ~gone[start : start + len(own)])
        if len(places):
            yield from zip(
                (start + places).tolist(),
                group_names(corpus.part(part, NAMED_BY).take(pa.array(places))),
                strict=True,
            )


def _write(folder: Path, corpus: Corpus, several: list[tuple[int, str]]) -> list[str]:
    part, row = corpus.places(np.array([number for number, _ in several], np.int64))
    names = [name for _, name in several]
    pq.write_table(pa.table({"part": part, "row": row, "group": pa.array(names, pa.string())}), folder / GROUPS)
    own = corpus.split(part, np.arange(len(names)))
    return [fingerprint([[int(row[n]), names[n]] for n in some]) for some in own]
