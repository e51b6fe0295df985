"""What unpacks gzip, zstd, bzip2 and xz: a stream of bytes out of a source, piece by piece.

    UNPACKERS[codec](source, piece) -> Iterator[bytes]

Each reads one member after another, holds no more than a piece, and raises OSError, EOFError, zlib.error or LZMAError.
Of data that is cut off all is given out first that can be unpacked. Of damaged data not what was unpacked in the same
step: what stands before the place where the damage is noticed may be wrong already.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterator
from typing import Protocol

import pyarrow as pa
import zstandard

_PACKED = 1 << 18  # bytes that are taken at a time
_GZIP = 31  # zlib's word for a gzip header and its largest window
_FILL = b"\xff"
_PADDING = b"\0"
_XZ_MEMORY = 256 << 20  # bytes that unpacking may take; `xz -9` asks for 65 MiB
_DICTIONARY = b"\x5d\x2a\x4d\x18"  # begins the frame of a dictionary: "WARC Files Using Zstandard" (IIPC), section 3
_LARGEST_DICTIONARY = 16 << 20
_FRAME_SLICE = 256  # packed bytes that a frame with a dictionary is given at a time: 4 of them can become 128 KiB


class Source(Protocol):
    """What is unpacked: bytes, and how many of them were taken."""

    position: int

    def read(self, size: int) -> bytes:
        """The next bytes, nothing at the end."""


class _Unpacker(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


def _gzip(source: Source, piece: int) -> Iterator[bytes]:
    given = source.read(_PACKED)
    while given:
        unpacker = zlib.decompressobj(_GZIP)
        while not unpacker.eof:
            if not given and not (given := source.read(_PACKED)):
                raise EOFError("the end is missing")
            if found := unpacker.decompress(given, piece):
                yield found
            given = unpacker.unconsumed_tail
        given = _next_member(unpacker.unused_data, source, _PADDING)


def _bz2(source: Source, piece: int) -> Iterator[bytes]:
    return _members(source, piece, bz2.BZ2Decompressor)


def _xz(source: Source, piece: int) -> Iterator[bytes]:
    def make() -> _Unpacker:
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)

    return _members(source, piece, make, _PADDING)


def _members(source: Source, piece: int, make: Callable[[], _Unpacker], padding: bytes = b"") -> Iterator[bytes]:
    """Members one after another, with padding between them."""
    given = source.read(_PACKED)
    while given:
        unpacker = make()
        while not unpacker.eof:
            if unpacker.needs_input and not given and not (given := source.read(_PACKED)):
                raise EOFError("the end is missing")
            if found := unpacker.decompress(given, piece):
                yield found
            given = b""
        given = _next_member(unpacker.unused_data, source, padding)


def _next_member(given: bytes, source: Source, padding: bytes) -> bytes:
    """The first bytes of the next member: behind the padding, which tapes and tools that write whole blocks leave."""
    given = given.lstrip(padding)
    while not given and (more := source.read(_PACKED)):
        given = more.lstrip(padding)
    return given


def _zstd(source: Source, piece: int) -> Iterator[bytes]:
    """By Arrow, whose stream is bounded piece by piece and, unlike zstandard's own reader, says so when the file ends
    in the midst of a frame. What it had unpacked then stands in the buffer: up to the fill, which no UTF-8 ends with.
    """
    start = source.read(_PACKED)
    while 0 < len(start) < len(_DICTIONARY) and (more := source.read(_PACKED)):
        start += more
    if start.startswith(_DICTIONARY):
        yield from _zstd_with_dictionary(start, source)
        return
    watched, buffer = _Watched(source, start), bytearray(piece)
    with pa.PythonFile(watched, mode="r") as raw, pa.CompressedInputStream(raw, "zstd") as stream:
        while True:
            buffer[:] = _FILL * piece
            try:
                size = stream.readinto(buffer)
            except OSError:
                if watched.ended and (left := bytes(buffer.rstrip(_FILL))):
                    yield left
                raise
            if not size:
                return
            yield bytes(memoryview(buffer)[:size])


def _zstd_with_dictionary(given: bytes, source: Source) -> Iterator[bytes]:
    """Frames that share a dictionary, which stands in the first one, packed itself or not: how crawlers write
    `.warc.zst`. Arrow's stream takes no dictionary.
    """
    while len(given) < 8 or len(given) < 8 + int.from_bytes(given[4:8], "little"):
        size = int.from_bytes(given[4:8], "little")
        if size > _LARGEST_DICTIONARY:
            raise OSError(f"a dictionary of {size} bytes, more than {_LARGEST_DICTIONARY}")
        if not (more := source.read(_PACKED)):
            raise EOFError("the end of the dictionary is missing")
        given += more
    end = 8 + int.from_bytes(given[4:8], "little")
    try:
        unpacker = zstandard.ZstdDecompressor(dict_data=_dictionary(given[8:end]))
        yield from _frames(unpacker, given[end:], source)
    except zstandard.ZstdError as error:
        raise OSError(str(error)) from error


def _dictionary(content: bytes) -> zstandard.ZstdCompressionDict:
    if content.startswith(zstandard.FRAME_HEADER):
        packed = zstandard.ZstdDecompressor().stream_reader(content)
        content = packed.read(_LARGEST_DICTIONARY + 1)
        if len(content) > _LARGEST_DICTIONARY:
            raise OSError(f"a dictionary of more than {_LARGEST_DICTIONARY} bytes")
    return zstandard.ZstdCompressionDict(content)


def _frames(unpacker: zstandard.ZstdDecompressor, given: bytes, source: Source) -> Iterator[bytes]:
    frame = unpacker.decompressobj()
    begun = False
    while given or (given := source.read(_PACKED)):
        for at in range(0, len(given), _FRAME_SLICE):
            some = given[at : at + _FRAME_SLICE]
            while some:
                if found := frame.decompress(some):
                    yield found
                some, begun = frame.unused_data, not frame.eof
                if frame.eof:
                    frame = unpacker.decompressobj()
        given = b""
    if begun:
        raise EOFError("the end is missing")


class _Watched:
    """A source as a file of Python's; `ended` says whether it was read to its end and beyond.

    Args:
        start: what was taken from the source already.
    """

    closed = False

    def __init__(self, source: Source, start: bytes) -> None:
        self._source, self._start, self.ended = source, start, False

    def read(self, size: int) -> bytes:
        data, self._start = self._start[:size], self._start[size:]
        data = data or self._source.read(size)
        self.ended = not data
        return data

    def close(self) -> None:
        self.closed = True


UNPACKERS: dict[str, Callable[[Source, int], Iterator[bytes]]] = {
    "gzip": _gzip,
    "zstd": _zstd,
    "bz2": _bz2,
    "xz": _xz,
}
