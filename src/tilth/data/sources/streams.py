"""The bytes of a file in pieces, whatever it is packed in, and never more of them in memory than a piece.

read_pieces(item)            bytes of an `Input`: plain, gzip, zstd, bzip2 or xz, checked against its SHA-256 at the end
unpacked(pieces, codec)      the same for pieces that come from elsewhere
as_utf8(pieces)              the same as UTF-8: byte order mark taken off, UTF-16 and UTF-32 recoded
recoded(pieces, encoding)    pieces in an encoding that something else says
whole_lines(pieces)          the same, cut at line borders only; a line beyond the limit is left out and measured
blocks(pieces)               the same, in blocks of up to 16 MiB
lines(pieces)                the same, line by line, numbered from 1
split_lines(block)           the lines of a block
"""

from __future__ import annotations

import codecs
import contextlib
import hashlib
import itertools
import lzma
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from tilth.core import progress
from tilth.core.errors import DataError
from tilth.data.sources.inputs import COMPRESSIONS, Input, split_suffixes
from tilth.data.sources.unpackers import UNPACKERS, Source

PIECE = 1 << 20
LONGEST_LINE = 64 << 20
LARGEST_BLOCK = 16 << 20

# Text packs 3 to 20 times; gzip cannot exceed 1032 times, zstd can reach thirty thousand. Judged from 1 GiB on.
BOMB_BYTES, BOMB_RATIO = 1 << 30, 500
_MAGIC = {
    b"\x1f\x8b\x08": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\xfd7zXZ\0": "xz",
    **{b"BZh%d1AY&SY" % level: "bz2" for level in range(1, 10)},
}
_TESTERS = {"gzip": "gzip", "zstd": "zstd", "bz2": "bzip2", "xz": "xz"}
_BOMS = [  # UTF-32's begins with UTF-16's: the longer first
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
]


class PackedError(DataError):
    """Packed data that is cut off or damaged; what came before was read."""

    rule = "damaged"


class BombError(PackedError):
    """Packed data that grows beyond all reason; what came before was read."""

    rule = "bomb"


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


class Pieces:
    """Pieces as something to read from."""

    closed = False

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._rest, self.position = pieces, b"", 0

    def read(self, size: int) -> bytes:
        if not self._rest:
            self._rest = next(self._pieces, b"")
        piece, self._rest = self._rest[:size], self._rest[size:]
        self.position += len(piece)
        return piece

    def close(self) -> None:
        self.closed = True


@contextlib.contextmanager
def opened(item: Input) -> Iterator[BinaryIO]:
    """A file of a source; DataError when it cannot be opened or read."""
    try:
        with item.path.open("rb") as file:
            yield file
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(f"cannot read {item.path}: {reason}", "check that the file is there and readable") from error


def read_pieces(item: Input) -> Iterator[bytes]:
    """The decompressed bytes of a file, at most `PIECE` at a time.

    Raises:
        DataError: it cannot be opened, or is not the file that was listed (size and SHA-256 differ: it changed since).
        PackedError: it is truncated or damaged (names file and offset).
        BombError: it is a decompression bomb.
    """
    with opened(item) as file:
        codec = COMPRESSIONS.get(split_suffixes(item.path.name)[1]) or _codec_of(file)
        hashed = _HashedFile(file)
        if codec:
            pieces = _decompressed(hashed, codec, str(item.path), f" of {item.size}")
        else:
            pieces = iter(lambda: hashed.read(PIECE), b"")
        said = 0
        for piece in pieces:
            yield piece
            progress.advance(hashed.position - said)  # when the piece has been used
            said = hashed.position
        while hashed.read(PIECE):
            pass
    if (hashed.position, hashed.hexdigest()) != (item.size, item.sha256):
        raise changed(item, hashed.position, hashed.hexdigest())


def hash_of(file: BinaryIO) -> tuple[int, str]:
    """Size and SHA-256 of an open file."""
    hashed = _HashedFile(file)
    while hashed.read(PIECE):
        pass
    return hashed.position, hashed.hexdigest()


def changed(item: Input, size: int | None = None, sha256: str = "") -> DataError:
    """The error that says that a file is not the one that was listed."""
    now = (
        f": its SHA-256 is {sha256} ({size} bytes), it was {item.sha256} ({item.size} bytes)"
        if size is not None
        else ""
    )
    return DataError(
        f"{item.path} changed while it was used{now}", "let nothing write into the source, then type the same command"
    )


def unpacked(pieces: Iterator[bytes], codec: str, name: str) -> Iterator[bytes]:
    """The decompressed bytes of pieces; PackedError and BombError as for `read_pieces`."""
    return _decompressed(Pieces(pieces), codec, name)


def _codec_of(file: BinaryIO) -> str | None:
    """Packed files without the suffix are known by their first bytes, which no text begins with."""
    start = file.read(max(map(len, _MAGIC)))
    file.seek(0)
    return next((codec for magic, codec in _MAGIC.items() if start.startswith(magic)), None)


def _decompressed(source: Source, codec: str, name: str, of: str = "") -> Iterator[bytes]:
    out = 0
    pieces = UNPACKERS[codec](source, PIECE)
    while True:
        try:
            piece = next(pieces, b"")
        except (OSError, zlib.error, lzma.LZMAError, EOFError) as error:
            raise PackedError(
                f"{name}: its {codec} data is cut off or damaged near byte {source.position}{of} "
                f"(after {out} bytes of text): {error}",
                f"get the file again, and test it with `{_TESTERS[codec]} -t`",
            ) from error
        if not piece:
            return
        out += len(piece)
        if out > BOMB_BYTES and out > BOMB_RATIO * source.position:
            raise BombError(
                f"{name} grows more than {BOMB_RATIO} times on decompression ({out} bytes so far)",
                "look at the file: text does not grow so; if it is meant, decompress it yourself",
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
            return Utf8(recoded(body, encoding), encoding)
    return Utf8(itertools.chain([start], rest))


def _mark(fault: UnicodeError) -> tuple[str, int]:
    assert isinstance(fault, UnicodeDecodeError)
    return "\udcff", fault.end


def recoded(pieces: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    """Pieces in another encoding as UTF-8; what cannot be decoded becomes the byte 0xFF, which is none."""
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
        for row in [piece] if isinstance(piece, int) else split_lines(piece):
            yield number, row
            number += 1


def split_lines(block: bytes) -> list[bytes]:
    """The lines of a block of `whole_lines`, without their line feeds."""
    rows = block.split(b"\n")
    if not rows[-1]:
        rows.pop()  # the block ended with a line end: nothing follows it yet
    return rows
