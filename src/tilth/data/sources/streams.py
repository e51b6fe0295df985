"""The bytes of a file in pieces, whatever it is packed in, and never more of them in memory than a piece.

read_pieces(item)            bytes of an `Input`: plain, gzip or zstd, checked against its SHA-256 at the end
as_utf8(pieces)              the same as UTF-8: byte order mark taken off, UTF-16 and UTF-32 recoded
whole_lines(pieces)          the same, cut at line borders only; a line beyond the limit is left out and measured
blocks(pieces)               the same, in blocks of up to 16 MiB
lines(pieces)                the same, line by line, numbered from 1
"""

from __future__ import annotations

import codecs
import hashlib
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

import pyarrow as pa

from tilth.core.errors import DataError
from tilth.data.sources.inputs import COMPRESSIONS, Input, split_suffixes

PIECE = 1 << 20
LONGEST_LINE = 64 << 20
LARGEST_BLOCK = 16 << 20

# Text packs 3 to 20 times; gzip cannot exceed 1032 times, zstd can reach thirty thousand. Judged from 1 GiB on.
_BOMB_BYTES, _BOMB_RATIO = 1 << 30, 500
_MAGIC = {b"\x1f\x8b\x08": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
_BOMS = [  # UTF-32's begins with UTF-16's: the longer first
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
]


class _HashedFile:
    """Hashes what passes through `read`; as much of a file as Arrow's decompressor needs."""

    closed = False

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._digest, self.position = file, hashlib.sha256(), 0

    def read(self, size: int) -> bytes:
        piece = self._file.read(size)
        self._digest.update(piece)
        self.position += len(piece)
        return piece

    def hexdigest(self) -> str:
        return self._digest.hexdigest()

    def close(self) -> None:
        self.closed = True


def read_pieces(item: Input) -> Iterator[bytes]:
    """The decompressed bytes of a file, at most `PIECE` at a time.

    Raises:
        DataError: it cannot be opened, is truncated or damaged (names file and offset), is a decompression bomb, or is
            not the file that was listed (size and SHA-256 differ: it changed since).
    """
    try:
        with item.path.open("rb") as file:
            codec = COMPRESSIONS.get(split_suffixes(item.path.name)[1]) or _codec_of(file)
            hashed = _HashedFile(file)
            yield from _decompressed(item, hashed, codec) if codec else iter(lambda: hashed.read(PIECE), b"")
            while hashed.read(PIECE):
                pass
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(f"cannot read {item.path}: {reason}", "check that the file is there and readable") from error
    if (hashed.position, hashed.hexdigest()) != (item.size, item.sha256):
        raise DataError(
            f"{item.path} changed while it was used: its SHA-256 is {hashed.hexdigest()} ({hashed.position} bytes), "
            f"it was {item.sha256} ({item.size} bytes)",
            "let nothing write into the source, then type the same command",
        )


def _codec_of(file: BinaryIO) -> str | None:
    """Packed files without the suffix are known by their first bytes, which no text begins with."""
    start = file.read(4)
    file.seek(0)
    return next((codec for magic, codec in _MAGIC.items() if start.startswith(magic)), None)


def _decompressed(item: Input, hashed: _HashedFile, codec: str) -> Iterator[bytes]:
    # Arrow's stream is bounded piece by piece, reads one member after another and, unlike zstandard's own reader,
    # says so when the file ends in the midst of one.
    out = 0
    with pa.PythonFile(hashed, mode="r") as raw, pa.CompressedInputStream(raw, codec) as stream:
        while True:
            try:
                piece = stream.read(PIECE)
            except OSError as error:
                raise DataError(
                    f"{item.path}: its {codec} data is cut off or damaged near byte {hashed.position} of {item.size} "
                    f"(after {out} bytes of text): {error}",
                    f"get the file again, and test it with `{'gzip' if codec == 'gzip' else 'zstd'} -t`",
                ) from error
            if not piece:
                return
            out += len(piece)
            if out > _BOMB_BYTES and out > _BOMB_RATIO * hashed.position:
                raise DataError(
                    f"{item.path} grows more than {_BOMB_RATIO} times on decompression ({out} bytes so far)",
                    "text does not: look at the file; if it is meant, decompress it yourself",
                )
            yield piece


@dataclass(frozen=True, slots=True)
class Utf8:
    """Bytes that are UTF-8 as far as they are text; `bom` names the encoding of the mark that was taken off."""

    pieces: Iterator[bytes]
    bom: str = ""
    offset: int = 0
    """Bytes before the first piece: 3 for a UTF-8 mark, so that offsets are those in the file."""


def as_utf8(pieces: Iterable[bytes]) -> Utf8:
    """Takes a byte order mark off, and recodes UTF-16 and UTF-32 where the mark announces them.

    What cannot be decoded there becomes the byte 0xFF, which is no UTF-8, and is counted with the other faults later.
    """
    rest = iter(pieces)
    start = b""
    while len(start) < 4 and (piece := next(rest, b"")):
        start += piece
    for mark, encoding in _BOMS:
        if start.startswith(mark):
            body = itertools.chain([start[len(mark) :]], rest)
            if encoding == "utf-8":
                return Utf8(body, encoding, len(mark))
            return Utf8(_recoded(body, encoding), encoding)
    return Utf8(itertools.chain([start], rest))


def _mark(fault: UnicodeError) -> tuple[str, int]:
    assert isinstance(fault, UnicodeDecodeError)
    return "\udcff", fault.end


def _recoded(pieces: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    codecs.register_error("tilth.mark", _mark)  # here, not at import; doing it again changes nothing
    decoder = codecs.getincrementaldecoder(encoding)("tilth.mark")
    for piece in pieces:
        yield decoder.decode(piece).encode("utf-8", "surrogateescape")
    yield decoder.decode(b"", final=True).encode("utf-8", "surrogateescape")


def whole_lines(pieces: Iterable[bytes], longest: int | None = None) -> Iterator[bytes | int]:
    """Pieces that end at a line border (or at the file's end); an integer is the length of a line that was left out."""
    longest = LONGEST_LINE if longest is None else longest
    held: list[bytes] = []  # the beginning of a line whose end is still to come; empty when it is too long
    size = 0
    for piece in pieces:
        rest = piece
        if size > longest:
            end = rest.find(b"\n") + 1
            if not end:
                size += len(rest)
                continue
            yield size + end
            rest, size = rest[end:], 0
        cut = rest.rfind(b"\n") + 1
        if cut:
            yield b"".join([*held, rest[:cut]])
            held, size = [], 0
        held.append(rest[cut:])
        size += len(rest) - cut
        if size > longest:
            held = []
    if size > longest:
        yield size
    elif size:
        yield b"".join(held)


def blocks(pieces: Iterable[bytes]) -> Iterator[bytes | int]:
    """Whole lines in blocks of up to `LARGEST_BLOCK` bytes (more only where a single line has more)."""
    held: list[bytes] = []
    for piece in whole_lines(pieces):
        size = sum(map(len, held))
        if held and (isinstance(piece, int) or size + len(piece) > LARGEST_BLOCK):
            yield b"".join(held)
            held = []
        if isinstance(piece, int):
            yield piece
        else:
            held.append(piece)
    if held:
        yield b"".join(held)


def lines(pieces: Iterable[bytes]) -> Iterator[tuple[int, bytes | int]]:
    """`(number, line)` without its line feed (a carriage return stays); a line that is too long gives its length."""
    number = 1
    for piece in whole_lines(pieces):
        if isinstance(piece, int):
            yield number, piece
            number += 1
            continue
        rows = piece.split(b"\n")
        if not rows[-1]:
            rows.pop()  # the piece ended with a line end: nothing follows it yet
        for row in rows:
            yield number, row
            number += 1
