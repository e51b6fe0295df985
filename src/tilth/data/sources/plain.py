"""Texts of which nothing is to be said, many at a time: no object is made of any of them.

    plain_lines(block) -> Lines     the lines of a block, and which of them hold no text
    plain_column(column)            a column of Parquet
    is_utf8(block)  all_filled(texts)

Each gives what `intake.py` would make of the texts one by one; None where one of them may have to be changed (it is not
UTF-8, or holds a NUL), and all are looked at one by one.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tilth.data.sources import streams

I64 = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]

# Bytes with which white space begins and ends in UTF-8, as `str.isspace` knows it: U+0085, U+00A0, U+1680, U+2000 to
# U+200A, U+2028, U+2029, U+202F, U+205F, U+3000 beside ASCII's.
_ASCII_SPACE = b"\t\n\v\f\r\x1c\x1d\x1e\x1f "
_SPACE_BEGINS, _SPACE_ENDS = np.zeros(256, bool), np.zeros(256, bool)
_SPACE_BEGINS[[*_ASCII_SPACE, 0xC2, 0xE1, 0xE2, 0xE3]] = True
_SPACE_ENDS[[*_ASCII_SPACE, *range(0x80, 0x8B), 0x9F, 0xA0, 0xA8, 0xA9, 0xAF]] = True


class Lines(NamedTuple):
    """The lines of a block.

    Attributes:
        texts: of those that hold more than white space, a large_string array.
        filled, blank: the places of these and of the others, from 0.
    """

    texts: Any
    filled: I64
    blank: I64


def plain_lines(block: bytes) -> Lines | None:
    """The lines of a block of `streams.whole_lines`, without their line ends."""
    if b"\0" in block or not is_utf8(block):
        return None
    ended = block.endswith(b"\n")
    block = block.replace(b"\r\n", b"\n").removesuffix(b"\r")  # of each line the last one, as of the file's
    raw = np.frombuffer(block, np.uint8)
    ends = np.flatnonzero(raw == ord("\n"))
    if not ended:
        ends = np.append(ends, len(raw))
    starts = np.concatenate([[0], ends[:-1] + 1])
    blank = starts == ends
    some = np.flatnonzero(~blank)
    unsure = some[_SPACE_BEGINS[raw[starts[some]]] & _SPACE_ENDS[raw[ends[some] - 1]]]
    blank[unsure] = [
        block[start:end].decode().isspace() for start, end in zip(starts[unsure], ends[unsure], strict=True)
    ]
    offsets = np.concatenate([[0], np.cumsum(ends - starts)])
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(block.replace(b"\n", b""))]
    texts = pa.Array.from_buffers(pa.large_string(), len(starts), buffers)
    if blank.any():
        texts = texts.filter(pa.array(~blank))
    return Lines(texts, np.flatnonzero(~blank), np.flatnonzero(blank))


def plain_column(column: pa.Array) -> Any | None:
    """The texts of a column, a large_string array."""
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)) or column.null_count:
        return None
    try:
        column.validate(full=True)  # which nobody did who read the file
    except pa.ArrowInvalid:
        return None
    texts = column.cast(pa.large_string())
    if not len(texts) or pc.max(pc.binary_length(texts)).as_py() > streams.LONGEST_LINE or not all_filled(texts):
        return None
    return texts


def is_utf8(block: bytes) -> bool:
    """Whether a block is UTF-8 throughout."""
    if block.isascii():
        return True
    try:
        block.decode()
    except UnicodeDecodeError:
        return False
    return True


def all_filled(texts: Any) -> bool:
    """Whether every text of a large_string array holds more than white space, and none a NUL, which is taken out."""
    offsets = np.frombuffer(texts.buffers()[1], np.int64, len(texts) + 1, texts.offset * 8)
    data: Bytes = np.frombuffer(texts.buffers()[2] or b"", np.uint8)
    if not np.diff(offsets).all() or not data[offsets[0] : offsets[-1]].all():
        return False
    unsure = np.flatnonzero(_SPACE_BEGINS[data[offsets[:-1]]] & _SPACE_ENDS[data[offsets[1:] - 1]])
    return not any(texts[place].as_py().isspace() for place in unsure.tolist())
