"""The chain that a part goes through, in one pass: each stage of `clean:`, then what deduplication compares.

    clean      a stage          -> edits.parquet, ledger.parquet, examples.parquet
    digest     whole texts      -> digests.parquet        (doc_id, source, locator, digest, …)
    signature  near-duplicates  -> signatures.bin         (bands: a hash for each)

All are generator functions (folder, batches, …): documents go through them, and what they return are their facts.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tilth.data.document import NO_META, Document, Rows, Verdict, end_to_end
from tilth.data.duplicates.dedup import DIGEST_BYTES, digest
from tilth.data.duplicates.minhash import MinHash, MinHashConfig
from tilth.data.spoken import not_shown
from tilth.data.stages import Stage, run_stage
from tilth.data.tasks.examples import Examples
from tilth.data.tasks.parts import Batch, EditWriter, LedgerWriter, Part, utf8_size
from tilth.data.words import U64

VERSIONS = {"clean": 5, "digest": 5, "signature": 5}
DIGESTS, SIGNATURES = "digests.parquet", "signatures.bin"
_DIGEST_SCHEMA = pa.schema(
    [
        ("doc_id", pa.string()),
        ("source", pa.dictionary(pa.int32(), pa.string())),
        ("locator", pa.string()),
        ("digest", pa.binary(DIGEST_BYTES)),
        ("group", pa.string()),  # null: it belongs to no other
        ("part_of", pa.string()),  # null: it is no piece of a document that was cut up
        ("twin", pa.bool_()),
        ("characters", pa.int64()),
        ("text_bytes", pa.int64()),
    ]
)

Facts = dict[str, Any]
Link = Generator[Batch, None, Facts]


def clean(folder: Path, batches: Iterator[Batch] | None, part: Part, stage: Stage) -> Link:
    """Runs a stage; facts: `rules`, documents and bytes that are left, bytes that each rule dropped."""
    examples, sizes = Examples(), LeftOver()
    with EditWriter(folder) as edits, LedgerWriter(folder) as ledger:
        for batch in part.batches() if batches is None else batches:
            left: list[Document] = []
            for document, outcome in zip(batch, run_stage(stage, batch), strict=True):
                edits.add(document, outcome.documents)
                examples.add(document, *outcome)
                ledger.add(outcome.verdicts)
                left += outcome.documents
                if not outcome.documents:
                    sizes.went(document, outcome.documents, outcome.verdicts[-1])
            sizes.left(left)
            yield left
    examples.write(folder)
    return {"stage": stage.name, **sizes.facts, "rules": ledger.rules}


class LeftOver:
    """What a stage leaves, and what each rule took; `facts`: documents and bytes, bytes that each rule dropped or cut
    out.
    """

    def __init__(self) -> None:
        self._left, self._dropped, self._cut = Counter[str](), Counter[str](), Counter[str]()

    def went(self, document: Document, after: Sequence[Document], verdict: Verdict) -> None:
        """A document that was dropped, or of which text was cut out."""
        gone = utf8_size(document.text) - sum(utf8_size(one.text) for one in after)
        (self._cut if after else self._dropped)[f"{verdict.stage}/{verdict.rule}"] += gone

    def left(self, batch: Batch) -> None:
        """What is left of a batch."""
        self._left["documents"] += len(batch)
        self._left["text_bytes"] += sum(utf8_size(document.text) for document in batch)

    @property
    def facts(self) -> Facts:
        """As they stand in a manifest."""
        sizes = {name: self._left[name] for name in ("documents", "text_bytes")}
        cut = {"cut_bytes": dict(sorted(self._cut.items()))} if self._cut else {}
        return {**sizes, "dropped_bytes": dict(sorted(self._dropped.items())), **cut}


def digests(folder: Path, batches: Iterator[Batch] | None, part: Part) -> Link:
    """The size and the digest of every text; facts: documents, characters and bytes that are left, and their content.

    The content is a hash of all that the documents are and of where batches end, for these end row groups of whatever
    is written of them.
    """
    totals, whole = Counter[str](documents=0, characters=0, text_bytes=0), hashlib.sha256()
    with pq.ParquetWriter(folder / DIGESTS, _DIGEST_SCHEMA, compression="zstd") as file:
        for batch in part.batches() if batches is None else batches:
            rows = Rows.of(batch)
            measures = _measures(rows)
            for some in _content(rows.table, measures):
                whole.update(some)
            totals["documents"] += len(rows)
            for name in ("characters", "text_bytes"):
                totals[name] += pc.sum(measures[name]).as_py() or 0
            if len(rows):
                file.write_table(measures)
            yield rows
    return {**totals, "content": whole.hexdigest(), "rules": {}}


def _measures(rows: Rows) -> pa.Table:
    texts, compared = rows.table["text"].combine_chunks(), rows.encoded()
    for row, more in not_shown(rows.table).items():
        compared[row] += b"\0" + more
    found = b"".join(map(digest, compared))
    columns = [
        *(rows.table[name] for name in ("doc_id", "source", "locator")),
        pa.FixedSizeBinaryArray.from_buffers(pa.binary(DIGEST_BYTES), len(rows), [None, pa.py_buffer(found)]),
        *_told(rows.table),
        pc.utf8_length(texts),
        pc.binary_length(texts),
    ]
    return pa.table(columns, schema=_DIGEST_SCHEMA)


def _told(table: pa.Table) -> tuple[Any, Any, Any]:
    """What meta data say of each document's company: the columns `group`, `part_of` and `twin`."""
    if pc.all(pc.equal(table["meta"], NO_META), min_count=0).as_py():
        return pa.nulls(len(table), pa.string()), pa.nulls(len(table), pa.string()), pa.repeat(False, len(table))
    metas = [json.loads(meta) for meta in table["meta"].to_pylist()]
    groups = [str(meta["group"]) if "group" in meta else None for meta in metas]
    named = [None if group == own else group for group, own in zip(groups, table["doc_id"].to_pylist(), strict=True)]
    return named, [meta.get("part_of") for meta in metas], [bool(meta.get("twin")) for meta in metas]


def _content(table: pa.Table, measures: pa.Table) -> Iterator[bytes | memoryview]:
    """All that documents are, of their texts the digests: of each column the lengths, and what stands in it."""
    yield b"".join(measures["digest"].to_pylist())
    for name in ("doc_id", "source", "locator", "license", "meta"):
        lengths = pc.fill_null(pc.binary_length(table[name]), -1)  # null is not empty
        yield np.asarray(lengths, np.int64).tobytes()
        yield end_to_end(pc.fill_null(table[name], ""))


def signatures(folder: Path, batches: Iterator[Batch] | None, part: Part, config: MinHashConfig) -> Link:
    """A hash of each band of every text's MinHash signature, uint64 [keys, documents]: they are read band by band."""
    hasher, bands = MinHash(config), list[U64]()
    for batch in part.batches() if batches is None else batches:
        rows = Rows.of(batch)
        bands.append(_apart(hasher.bands(rows.encoded()), rows))
        yield rows
    with (folder / SIGNATURES).open("wb") as file:
        for key in range(config.keys if bands else 0):
            np.concatenate([part_of[:, key] for part_of in bands]).tofile(file)
    return {"rules": {}}


def _apart(bands: U64, rows: Rows) -> U64:
    """Bands by which conversations meet those alone that have the same tools and names."""
    for row, more in not_shown(rows.table).items():
        own = bands[row]
        own[own != 0] ^= np.frombuffer(digest(more), np.uint64)[0]  # 0: like no other
    return bands
