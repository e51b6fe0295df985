"""JSON Lines in which nothing is to be said of any row, read by Arrow: several times faster than row by row.

    plain_texts(block, field) -> Arrow's texts, or None where a row might need a verdict

What this gives is what `rows.py` would make of the lines one by one with Python's `json`; where Arrow's parser is more
lenient than that (several objects on a line, `Inf`, very long numbers, nesting without end, bytes that are not UTF-8
outside of the field), or a text must be changed, it gives None, and the lines are looked at one by one.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.json as pj

from tilth.data.sources.plain import Bytes, all_filled, is_utf8

_DEEP = 500  # brackets of a line; Python's parser gives up at about a thousand that are nested
_LONG_NUMBER = 4300  # digits; Python refuses more
_STRIDE = _LONG_NUMBER // 2 - 2  # so many bytes apart, two places lie in every such number
_LOOKED_BACK = 64  # bytes; after more white space it may be one
_ENDS = np.isin(np.arange(256), [*b" \t\n\r,}]"])
_DIGITS = np.array([chr(byte).isdigit() and byte < 0x80 for byte in range(256)])


def count_lines(block: bytes) -> int:
    """Lines of a block that ends with one; the last may lack its end."""
    return block.count(b"\n") + (not block.endswith(b"\n"))


def plain_texts(block: bytes, field: str) -> Any | None:
    """The texts in `field` of the objects that stand on the lines of a block, as a large_string array."""
    raw = np.frombuffer(block, np.uint8)
    if not (is_utf8(block) and _one_object_a_line(block, raw)) or _has_odd_number(block, raw):
        return None
    try:
        schema = pa.schema([(field, pa.large_string())])
        table = pj.read_json(
            pa.BufferReader(block),
            pj.ReadOptions(use_threads=False, block_size=len(block) + 1),
            pj.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
        )
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, UnicodeEncodeError):
        return None
    texts = table[field].combine_chunks()
    # Of as many rows as lines each is a line: no object goes over a line's end, for it would begin again with `{`
    # after a `}`, or stand in a string, which holds no line end.
    return texts if len(texts) == count_lines(block) and not texts.null_count and all_filled(texts) else None


def _one_object_a_line(block: bytes, raw: Bytes) -> bool:
    """Whether every line begins and ends as an object does, and none may be nested too deep."""
    ends = np.flatnonzero(raw == ord("\n"))
    if not block.endswith(b"\n"):
        ends = np.append(ends, len(raw))
    starts = np.concatenate([[0], ends[:-1] + 1])
    if not ((raw[starts] == ord("{")) & (raw[ends - 1] == ord("}"))).all():
        return False
    brackets = np.flatnonzero((raw | 0x20) == ord("{"))  # and [, which has one bit less
    return bool(np.diff(np.searchsorted(brackets, [0, *ends])).max() <= _DEEP)


def _has_odd_number(block: bytes, raw: Bytes) -> bool:
    """Whether there may be a number that Arrow reads and Python does not: `Inf`, `-NaN`, or of too many digits."""
    for name, signed in ((b"Inf", False), (b"NaN", True)):
        at = np.flatnonzero(raw[1:-3] == name[0]) + 1  # an object's braces stand around every number
        at = at[(raw[at + 1] == name[1]) & (raw[at + 2] == name[2])]
        at = at[raw[at - 1] == ord("-") if signed else _ENDS[raw[at + 3]]]
        if any(_may_be_value(block, place) for place in at.tolist()):
            return True
    digits = np.flatnonzero(_DIGITS[raw[::_STRIDE]]) * _STRIDE
    return any(block[a:b].isdigit() for a, b in pairwise(digits.tolist()) if b - a == _STRIDE)


def _may_be_value(block: bytes, place: int) -> bool:
    """Whether a value may begin here, or with a sign before: after a colon, a comma or a bracket. In most texts it is a
    word.
    """
    before = block[max(place - _LOOKED_BACK, 0) : place].removesuffix(b"-").rstrip(b" \t\r\n")
    return not before or before[-1] in b":,["
