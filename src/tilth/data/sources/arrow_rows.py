"""Files of Arrow's kinds: one row, one document, its text taken from one column.

    read_arrow(intake)                Arrow IPC, file or stream: what `datasets` and Feather V2 write
    read_parquet(intake)              Parquet
    read_parquet_file(intake, file)   the same, from whatever has it open

Only the column that is wanted is read, a few rows at a time. Rows are counted from 1: `path#row=1`. Text stays bytes
until `Intake` decodes it, so that one wrong byte costs one row, not the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tilth.core.errors import DataError
from tilth.core.files import hash_file
from tilth.data.document import Outcome
from tilth.data.sources import streams
from tilth.data.sources.intake import Intake, Note
from tilth.data.sources.rows import Tally, too_long

_ROWS = 128  # in memory at once: a row may have up to `streams.LONGEST_LINE` bytes


def read_arrow(intake: Intake) -> Iterator[Outcome]:
    """The outcomes of an Arrow IPC file."""
    _unchanged(intake)
    path = intake.item.path
    with pa.memory_map(str(path)) as source:
        is_file = source.read(6) == b"ARROW1"
        source.seek(0)
        open_ipc = pa.ipc.open_file if is_file else pa.ipc.open_stream
        try:
            schema = open_ipc(source).schema
            source.seek(0)
            options = pa.ipc.IpcReadOptions(included_fields=[_index(intake, schema)])
            reader = open_ipc(source, options=options)
            batches = (reader.get_batch(i) for i in range(reader.num_record_batches)) if is_file else iter(reader)
            yield from _rows(intake, batches)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OSError) as error:
            raise DataError(
                f"{path} is no whole Arrow file: {error}", "get or save the file again, or name another `format:`"
            ) from error


def read_parquet(intake: Intake) -> Iterator[Outcome]:
    """The outcomes of a Parquet file."""
    _unchanged(intake)
    try:
        with pq.ParquetFile(intake.item.path, pre_buffer=False, buffer_size=1 << 20) as file:
            yield from read_parquet_file(intake, file)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(
            f"{intake.item.path} is no whole Parquet file: {error}", "get the file again, or name another `format:`"
        ) from error


def read_parquet_file(intake: Intake, file: pq.ParquetFile) -> Iterator[Outcome]:
    """The outcomes of an open Parquet file, row group after row group."""
    column = file.schema_arrow.field(_index(intake, file.schema_arrow)).name
    yield from _rows(intake, file.iter_batches(batch_size=_ROWS, columns=[column]))


def _index(intake: Intake, schema: pa.Schema) -> int:
    """Where the column with the text is; DataError when there is none, or it holds something else."""
    name, place = intake.config.field, intake.item.locator
    found = schema.get_all_field_indices(name)
    if len(found) != 1:
        shown = ", ".join(f"{field.name!r} ({field.type})" for field in list(schema)[:20]) or "none"
        what = "several columns are called" if found else "no column"
        raise DataError(f"{place}: {what} {name!r}; the columns are {shown}", "name the text's column with `field:`")
    kind = schema.field(found[0]).type
    if not _is_text(kind.value_type if pa.types.is_dictionary(kind) else kind):
        raise DataError(f"{place}: the column {name!r} holds {kind}, not texts", "name the text's column with `field:`")
    return int(found[0])


def _is_text(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _rows(intake: Intake, batches: Iterator[pa.RecordBatch]) -> Iterator[Outcome]:
    tally, row = Tally(intake), 0
    for batch in batches:
        for start in range(0, batch.num_rows, _ROWS):
            for raw in _values(batch.column(0).slice(start, _ROWS)):
                row += 1
                locator = f"{intake.item.locator}#row={row}"
                if raw is None:
                    yield tally.bad(locator, Note("not_text", "null", f"{locator}: the cell holds no value"))
                elif len(raw) > streams.LONGEST_LINE:
                    yield tally.bad(locator, too_long(locator, len(raw)))
                else:
                    tally.good()
                    yield intake.from_bytes(locator, raw)
    tally.judge()


def _values(column: Any) -> list[bytes | None]:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    column = column.cast(pa.large_binary())
    column.validate(full=True)  # a file can say that a text lies where no bytes are
    values: list[bytes | None] = column.to_pylist()
    return values


def _unchanged(intake: Intake) -> None:
    item = intake.item
    try:
        found = hash_file(item.path)
    except OSError as error:
        raise DataError(f"cannot read {item.path}: {error.strerror}", "check that the file is there") from error
    if found != item.sha256:
        raise DataError(
            f"{item.path} changed while it was used: its SHA-256 is {found}, it was {item.sha256}",
            "let nothing write into the source, then type the same command",
        )
