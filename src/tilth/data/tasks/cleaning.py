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
import pyarrow.parquet as pq

from tilth.data.dedup import DIGEST_BYTES, digest
from tilth.data.document import Document, Verdict
from tilth.data.minhash import MinHash, MinHashConfig
from tilth.data.stages import Stage, run_stage
from tilth.data.tasks.examples import Examples
from tilth.data.tasks.parts import Batch, EditWriter, LedgerWriter, Part, utf8_size
from tilth.data.words import U64

VERSIONS = {"clean": 4, "digest": 3, "signature": 2}
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
            left: Batch = []
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
    """What a stage leaves, and what each rule dropped; `facts`: documents and bytes, bytes that each rule dropped."""

    def __init__(self) -> None:
        self._left, self._dropped = Counter[str](), Counter[str]()

    def went(self, document: Document, after: Sequence[Document], verdict: Verdict) -> None:
        """A document that may have been dropped."""
        if not after:
            self._dropped[f"{verdict.stage}/{verdict.rule}"] += utf8_size(document.text)

    def left(self, batch: Batch) -> None:
        """What is left of a batch."""
        self._left["documents"] += len(batch)
        self._left["text_bytes"] += sum(utf8_size(document.text) for document in batch)

    @property
    def facts(self) -> Facts:
        """As they stand in a manifest."""
        sizes = {name: self._left[name] for name in ("documents", "text_bytes")}
        return {**sizes, "dropped_bytes": dict(sorted(self._dropped.items()))}


def digests(folder: Path, batches: Iterator[Batch] | None, part: Part) -> Link:
    """The size and the digest of every text; facts: documents, characters and bytes that are left, and their content.

    The content is a hash of all that the documents are and of where batches end, for these end row groups of whatever
    is written of them.
    """
    documents = characters = text_bytes = 0
    whole = hashlib.sha256()
    with pq.ParquetWriter(folder / DIGESTS, _DIGEST_SCHEMA, compression="zstd") as file:
        for batch in part.batches() if batches is None else batches:
            rows = [_measures(document) for document in batch]
            whole.update(_content(batch, rows))
            documents += len(rows)
            characters += sum(row[7] for row in rows)
            text_bytes += sum(row[8] for row in rows)
            if rows:
                file.write_table(_table(rows))
            yield batch
    sizes = {"documents": documents, "characters": characters, "text_bytes": text_bytes}
    return {**sizes, "content": whole.hexdigest(), "rules": {}}


def _content(batch: Batch, rows: list[tuple[Any, ...]]) -> bytes:
    said = [
        [row[3].hex(), document.doc_id, document.source, document.locator, document.license, document.meta]
        for document, row in zip(batch, rows, strict=True)
    ]
    return json.dumps(said, sort_keys=True).encode()


def _measures(document: Document) -> tuple[Any, ...]:
    text = document.text
    group = None if document.group == document.doc_id else document.group
    part_of, twin = document.meta.get("part_of"), bool(document.meta.get("twin"))
    sizes = len(text), utf8_size(text)
    return document.doc_id, document.source, document.locator, digest(text), group, part_of, twin, *sizes


def _table(rows: list[tuple[Any, ...]]) -> pa.Table:
    return pa.table([list(column) for column in zip(*rows, strict=True)], schema=_DIGEST_SCHEMA)


def signatures(folder: Path, batches: Iterator[Batch] | None, part: Part, config: MinHashConfig) -> Link:
    """A hash of each band of every text's MinHash signature, uint64 [keys, documents]: they are read band by band."""
    hasher, bands = MinHash(config), list[U64]()
    for batch in part.batches() if batches is None else batches:
        bands.append(hasher.bands([document.text for document in batch]))
        yield batch
    with (folder / SIGNATURES).open("wb") as file:
        for key in range(config.keys if bands else 0):
            np.concatenate([part_of[:, key] for part_of in bands]).tofile(file)
    return {"rules": {}}
