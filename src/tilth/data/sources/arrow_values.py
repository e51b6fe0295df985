"""Arrow's values as Python has them, those that it does not have too.

values_of(column)                  of a batch
TooLong  Unreadable                what stands for those that are too large, or that cannot be read
said_by(error)                     why
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from tilth.core.faults import cut
from tilth.data.sources import streams

_AT_ONCE = 8 << 20  # bytes of a batch that become Python objects together
# What Arrow raises where Python has no such value: of texts, dates, times, and (KeyError, or OSError) their zones.
_UNREADABLE = (ArithmeticError, LookupError, NotImplementedError, OSError, TypeError, ValueError)


class TooLong(int):
    """The bytes of something nested that is beyond what is held in memory."""


class Unreadable(NamedTuple):
    """A value that Python does not have: no null, which would be an empty text."""

    kind: str
    said: str


def values_of(column: pa.Array) -> Iterable[Any]:
    """A batch's values: at once when they are small, else one by one, for as Python objects they are larger still."""
    column = _as_python_has_it(column)
    if column.nbytes <= _AT_ONCE:
        with contextlib.suppress(*_UNREADABLE):
            return list(column.to_pylist())
    return (_value(column, index) for index in range(len(column)))


def _as_python_has_it(column: pa.Array) -> pa.Array:
    """Times to the microsecond: with nanoseconds they would be pandas' where that is installed, and an error else. A
    number of 32 or 16 bits as the one of 64 with its digits, so that 0.1 is not written 0.10000000149011612; not those
    in lists, which are vectors, and long.
    """
    column = _cast(column, _replaced(column.type, _in_microseconds))
    column = _without_halves(column)
    kind = column.type
    spelled = _cast(column, _replaced(kind, _float_as(pa.string()), lists=False))
    return _cast(spelled, _replaced(kind, _float_as(pa.float64()), lists=False))


def _without_halves(column: pa.Array) -> pa.Array:
    """With a number of 64 bits for each of 16: Arrow's own cast to a text spells a half as it does its double."""
    if pa.types.is_struct(column.type):
        old = [column.field(index) for index in range(column.type.num_fields)]
        new = [_without_halves(one) for one in old]
        if all(one is other for one, other in zip(old, new, strict=True)):
            return column
        fields = [field.with_type(one.type) for field, one in zip(column.type, new, strict=True)]
        return pa.StructArray.from_arrays(new, fields=fields, mask=column.is_null())
    if not pa.types.is_float16(column.type):
        return column
    halves = column.to_numpy(zero_copy_only=False)
    spelled = halves.astype(str).astype(np.float64)
    exact = np.where(halves == np.rint(halves), halves, spelled)  # of 65504 its digits give 65500
    return pa.array(exact, mask=column.is_null().to_numpy(zero_copy_only=False))


def _cast(column: pa.Array, kind: pa.DataType) -> pa.Array:
    if kind == column.type:
        return column
    try:
        return column.cast(kind, safe=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return column  # value by value it is seen what of it can be read


def _replaced(kind: pa.DataType, leaf: Callable[[pa.DataType], pa.DataType], *, lists: bool = True) -> pa.DataType:
    """A type with `leaf` of each type that stands in it: in structs, and in lists of them."""
    types = pa.types

    def within(field: pa.Field) -> pa.Field:
        return field.with_type(_replaced(field.type, leaf, lists=lists))

    if types.is_struct(kind):
        return pa.struct([within(field) for field in kind])
    if lists and types.is_fixed_size_list(kind):
        return pa.list_(within(kind.value_field), kind.list_size)
    if lists and types.is_large_list(kind):
        return pa.large_list(within(kind.value_field))
    if lists and types.is_list(kind):
        return pa.list_(within(kind.value_field))
    if lists and types.is_map(kind):
        return pa.map_(within(kind.key_field), within(kind.item_field), kind.keys_sorted)
    return leaf(kind)


def _in_microseconds(kind: pa.DataType) -> pa.DataType:
    types = pa.types
    if types.is_timestamp(kind) and kind.unit == "ns":
        return pa.timestamp("us", kind.tz)
    if types.is_duration(kind) and kind.unit == "ns":
        return pa.duration("us")
    return pa.time64("us") if kind == pa.time64("ns") else kind


def _float_as(other: pa.DataType) -> Callable[[pa.DataType], pa.DataType]:
    return lambda kind: other if pa.types.is_float32(kind) else kind


def _value(column: pa.Array, index: int) -> Any:
    """A value as Python has it; a text that is no UTF-8 as bytes, something nested that is too large as its length, and
    what Python does not have (a date after the year 9999, a time zone that nobody knows) as `Unreadable`.
    """
    if pa.types.is_nested(column.type) and (size := column.slice(index, 1).nbytes) > streams.LONGEST_LINE:
        return TooLong(size)
    scalar = column[index]
    if pa.types.is_dictionary(column.type):
        scalar = scalar.value if scalar.is_valid else pa.scalar(None)
    try:
        return scalar.as_py()
    except UnicodeDecodeError:
        if hasattr(scalar, "as_buffer"):
            return scalar.as_buffer().to_pybytes()
        return Unreadable("bytes", "bytes that are not UTF-8")
    except pa.ArrowException:
        raise
    except _UNREADABLE as error:
        kind = cut(str(column.type))
        return Unreadable(kind, f"{kind} that cannot be read: {said_by(error)}")


def said_by(error: Exception) -> str:
    """The beginning of an error of Arrow's, on one line."""
    return " ".join(str(error).split())[:200]
