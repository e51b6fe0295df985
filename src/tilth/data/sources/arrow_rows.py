"""Rows of Arrow's own format, file or stream: what `datasets` saves, and Feather V2.

    read_arrow(intake, file)

Only the columns that are asked for are unpacked; what becomes of a row is the same as in Parquet (parquet_rows.py).
Text stays bytes until it is decoded there, so that a wrong byte costs a character, not the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

import pyarrow as pa

from tilth.data.document import Outcome, Rows
from tilth.data.sources.arrow_values import values_of
from tilth.data.sources.intake import Intake
from tilth.data.sources.parquet_rows import read_columns

_MAGIC, _FEATHER_1 = b"ARROW1", b"FEA1"
_ROWS = 256  # that become Python objects together


def read_arrow(intake: Intake, file: BinaryIO) -> Iterator[Outcome | Rows]:
    """The outcomes of an Arrow file, row by row."""
    yield from read_columns(intake, file, _schema, _rows)


def _schema(file: BinaryIO) -> pa.Schema:
    return _open(file).schema


def _open(file: BinaryIO, fields: list[int] | None = None) -> Any:
    file.seek(0)
    start = file.read(len(_MAGIC))
    file.seek(0)
    if start.startswith(_FEATHER_1):
        raise pa.ArrowInvalid("Feather version 1 is another format: write it anew as version 2")
    is_file = start == _MAGIC
    options = pa.ipc.IpcReadOptions(included_fields=fields)
    return pa.ipc.open_file(file, options=options) if is_file else pa.ipc.open_stream(file, options=options)


def _rows(file: BinaryIO, columns: list[str]) -> Iterator[dict[str, Any]]:
    schema = _schema(file)
    for batch in _batches(_open(file, [schema.get_field_index(name) for name in columns])):
        names = batch.schema.names
        checked = [_checked(batch.column(name)) for name in names]
        for start in range(0, batch.num_rows, _ROWS):
            parts = [values_of(column.slice(start, _ROWS)) for column in checked]
            for values in zip(*parts, strict=True):
                yield dict(zip(names, values, strict=True))


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
