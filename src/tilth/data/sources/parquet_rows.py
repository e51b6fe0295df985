"""Rows of Parquet: the columns that are asked for, a few hundred rows in memory at a time.

    read_parquet(intake, file)
    read_columns(intake, file, …)     the same for another format that has columns

A file with another schema is refused with the names of the columns that it has; one that is damaged keeps what was read
before. Texts that are not UTF-8 (Arrow does not check what a file claims) are counted like those of any other file.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tilth.core import progress
from tilth.core.faults import cut, short
from tilth.data.document import Outcome, Rows
from tilth.data.sources import streams
from tilth.data.sources.arrow_values import TooLong, Unreadable, said_by, values_of
from tilth.data.sources.intake import Intake, Note
from tilth.data.sources.losses import UnfitFileError
from tilth.data.sources.plain import plain_column
from tilth.data.sources.rows import column_remedy, shaped, too_long
from tilth.data.sources.shapes import Shape, shape_of
from tilth.data.sources.tally import Tally

_BATCH_ROWS, _MOST_ROWS = 256, 1 << 13
_USUAL_BATCH = 1 << 20  # bytes; of short texts more rows make a batch, each of which takes its time
_LARGEST_BATCH = 512 << 20
_HEADER, _DICTIONARY_PAGE = 32, 2
_LARGEST_ROW_GROUP = 2 << 30  # bytes, unpacked, of the columns that are read: a group is unpacked a column at a time

SchemaOf = Callable[[BinaryIO], pa.Schema]
RowsOf = Callable[[BinaryIO, list[str]], Iterator[dict[str, Any] | pa.Array]]


def read_parquet(intake: Intake, file: BinaryIO) -> Iterator[Outcome | Rows]:
    """The outcomes of a Parquet file, row by row; where nothing is to be said of rows, many documents at once."""
    shape = shape_of(intake.config)
    plain, places = shape.text is not None and intake.takes_rows, (*shape.columns, *shape.optional)
    yield from read_columns(intake, file, _schema, functools.partial(_rows, places=places, plain=plain))


def read_columns(intake: Intake, file: BinaryIO, schema_of: SchemaOf, rows_of: RowsOf) -> Iterator[Outcome | Rows]:
    """The outcomes of a file of Arrow's kinds, row by row.

    Args:
        schema_of: what columns the file has.
        rows_of: its rows, with those columns that are named; of a single column also its values, many rows at a time.
    """
    tally, shape, place = Tally(intake), shape_of(intake.config, of_structs=True), intake.item.locator
    number = text = 0
    try:
        size = file.seek(0, 2)
        for found in rows_of(file, _columns(intake, shape, schema_of(file))):
            first, made = number + 1, None
            if isinstance(found, dict):
                number += 1
                made = _row(tally, shape, found, f"{place}#row={number}")
                text += len(made.document.text) if made.document is not None else 0
            else:
                number += len(found)
                text += pc.sum(pc.utf8_length(found)).as_py()
                tally.good(len(found))
            if text > streams.BOMB_BYTES and text > streams.BOMB_RATIO * size:
                raise _Refused("bomb", f"{text} characters of text out of {size} bytes")
            yield intake.rows(found, range(first, number + 1), "#row=") if made is None else made
    except _Refused as error:
        yield intake.lose(place, Note(error.rule, "", f"{place}: {error.why}"))
    except (OSError, pa.ArrowException) as error:
        why = f"{place}, row {number + 1}: it is damaged, or none of its kind: {said_by(error)}"
        yield intake.lose(f"{place}#row={number + 1}", Note("damaged", "", why))
    tally.judge()


class _Refused(Exception):  # noqa: N818 - a verdict on its way
    def __init__(self, rule: str, why: str) -> None:
        super().__init__(rule, why)
        self.rule, self.why = rule, why


def _schema(file: BinaryIO) -> pa.Schema:
    file.seek(0)
    return pq.read_schema(file)


def _columns(intake: Intake, shape: Shape, schema: pa.Schema) -> list[str]:
    """The columns that are read; of a place within one (`author.name`) that one."""
    missing = [name for name in shape.columns if _column_of(name, schema) is None]
    found = (_column_of(name, schema) for name in (*shape.columns, *shape.optional))
    wanted = list(dict.fromkeys(name for name in found if name is not None))
    twice = [name for name in wanted if schema.names.count(name) > 1]
    shown = ", ".join(f"{short(field.name)} ({cut(str(field.type))})" for field in list(schema)[:20]) or "none"
    if twice:
        why, remedy = f"two columns are called {twice[0]!r}", "rename one of them in the file"
    elif missing:
        why = f"no column {missing[0]!r}; the columns are {shown}"
        remedy = column_remedy(missing[0], schema.names, list(_within(schema)))
    else:
        return wanted
    if intake.config.max_bad_rows == 1:
        raise _Refused("other_schema", why)
    remedy = f"{remedy}; `max_bad_rows: 1` counts such files and goes on"
    raise UnfitFileError(f"{intake.item.path}: {why}", remedy, "other_schema")


def _column_of(name: str, schema: pa.Schema) -> str | None:
    """The column in which a name of the recipe stands: the one that is called so, or a struct that holds it."""
    if name in schema.names:
        return name
    once = (head for head in _heads(name) if schema.names.count(head) == 1)
    return next((head for head in once if _holds(schema.field(head).type, name[len(head) + 1 :])), None)


def _heads(name: str) -> Iterator[str]:
    """What may be the first of the keys in a name, the longest first: `a.b` and `a` of `a.b.c`."""
    while "." in name:
        name = name.rpartition(".")[0]
        yield name


def _holds(kind: pa.DataType, name: str) -> bool:
    if not pa.types.is_struct(kind):
        return False
    if kind.get_field_index(name) >= 0:
        return True
    inner = (head for head in _heads(name) if kind.get_field_index(head) >= 0)
    return any(_holds(kind.field(head).type, name[len(head) + 1 :]) for head in inner)


def _within(fields: Iterable[pa.Field], before: str = "") -> Iterator[str]:
    """The places within structs, as a recipe names them."""
    for field in fields:
        if before:
            yield f"{before}{field.name}"
        if pa.types.is_struct(field.type):
            yield from _within(field.type, f"{before}{field.name}.")


def _rows(
    file: BinaryIO, columns: list[str], *, places: Sequence[str], plain: bool
) -> Iterator[dict[str, Any] | pa.Array]:
    """Rows as Python has them, of the columns that are asked for.

    Args:
        places: what of them is: a column, or one within it, beside which what it holds else is not read.
        plain: give the texts of a batch of which nothing is to be said as they are.
    """
    file.seek(0)
    columns = _narrowed(columns, places)
    with pq.ParquetFile(file) as parquet:
        groups = (parquet.metadata.row_group(n) for n in range(parquet.num_row_groups))
        sizes = [_batch_rows(file, group, n, columns) for n, group in enumerate(groups)]
        for group, rows in enumerate(sizes):  # a batch over two groups would be lost with the second
            for batch in parquet.iter_batches(batch_size=rows, row_groups=[group], columns=columns):
                if plain and (texts := plain_column(batch.column(0))) is not None:
                    yield texts
                    continue
                columns_of_values = [values_of(column) for column in batch.columns]
                for values in zip(*columns_of_values, strict=True):
                    yield dict(zip(batch.schema.names, values, strict=True))
            columns_read = (parquet.metadata.row_group(group).column(n) for n in range(parquet.metadata.num_columns))
            progress.advance(sum(column.total_compressed_size for column in columns_read))


def _narrowed(columns: Sequence[str], places: Sequence[str]) -> list[str]:
    """Columns, and in place of those that are not asked for themselves the places within them that are."""
    within = {name: [place for place in places if place.startswith(f"{name}.")] for name in columns}
    return [place for name in columns for place in ([name] if name in places else within[name])]


def _batch_rows(file: BinaryIO, group: Any, number: int, columns: list[str]) -> int:
    """How many rows of a row group are read at a time.

    A text that stands in a dictionary is stored once and read for each row: a batch must fit even if each of its rows
    is as long as the whole dictionary can be.
    """
    parts = [group.column(index) for index in range(group.num_columns)]
    parts = [part for part in parts if f"{part.path_in_schema}.".startswith(tuple(f"{name}." for name in columns))]
    size = sum(part.total_uncompressed_size for part in parts)
    if size > _LARGEST_ROW_GROUP:
        raise _Refused("too_large", f"row group {number + 1} takes {size} bytes, more than {_LARGEST_ROW_GROUP}")
    longest = sum(_dictionary_size(file, part) for part in parts if part.has_dictionary_page)
    usual = _USUAL_BATCH * group.num_rows // max(size, 1)
    return int(max(1, min(_LARGEST_BATCH // max(longest, 1), max(_BATCH_ROWS, min(usual, _MOST_ROWS)))))


def _dictionary_size(file: BinaryIO, part: Any) -> int:
    """Bytes of the dictionary of a column, unpacked, as its page says; where that cannot be read, of the column.

    Source: Apache Parquet, `parquet.thrift`, PageHeader: 1 type, 2 uncompressed_page_size, 3 compressed_page_size, in
    Thrift's compact protocol (`_numbers`).
    """
    whole = int(part.total_uncompressed_size)
    if part.dictionary_page_offset is None:
        return whole
    file.seek(part.dictionary_page_offset)
    kind, *sizes = itertools.islice(_numbers(file.read(_HEADER)), 3)
    return min(max(sizes), whole) if kind == _DICTIONARY_PAGE and len(sizes) == 2 else whole


def _numbers(raw: bytes) -> Iterator[int]:
    """The i32 fields that a struct of Thrift's compact protocol begins with: a byte 0x15, then a zigzag varint; -1
    where another one stands or the bytes end.
    """
    at = 0
    while raw[at : at + 1] == b"\x15":
        value = shift = 0
        for byte in raw[at + 1 : at + 6]:
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        else:
            break
        yield (value >> 1) ^ -(value & 1)
        at += 1 + shift // 7
    yield -1


def _row(tally: Tally, shape: Shape, row: dict[str, Any], locator: str) -> Outcome:
    notes: list[Note] = []
    for name, value in row.items():
        length = value if isinstance(value, TooLong) else len(value) if isinstance(value, (str, bytes)) else 0
        if length > streams.LONGEST_LINE:
            return tally.bad(locator, too_long(locator, length))
        if isinstance(value, Unreadable):
            return tally.bad(locator, Note("not_text", value.kind, f"{locator}: {name!r} holds {value.said}"))
        if isinstance(value, bytes):
            row[name], faults = tally.intake.decode(value, f"{locator}, {name!r}")
            notes += faults
    return shaped(tally, shape, row, locator, *notes)
