"""Rows of Arrow's own format, file or stream: what `datasets` saves, and Feather V2.

    read_arrow(intake, file)

Only the columns that are asked for are unpacked; what becomes of a row is the same as in Parquet (parquet_rows.py).
Text stays bytes until it is decoded there, so that a wrong byte costs a character, not the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

import pyarrow as pa

from tilth.data.document import Outcome
from tilth.data.sources.intake import Intake
from tilth.data.sources.parquet_rows import read_columns, value_at

_MAGIC = b"ARROW1"


def read_arrow(intake: Intake, file: BinaryIO) -> Iterator[Outcome]:
    """The outcomes of an Arrow file, row by row."""
    yield from read_columns(intake, file, _schema, _rows)


def _schema(file: BinaryIO) -> pa.Schema:
    return _open(file).schema


def _open(file: BinaryIO, fields: list[int] | None = None) -> Any:
    file.seek(0)
    is_file = file.read(len(_MAGIC)) == _MAGIC
    file.seek(0)
    options = pa.ipc.IpcReadOptions(included_fields=fields)
    return pa.ipc.open_file(file, options=options) if is_file else pa.ipc.open_stream(file, options=options)


def _rows(file: BinaryIO, schema: pa.Schema, columns: list[str]) -> Iterator[dict[str, Any]]:
    reader = _open(file, [schema.get_field_index(name) for name in columns])
    for batch in _batches(reader):
        read = {name: _checked(batch.column(name)) for name in batch.schema.names}
        for index in range(batch.num_rows):
            yield {name: value_at(column, index) for name, column in read.items()}


def _batches(reader: Any) -> Iterator[pa.RecordBatch]:
    if hasattr(reader, "num_record_batches"):
        return (reader.get_batch(number) for number in range(reader.num_record_batches))
    return iter(reader)


def _checked(column: pa.Array) -> pa.Array:
    """A column whose texts lie where it says: a file can claim that they lie beyond its end."""
    kind, types = column.type, pa.types
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        column.validate()
        column = column.cast(pa.large_binary())
    column.validate(full=True)
    return column
