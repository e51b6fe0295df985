"""The bytes of a WARC file, whether it is plain or of gzip members, for the reader of records (warc.py).

Plain(file), Members(file)      begin, peek, take, skip; find_next after what could not be read
"""

from __future__ import annotations

import contextlib
import re
import zlib
from typing import BinaryIO

PIECE = 1 << 16
GZIP = b"\x1f\x8b\x08"
VERSION = re.compile(rb"WARC/\d\.\d+\r?\n")
# HTML packs 3 to 20 times, gzip cannot exceed 1032 times. Judged from 256 MiB on.
_BOMB_BYTES, _BOMB_RATIO = 256 << 20, 500


class BrokenError(Exception):
    """What could not be read: `rule`, where in the file, and of which target, so far as that is known."""

    def __init__(self, rule: str, offset: int, detail: str, url: str = "") -> None:
        self.rule, self.offset, self.detail, self.url = rule, offset, detail, url


class Plain:
    """The bytes of a file that is not compressed."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._held, self._at = file, bytearray(), 0
        self._began = 0

    def begin(self) -> int:
        """Notes that a record begins here; returns where that is."""
        self._began = self._at
        return self._at

    def peek(self, size: int) -> bytes:
        """The next bytes, fewer at the file's end, left where they are."""
        while len(self._held) < size and (piece := self._more()):
            self._held += piece
        return bytes(self._held[:size])

    def take(self, size: int) -> bytes:
        """The next bytes, fewer at the file's end."""
        taken = self.peek(size)
        del self._held[: len(taken)]
        self._at += len(taken)
        return taken

    def skip(self, size: int) -> None:
        """Passes over bytes without holding them."""
        while size and (taken := len(self.take(min(size, PIECE)))):
            size -= taken

    def go_on(self) -> bool:
        """Whether there is more where `peek` ended: not here."""
        return False

    def _more(self) -> bytes:
        return self._file.read(PIECE)

    def find_next(self) -> bool:
        """Goes to the next place where a record begins, after the one that could not be read."""
        self._file.seek(self._began + 1)
        self._held.clear()
        self._at = self._began + 1
        while window := self.peek(4 * PIECE):
            found = re.search(rb"(?<=\n)" + VERSION.pattern, window)
            if found is not None:
                self.take(found.start())
                return True
            self.take(max(len(window) - 16, 1))
        return False


class Members:
    """The decompressed bytes of a file of gzip members, one after another.

    `peek` does not look beyond the end of a member in which a record began: what follows may be damaged, and the record
    before is whole all the same.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._held = file, bytearray()
        self._packed, self._packed_at = b"", 0  # compressed bytes that were read, and where in the file they begin
        self._inflate: zlib._Decompress | None = None
        self._member = 0  # where the member that is being read begins
        self._began = 0
        self._out = 0
        self._ended = False  # a member ended, and the next was not begun

    def begin(self) -> int:
        try:
            while not self._held:
                self._ended = False
                if not self.peek(1) and not self._ended:
                    break  # the end of the file; an empty member is none
        finally:
            self._began = self._member  # also of one that cannot be begun: what is looked for then lies behind it
        return self._began

    def peek(self, size: int) -> bytes:
        while len(self._held) < size and not self._ended and (piece := self._more()):
            self._held += piece
        return bytes(self._held[:size])

    def take(self, size: int) -> bytes:
        pieces = [self._take_some(size)]
        left = size - len(pieces[0])
        while left and self.go_on():
            pieces.append(self._take_some(left))
            left -= len(pieces[-1])
        return b"".join(pieces)

    def _take_some(self, size: int) -> bytes:
        taken = self.peek(size)
        del self._held[: len(taken)]
        return taken

    def go_on(self) -> bool:
        """Begins the next member, for a record that one does not hold: the file was packed in blocks of another kind.

        Not when a record begins there: then this one is shorter than it says.
        """
        if not self._ended:
            return False
        self._ended, before = False, len(self._held)
        start = self.peek(before + 16)[before:]
        return bool(start) and not VERSION.match(start)

    def skip(self, size: int) -> None:
        while size and (taken := len(self.take(min(size, PIECE)))):
            size -= taken

    def _more(self) -> bytes:
        """Some decompressed bytes; nothing at the end of a member, or of the file."""
        while True:
            if not self._packed:
                self._packed_at = self._file.tell()
                self._packed = self._file.read(PIECE)
            if self._inflate is None:
                begins = self._packed.lstrip(b"\0")  # zeros between members and behind them are padding
                if self._packed and not begins:
                    self._packed = begins
                    continue
                self._packed_at, self._packed = self._packed_at + len(self._packed) - len(begins), begins
                if not self._packed:
                    return b""
                self._member, self._out = self._packed_at, 0
                self._inflate = zlib.decompressobj(31)
            elif not self._packed:
                self._inflate = None
                raise BrokenError("cut_off", self._member, "the file ends within compressed data")
            piece = self._inflated(self._inflate)
            if self._ended or piece:
                return piece

    def _inflated(self, inflate: zlib._Decompress) -> bytes:
        before = len(self._packed)
        try:
            piece = inflate.decompress(self._packed, PIECE)
        except zlib.error as error:
            raise BrokenError("damaged", self._member, f"compressed data is damaged: {error}") from None
        self._packed = inflate.unused_data if inflate.eof else inflate.unconsumed_tail
        self._packed_at += before - len(self._packed)
        self._out += len(piece)
        if self._out > _BOMB_BYTES and self._out > _BOMB_RATIO * (self._packed_at - self._member):
            raise BrokenError("bomb", self._member, f"it grows more than {_BOMB_RATIO} times on decompression")
        if inflate.eof:
            self._inflate, self._ended = None, True
        return piece

    def find_next(self) -> bool:
        at = self._began + 1
        self._held.clear()
        self._ended = False
        while True:
            self._file.seek(at)
            window = self._file.read(4 * PIECE)
            found = window.find(GZIP)
            if found < 0 and len(window) <= len(GZIP):
                return False
            at += found if found >= 0 else len(window) - len(GZIP) + 1
            if found >= 0 and self._begins_record(at):
                self._file.seek(at)
                self._packed, self._inflate = b"", None
                return True
            at += found >= 0

    def _begins_record(self, at: int) -> bool:
        """Whether a gzip member begins there that begins with a record: its magic stands in compressed data too."""
        self._file.seek(at)
        with contextlib.suppress(zlib.error):
            start = zlib.decompressobj(31).decompress(self._file.read(1 << 12), 64)
            return VERSION.match(start) is not None
        return False
