"""A document, what is said of it, and how both lie in Parquet.

A `Document` gets its id once, at its source, from where it stands (never from when or by which worker it was read).
Every stage that keeps, changes or drops a document says so in a `Verdict`: the rows of the ledger.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
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


NO_META = "{}"
"""In the column `meta`: nothing is known."""


def in_utf8(name: str) -> str:
    """The name of a file, which need not be UTF-8: other bytes are spelled out, as \\xff, which keeps two such names
    apart, and which Parquet and databases take.
    """
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def make_doc_ids(source: str, place: str, numbers: Iterable[int]) -> list[str]:
    """The ids of the documents at `place` and each number after it."""
    begun = hashlib.blake2b(f"{source}\0{place}".encode("utf-8", "surrogatepass"), digest_size=16)
    ids = []
    for number in numbers:
        one = begun.copy()
        one.update(b"%d" % number)
        ids.append(one.hexdigest())
    return ids


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
        loses: whether the file that it is of could not be read, or not to its end;
        remedy: and what to do about it, where that is known.
    """

    document: Document | None
    verdicts: tuple[Verdict, ...] = ()
    loses: bool = False
    remedy: str = ""


class Rows(Sequence[Document]):
    """Documents as a table of `DOCUMENT_SCHEMA`, which become objects when one of them is asked for."""

    def __init__(self, table: pa.Table, documents: Sequence[Document] | None = None) -> None:
        self.table = table
        self._documents = documents

    @classmethod
    def of(cls, documents: Sequence[Document]) -> Rows:
        """Any documents, which stay what they are where they are rows already."""
        return documents if isinstance(documents, cls) else cls(documents_table(documents), documents)

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @overload
    def __getitem__(self, place: int) -> Document: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Document]: ...
    def __getitem__(self, place: int | slice) -> Document | Sequence[Document]:
        return self._objects()[place]

    def __iter__(self) -> Iterator[Document]:
        return iter(self._objects())

    def _objects(self) -> Sequence[Document]:
        if self._documents is None:
            self._documents = table_documents(self.table)
        return self._documents

    def encoded(self) -> list[bytes]:
        """The texts as UTF-8."""
        return encoded_texts(self.table["text"])


def encoded_texts(column: pa.ChunkedArray) -> list[bytes]:
    """Texts of a column as UTF-8, of which no string is made."""
    texts: list[bytes] = column.combine_chunks().cast(pa.large_binary()).to_numpy(zero_copy_only=False).tolist()
    return texts


def end_to_end(column: pa.ChunkedArray | pa.Array) -> memoryview:
    """All texts of a column without nulls in a row, as UTF-8."""
    values = (column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column).cast(pa.large_string())
    _, offsets, data = values.buffers()
    if not len(values) or data is None:
        return memoryview(b"")
    borders = np.frombuffer(offsets, np.int64, len(values) + 1, 8 * values.offset)
    return memoryview(data)[int(borders[0]) : int(borders[-1])]


def plain_rows(doc_ids: Sequence[str], texts: Any, source: str, locators: Sequence[str], license: str | None) -> Rows:
    """Documents of one source without meta data; `texts` are Arrow's."""
    same = (pa.repeat(value, len(doc_ids)) for value in (source, pa.scalar(license, pa.string()), NO_META))
    sources, licenses, metas = same
    columns = [pa.array(doc_ids), texts, sources, pa.array(locators), licenses, metas]
    return Rows(pa.table(columns, schema=DOCUMENT_SCHEMA))


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
            "meta": [meta_text(d.meta) for d in rows],
        },
        schema=DOCUMENT_SCHEMA,
    )


def meta_text(meta: Mapping[str, Any]) -> str:
    """The column `meta` of one document. Keys stay in their order, in which a template writes the calls of a tool."""
    return json.dumps(meta, ensure_ascii=False) if meta else NO_META


def table_documents(table: pa.Table) -> list[Document]:
    """The documents of a table."""
    columns = table.to_pydict()
    columns["meta"] = [json.loads(meta) if meta != NO_META else {} for meta in columns["meta"]]
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
