"""Rows of Parquet: the columns that are asked for, a few hundred rows in memory at a time.

    read_parquet(intake, file)
    read_columns(intake, file, …)     the same for another format that has columns

A file with another schema is refused with the names of the columns that it has; one that is damaged keeps what was read
before. Texts that are not UTF-8 (Arrow does not check what a file claims) are counted like those of any other file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from tilth.core.errors import DataError
from tilth.data.document import Outcome
from tilth.data.sources import streams
from tilth.data.sources.intake import Intake, Note
from tilth.data.sources.rows import Tally, shaped, too_long
from tilth.data.sources.shapes import Shape, shape_of

_BATCH_ROWS = 256
_LARGEST_ROW_GROUP = 2 << 30  # bytes, unpacked, of the columns that are read: a group is unpacked a column at a time

SchemaOf = Callable[[BinaryIO], pa.Schema]
RowsOf = Callable[[BinaryIO, pa.Schema, list[str]], Iterator[dict[str, Any]]]


def read_parquet(intake: Intake, file: BinaryIO) -> Iterator[Outcome]:
    """The outcomes of a Parquet file, row by row."""
    yield from read_columns(intake, file, _schema, _rows)


def read_columns(intake: Intake, file: BinaryIO, schema_of: SchemaOf, rows_of: RowsOf) -> Iterator[Outcome]:
    """The outcomes of a file of Arrow's kinds, row by row.

    Args:
        schema_of: what columns the file has.
        rows_of: its rows, with those columns that are named.
    """
    tally, shape, place = Tally(intake), shape_of(intake.config), intake.item.locator
    number = text = 0
    try:
        size = file.seek(0, 2)
        schema = schema_of(file)
        columns = _columns(intake, shape, schema)
        for row in rows_of(file, schema, columns):
            number += 1
            outcome = _row(tally, shape, row, f"{place}#row={number}")
            text += len(outcome.document.text) if outcome.document is not None else 0
            if text > streams.BOMB_BYTES and text > streams.BOMB_RATIO * size:
                raise _Refused("bomb", f"{text} characters of text out of {size} bytes")
            yield outcome
    except _Refused as error:
        yield tally.bad(place, Note(error.rule, "", f"{place}: {error.why}"))
    except (OSError, pa.ArrowException) as error:
        yield tally.bad(f"{place}#row={number + 1}", Note("damaged", "", f"{place}, row {number + 1}: {_short(error)}"))
    tally.judge()


class _Refused(Exception):  # noqa: N818 - a verdict on its way
    def __init__(self, rule: str, why: str) -> None:
        super().__init__(rule, why)
        self.rule, self.why = rule, why


def _schema(file: BinaryIO) -> pa.Schema:
    file.seek(0)
    return pq.read_schema(file)


def _columns(intake: Intake, shape: Shape, schema: pa.Schema) -> list[str]:
    missing = [name for name in shape.columns if name not in schema.names]
    wanted = [name for name in dict.fromkeys([*shape.columns, *shape.optional]) if name in schema.names]
    twice = [name for name in wanted if schema.names.count(name) > 1]
    shown = ", ".join(f"{field.name!r} ({field.type})" for field in list(schema)[:20]) or "none"
    if twice:
        why = f"two columns are called {twice[0]!r}"
    elif missing:
        why = f"no column {missing[0]!r}; the columns are {shown}"
    else:
        return wanted
    if intake.config.max_bad_rows == 1:
        raise _Refused("other_schema", why)
    raise DataError(
        f"{intake.item.path}: {why}",
        "name the column that holds the text with `field:`, or several with `template:` or `map:`; "
        "`max_bad_rows: 1` counts such files and goes on",
    )


def _refuse_bombs(parquet: pq.ParquetFile, columns: list[str]) -> None:
    for number in range(parquet.metadata.num_row_groups):
        group = parquet.metadata.row_group(number)
        parts = (group.column(index) for index in range(group.num_columns))
        size = sum(part.total_uncompressed_size for part in parts if part.path_in_schema.split(".")[0] in columns)
        if size > _LARGEST_ROW_GROUP:
            raise _Refused("too_large", f"row group {number + 1} takes {size} bytes, more than {_LARGEST_ROW_GROUP}")


def _rows(file: BinaryIO, schema: pa.Schema, columns: list[str]) -> Iterator[dict[str, Any]]:
    """Rows one by one: a batch of them as Python objects could be far larger than what it was made from."""
    # Text as dictionaries, so that a long one that stands in each row is held once.
    texts = [field.name for field in schema if pa.types.is_string(field.type) or pa.types.is_large_string(field.type)]
    file.seek(0)
    with pq.ParquetFile(file, read_dictionary=texts) as parquet:
        _refuse_bombs(parquet, columns)
        for group in range(parquet.metadata.num_row_groups):  # a batch over two would be lost with the second
            for batch in parquet.iter_batches(batch_size=_BATCH_ROWS, row_groups=[group], columns=columns):
                names = batch.schema.names
                for index in range(batch.num_rows):
                    yield {name: value_at(column, index) for name, column in zip(names, batch.columns, strict=True)}


def value_at(column: pa.Array, index: int) -> Any:
    """A value as Python has it; a text that is no UTF-8 as bytes, something nested that is too large as its length."""
    if pa.types.is_nested(column.type) and (size := column.slice(index, 1).nbytes) > streams.LONGEST_LINE:
        return _TooLong(size)
    scalar = column[index]
    if pa.types.is_dictionary(column.type):
        scalar = scalar.value if scalar.is_valid else pa.scalar(None)
    try:
        return scalar.as_py()
    except UnicodeDecodeError:
        return scalar.as_buffer().to_pybytes() if hasattr(scalar, "as_buffer") else None


class _TooLong(int):
    pass


def _row(tally: Tally, shape: Shape, row: dict[str, Any], locator: str) -> Outcome:
    notes: list[Note] = []
    for name, value in row.items():
        length = value if isinstance(value, _TooLong) else len(value) if isinstance(value, (str, bytes)) else 0
        if length > streams.LONGEST_LINE:
            return tally.bad(locator, too_long(locator, length))
        if isinstance(value, bytes):
            row[name], faults = tally.intake.decode(value, f"{locator}, {name!r}")
            notes += faults
    return shaped(tally, shape, row, locator, *notes)


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
