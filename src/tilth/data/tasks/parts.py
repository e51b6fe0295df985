"""Parts of the corpus on disk: documents, and what stages changed of them.

    Part                a file of documents, and the folders of the stages that it went through
    DocumentWriter      documents to Parquet, a row group for every few megabytes
    EditWriter          what a stage changed: edits.parquet
    LedgerWriter        verdicts to ledger.parquet, counted by rule

A stage leaves no copy of the corpus, only its edits: a part is read by putting them in, stage after stage, while the
documents stream by. `edits.parquet` has a row (number, doc_id, locator, text, meta) for each document that the stage
changed, `number` being its place in what the stage before it left. What is null stayed as it was; all null means
dropped; several rows of one number are the pieces that a document became.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tilth.core.files import read_manifest, verify_once
from tilth.data.document import (
    DOCUMENT_SCHEMA,
    LEDGER_SCHEMA,
    Document,
    Rows,
    Verdict,
    documents_table,
    meta_text,
    read_tables,
)

BATCH_BYTES = 4 << 20
"""Text that is held as Python objects at a time."""
EDITS, LEDGER = "edits.parquet", "ledger.parquet"
_VERDICTS_HELD = 20_000
_ALL_DIFFERENT = ("doc_id", "text", "locator")
_EDIT_SCHEMA = pa.schema(
    [
        pa.field("number", pa.int64(), nullable=False),
        pa.field("doc_id", pa.string()),
        pa.field("locator", pa.string()),
        pa.field("text", pa.large_string()),
        pa.field("meta", pa.string()),
    ]
)

Batch = Sequence[Document]


class Edit(NamedTuple):
    """One row of edits.parquet."""

    number: int
    doc_id: str | None
    locator: str | None
    text: str | None
    meta: str | None


@dataclass(frozen=True, slots=True)
class Part:
    """A file of documents inside a task's folder, and the stages that it went through since."""

    folder: Path
    name: str
    stages: tuple[Path, ...] = ()

    def batches(self) -> Iterator[Batch]:
        """Its documents, a few megabytes at a time, after the hash of each file was compared with its manifest's."""
        return map(Rows, self.tables())

    def tables(self) -> Iterator[pa.Table]:
        """The same as tables: whoever needs no more of most documents than their columns has them at once."""
        tables = read_tables(verified_file(self.folder, self.name))
        for stage in self.stages:
            tables = edited(tables, _edits(verified_file(stage, EDITS)))
        return tables

    @property
    def size(self) -> int:
        """Bytes that are read of it, unpacked."""
        metadata = pq.read_metadata(self.folder / self.name)
        return sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))

    def documents(self) -> Iterator[Document]:
        """Its documents, one by one."""
        return (document for batch in self.batches() for document in batch)


def edited(tables: Iterable[pa.Table], edits: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Documents with a stage's edits put in; both are in the order of their numbers."""
    first, ahead = 0, next(edits, None)
    for table in tables:
        own, stop = [], first + len(table)
        while ahead is not None and ahead["number"][0].as_py() < stop:
            cut = int(np.searchsorted(np.asarray(ahead["number"]), stop))
            own.append(ahead.slice(0, cut))
            ahead = ahead.slice(cut) if cut < len(ahead) else next(edits, None)
        yield _put_in(table, pa.concat_tables(own), first) if own else table
        first = stop


def _put_in(table: pa.Table, edits: pa.Table, first: int) -> pa.Table:
    """A table whose first document has the number `first`, with the edits to it; no document becomes an object."""
    names = [name for name in _EDIT_SCHEMA.names if name != "number"]
    staying = np.ones(len(table), bool)
    staying[np.asarray(edits["number"]) - first] = False
    nulls = [np.asarray(edits[name].is_null()) for name in names]
    new = np.flatnonzero(~np.logical_and.reduce(nulls))  # all null: it was dropped
    # Of each row that is left: where it was, and which edit was made to it (-1: none). Pieces of one keep their order.
    source = np.concatenate([np.flatnonzero(staying), np.asarray(edits["number"])[new] - first])
    edit = np.concatenate([np.full(int(staying.sum()), -1), new])
    order = np.argsort(source, kind="stable")
    source, edit = source[order], edit[order]
    left = table.drop_columns(names).take(pa.array(source)).combine_chunks()
    for place, field in enumerate(table.schema):
        if field.name in names:
            # Of old and new values end to end: a text that was cut in a thousand is not there a thousand times first.
            old, new = (values[field.name].combine_chunks() for values in (table, edits))
            given = (edit >= 0) & np.asarray(new.is_valid())[edit]
            both = pa.concat_arrays([old, new.cast(field.type)])
            column = both.take(pa.array(np.where(given, len(old) + edit, source)))
            left = left.add_column(place, field, column)
    return left


def _edits(path: Path) -> Iterator[pa.Table]:
    with pq.ParquetFile(path) as file:
        yield from (table for n in range(file.num_row_groups) if len(table := file.read_row_group(n)))


def verified_file(folder: Path, name: str) -> Path:
    """A file of a task's folder, after its hash was compared with the manifest's."""
    verify_once(folder, name, read_manifest(folder))
    return folder / name


def verified_table(folder: Path, name: str, columns: Sequence[str] | None = None) -> pa.Table:
    """A Parquet file of a task's folder, after its hash was compared with the manifest's."""
    with pq.ParquetFile(verified_file(folder, name)) as file:
        return file.read(columns=columns and list(columns))


def verified_array(folder: Path, name: str, dtype: Any) -> Any:
    """A file of numbers of a task's folder, mapped into memory after its hash was compared with the manifest's."""
    path = verified_file(folder, name)
    # As a plain array: indexing a memmap makes a memmap, ten times slower.
    return np.asarray(np.memmap(path, dtype, mode="r")) if path.stat().st_size else np.empty(0, dtype)


def utf8_size(text: str) -> int:
    """Bytes of a text in UTF-8."""
    return len(text) if text.isascii() else len(text.encode())  # which is known of an ASCII text without looking


class _TableWriter(ABC):
    """Rows to a Parquet file, a row group at a time; a context that closes it."""

    def __init__(self, path: Path, schema: pa.Schema, compression: str = "zstd") -> None:
        self._schema = schema
        # Of texts and ids, all different, there is neither a dictionary nor a least and a greatest to be of use.
        often = [name for name in schema.names if name not in _ALL_DIFFERENT]
        self._file = pq.ParquetWriter(
            path, schema, compression=compression, use_dictionary=often, write_statistics=often
        )

    @abstractmethod
    def flush(self) -> None:
        """Writes what is held."""

    def write(self, table: pa.Table) -> None:
        """Writes a row group."""
        if table.num_rows:
            self._file.write_table(table)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if error is None:
            self.flush()
        self._file.close()


class DocumentWriter(_TableWriter):
    """Documents to Parquet."""

    def __init__(self, path: Path, compression: str = "zstd") -> None:
        super().__init__(path, DOCUMENT_SCHEMA, compression)
        self._tables: list[pa.Table] = []
        self._rows: list[Document] = []  # that follow these
        self._held = 0
        self.documents = self.text_bytes = 0

    def add(self, document: Document) -> None:
        """One more document."""
        self._rows.append(document)
        self._held += len(document.text)
        if self._held >= BATCH_BYTES:
            self.flush()

    def add_rows(self, table: pa.Table) -> int:
        """As many of a table's documents as `add` would take before it writes; says how many."""
        before = self._held + np.cumsum(np.asarray(pc.utf8_length(table["text"])))
        taken = min(int(np.searchsorted(before, BATCH_BYTES)) + 1, len(table))
        self._gather()
        self._tables.append(table.slice(0, taken))
        self._held = int(before[taken - 1])
        if self._held >= BATCH_BYTES:
            self.flush()
        return taken

    def add_table(self, table: pa.Table) -> None:
        """A table, which becomes a row group."""
        self.flush()
        self._write_counted(table)

    def flush(self) -> None:
        """Writes what is held."""
        self._gather()
        if self._tables:
            self._write_counted(pa.concat_tables(self._tables).combine_chunks())
        self._tables, self._held = [], 0

    def _gather(self) -> None:
        if self._rows:
            self._tables.append(documents_table(self._rows))
            self._rows = []

    def _write_counted(self, table: pa.Table) -> None:
        self.write(table)
        self.documents += len(table)
        self.text_bytes += pc.sum(pc.binary_length(table["text"])).as_py() or 0


class EditWriter(_TableWriter):
    """What a stage changed, document after document."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / EDITS, _EDIT_SCHEMA)
        self._rows: list[Edit] = []
        self._held = self._number = 0

    def add(self, before: Document, after: Sequence[Document]) -> None:
        """The next document, and what the stage left of it."""
        if not after:
            self._rows.append(Edit(self._number, None, None, None, None))
        elif len(after) > 1 or after[0] is not before:
            self._rows += [self._edit(before, document) for document in after]
            self._held += sum(len(document.text) for document in after)
        self._number += 1
        if self._held >= BATCH_BYTES or len(self._rows) >= _VERDICTS_HELD:
            self.flush()

    def _edit(self, before: Document, after: Document) -> Edit:
        meta = None if after.meta == before.meta else meta_text(after.meta)
        pairs = ((before.doc_id, after.doc_id), (before.locator, after.locator), (before.text, after.text))
        doc_id, locator, text = (None if old == new else new for old, new in pairs)
        if (doc_id, locator, text, meta) == (None, None, None, None):
            text = after.text  # a row without any change would read as a drop
        return Edit(self._number, doc_id, locator, text, meta)

    def flush(self) -> None:
        """Writes what is held."""
        columns = [list(column) for column in zip(*self._rows, strict=True)] or [[]] * len(_EDIT_SCHEMA)
        self.write(pa.table(columns, schema=_EDIT_SCHEMA))
        self._rows, self._held = [], 0


class LedgerWriter(_TableWriter):
    """Verdicts to ledger.parquet; `rules` counts them: {verdict: {stage/rule: n}}, sorted."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / LEDGER, LEDGER_SCHEMA)
        self._rows: list[Verdict] = []
        self._counts: dict[str, Counter[str]] = {"changed": Counter(), "dropped": Counter()}

    def add(self, verdicts: Iterable[Verdict]) -> None:
        """More verdicts."""
        for verdict in verdicts:
            self._rows.append(verdict)
            if verdict.verdict in self._counts:
                self._counts[verdict.verdict][f"{verdict.stage}/{verdict.rule}"] += 1
        if len(self._rows) >= _VERDICTS_HELD:
            self.flush()

    def add_columns(self, doc_ids: Any, stage: str, rule: str, values: Any, details: Any) -> None:
        """Drops of many documents by one rule, as Arrow's columns (or one text for all)."""
        self.flush()
        columns = (stage, rule, "dropped", values, details)
        same = (pa.repeat(column, len(doc_ids)) if isinstance(column, str) else column for column in columns)
        self.write(pa.table([doc_ids, *same], schema=LEDGER_SCHEMA))
        if len(doc_ids):
            self._counts["dropped"][f"{stage}/{rule}"] += len(doc_ids)

    def flush(self) -> None:
        """Writes what is held."""
        rows, self._rows = self._rows, []
        columns = {name: [getattr(row, name) for row in rows] for name in LEDGER_SCHEMA.names}
        self.write(pa.table(columns, schema=LEDGER_SCHEMA))

    @property
    def rules(self) -> dict[str, dict[str, int]]:
        """How many documents each rule changed and dropped so far."""
        return {name: dict(sorted(counter.items())) for name, counter in self._counts.items()}
