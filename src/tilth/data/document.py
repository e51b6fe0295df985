"""A document, what is said of it, and how both lie in Parquet.

A `Document` gets its id once, at its source, from where it stands (never from when or by which worker it was read).
Every stage that keeps, changes or drops a document says so in a `Verdict`: the rows of the ledger.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from tilth.core import progress

DOCUMENT_SCHEMA = pa.schema(
    [
        pa.field("doc_id", pa.string(), nullable=False),
        pa.field("text", pa.large_string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("locator", pa.string(), nullable=False),
        pa.field("license", pa.string()),
        pa.field("meta", pa.string(), nullable=False),
    ]
)

LEDGER_SCHEMA = pa.schema(
    [pa.field(name, pa.string()) for name in ("doc_id", "stage", "rule", "verdict", "value", "detail")]
)


def make_doc_id(source: str, locator: str) -> str:
    """128 bits in hex from the source's name and the place in it; 2**64 documents share an id with odds of one half."""
    return hashlib.blake2b(f"{source}\0{locator}".encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True)
class Document:
    """One text with its origin. `locator` is a path or URL, with the row where one file holds many."""

    doc_id: str
    text: str
    source: str
    locator: str
    license: str | None = None
    meta: dict[str, Any] = field(default_factory=dict)

    @property
    def group(self) -> str:
        """What it must not be parted from when the text is split: texts that hold one another share a group."""
        return str(self.meta.get("group", self.doc_id))


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one rule did to one document: one row of the ledger."""

    doc_id: str
    stage: str
    rule: str
    verdict: Literal["kept", "changed", "dropped"]
    value: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a stage made of one document: the document it leaves (None when dropped) and why.

    Attributes:
        loses: whether the file that it is of could not be read, or not to its end.
    """

    document: Document | None
    verdicts: tuple[Verdict, ...] = ()
    loses: bool = False


def documents_table(documents: Iterable[Document]) -> pa.Table:
    """Documents as an Arrow table of `DOCUMENT_SCHEMA`."""
    rows = list(documents)
    return pa.table(
        {
            "doc_id": [d.doc_id for d in rows],
            "text": [d.text for d in rows],
            "source": [d.source for d in rows],
            "locator": [d.locator for d in rows],
            "license": [d.license for d in rows],
            "meta": [json.dumps(d.meta, sort_keys=True, ensure_ascii=False) if d.meta else "{}" for d in rows],
        },
        schema=DOCUMENT_SCHEMA,
    )


def table_documents(table: pa.Table) -> list[Document]:
    """The documents of a table."""
    columns = table.to_pydict()
    columns["meta"] = [json.loads(meta) if meta != "{}" else {} for meta in columns["meta"]]
    return list(map(Document, *(columns[name] for name in DOCUMENT_SCHEMA.names)))


def read_tables(path: Path) -> Iterator[pa.Table]:
    """The documents of a Parquet file, in its order, a row group in memory at a time."""
    with pq.ParquetFile(path) as file:
        sizes = [file.metadata.row_group(group).total_byte_size for group in range(file.num_row_groups)]
        if not progress.expected():
            progress.expect(sum(sizes))
        for group, size in enumerate(sizes):
            yield file.read_row_group(group, columns=DOCUMENT_SCHEMA.names)
            progress.advance(size)  # when they have been used
