"""What is known of every document of all parts, without its text: what deduplication and the split decide by.

A document's number is its place in all parts, end to end. Columns are read part by part and let go of, but for the
first few megabytes: at most a byte or two for each document stay in memory beside those, whoever asks, so that a corpus
of a hundred million lines passes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tilth.data.duplicates.dedup import I64
from tilth.data.tasks.cleaning import DIGESTS
from tilth.data.tasks.parts import verified_file

DROPS = "drops.parquet"
ROWS_AT_ONCE = 1 << 20
"""Documents that are held as a table at a time, and the rows of a row group."""
_BATCH_ROWS = 1 << 16
_HELD = 32 << 20  # bytes of columns; several steps of a task ask for the same ones
_NUMBER = pa.field("number", pa.int64())


class Corpus:
    """The tables that `digests` left of all parts, end to end."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._files = [verified_file(folder, DIGESTS) for folder in folders]
        lengths = [pq.read_metadata(file).num_rows for file in self._files]
        self.starts: I64 = np.cumsum([0, *lengths], dtype=np.int64)[:-1]
        self._length: int = sum(lengths)
        self._held: dict[tuple[int, str], pa.ChunkedArray] = {}
        self._room = _HELD

    def __len__(self) -> int:
        return self._length

    def part(self, number: int, names: Sequence[str]) -> pa.Table:
        """Some columns of one part."""
        missing = [name for name in names if (number, name) not in self._held]
        if missing:
            read = self._read(number, missing)
            if read.nbytes > self._room:
                return read if missing == list(names) else self._read(number, names)
            self._room -= read.nbytes
            self._held.update({(number, name): read[name] for name in missing})
        return pa.table({name: self._held[number, name] for name in names})

    def _read(self, number: int, names: Sequence[str]) -> pa.Table:
        with pq.ParquetFile(self._files[number]) as file:
            return file.read(columns=list(names))

    def parts(self, names: Sequence[str]) -> Iterator[tuple[int, pa.Table]]:
        """Some columns, part by part, each with the number of its first document."""
        return ((int(start), self.part(n, names)) for n, start in enumerate(self.starts))

    def reader(self, names: Sequence[str]) -> pa.RecordBatchReader:
        """Some columns of all documents as a stream, with `number` before them."""
        stored = pq.read_schema(self._files[0])
        schema = pa.schema([_NUMBER, *(stored.field(name) for name in names)])
        batches = (
            pa.record_batch([pa.array(np.arange(start, start + len(batch))), *batch.columns], schema=schema)
            for start, batch in self.batches(names)
        )
        return pa.RecordBatchReader.from_batches(schema, batches)

    def batches(self, names: Sequence[str]) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Some columns of a few documents at a time, each with the number of its first one."""
        for start, file in zip(self.starts.tolist(), self._files, strict=True):
            with pq.ParquetFile(file) as opened:
                for batch in opened.iter_batches(_BATCH_ROWS, columns=list(names)):
                    yield start, batch
                    start += len(batch)

    def take(self, numbers: I64, names: Sequence[str]) -> pa.Table:
        """Some columns of some documents, in the order of `numbers`; whoever asks for very many asks in pieces."""
        order = np.argsort(numbers, kind="stable")
        parts, rows = self.places(numbers[order])
        own = self.split(parts, rows)
        tables = [self.part(n, names).take(pa.array(rows)) for n, rows in enumerate(own) if len(rows)]
        if not tables:
            return self.part(0, names).slice(0, 0)
        back = np.empty(len(order), np.int64)
        back[order] = np.arange(len(order))
        return pa.concat_tables(tables).unify_dictionaries().take(pa.array(back))

    def rows(self, numbers: I64, names: Sequence[str]) -> list[dict[str, Any]]:
        """The same as rows."""
        rows: list[dict[str, Any]] = self.take(numbers, names).to_pylist()
        return rows

    def flags(self, name: str) -> npt.NDArray[np.bool_]:
        """A column of true and false."""
        return np.concatenate([np.asarray(table[name]) for _, table in self.parts([name])])

    def grouped(self) -> npt.NDArray[np.bool_]:
        """Whether a document belongs to a group of several [n]."""
        return np.concatenate([np.asarray(table["group"].is_valid()) for _, table in self.parts(["group"])])

    def dropped(self, folder: Path | None) -> Iterator[tuple[I64, I64]]:
        """What an earlier task dropped, a piece at a time in rising order: the numbers, and of those that stay."""
        if folder is None:
            return
        with pq.ParquetFile(verified_file(folder, DROPS)) as file:
            for batch in file.iter_batches(_BATCH_ROWS):
                part, row, kept = (np.asarray(batch[name]) for name in ("part", "row", "kept"))
                yield self.starts[part] + row, kept

    def gone(self, folders: Sequence[Path | None]) -> npt.NDArray[np.bool_]:
        """Whether earlier tasks dropped a document [n]."""
        gone = np.zeros(len(self), bool)
        for folder in folders:
            for numbers, _ in self.dropped(folder):
                gone[numbers] = True
        return gone

    def by_part(self, values: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
        """Values of all documents, as one array for each part."""
        return np.split(values, self.starts[1:])

    def split(self, parts: I64, values: I64) -> list[I64]:
        """Values that belong to parts, in the order of parts, as one array for each part."""
        return np.split(values, np.searchsorted(parts, np.arange(1, len(self.starts))))

    def places(self, numbers: I64) -> tuple[I64, I64]:
        """The part and the row of documents."""
        parts = np.searchsorted(self.starts, numbers, side="right") - 1
        return parts, numbers - self.starts[parts]


def group_names(table: pa.Table | pa.RecordBatch) -> pa.ChunkedArray | pa.Array:
    """What each document must not be parted from, of a table with source, doc_id and group."""
    source, doc_id, group = (table[name].cast(pa.string()) for name in ("source", "doc_id", "group"))
    stated = pc.if_else(pc.equal(group, ""), pa.scalar(None, pa.string()), group)
    return pc.binary_join_element_wise(source, pc.coalesce(stated, doc_id), "/")
