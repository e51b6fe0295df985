"""WARC records (ISO 28500, versions 0.17 to 1.1), each a gzip member of its own or plain.

    make_record(kind, url, date, block, …) -> bytes      one gzip member, the same for the same arguments
    read_records(file) -> Iterator[Record | Broken]      all that can be read, and what cannot

A file is read record by record, never more of it in memory than one record. Where it is damaged, the reader says what
and where, looks for the next place at which a record begins, and goes on: one flipped bit costs one record.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import re
import uuid
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

LARGEST_RECORD = 64 << 20
_LONGEST_HEAD = 1 << 16
_PIECE = 1 << 16
_GZIP = b"\x1f\x8b\x08"
_VERSION = re.compile(rb"WARC/\d\.\d+\r?\n")
_HEAD_END = re.compile(rb"\r?\n\r?\n")
# HTML packs 3 to 20 times, gzip cannot exceed 1032 times. Judged from 256 MiB on.
_BOMB_BYTES, _BOMB_RATIO = 256 << 20, 500
_ALGORITHMS = {"sha1": 20, "sha256": 32, "sha512": 64, "md5": 16}


@dataclass(frozen=True, slots=True)
class Record:
    """One record.

    Attributes:
        headers: names in lower case.
        offset: where it begins in the file: its gzip member's first byte, or its own.
        block: what it holds.
    """

    headers: Mapping[str, str]
    offset: int
    block: bytes

    @property
    def kind(self) -> str:
        """`response`, `conversion`, …"""
        return self.headers.get("warc-type", "").lower()

    @property
    def url(self) -> str:
        """The target, without the angle brackets that version 1.0 put round it."""
        return self.headers.get("warc-target-uri", "").strip().removeprefix("<").removesuffix(">")

    def digest_fault(self) -> str:
        """What is wrong with the block's digest; empty when it is right, or not stated in a way that is known."""
        name, _, stated = self.headers.get("warc-block-digest", "").strip().partition(":")
        size = _ALGORITHMS.get(name.lower().replace("-", ""))
        wanted = _digest_bytes(stated, size) if size else None
        if wanted is None:
            return ""
        found = hashlib.new(name.lower().replace("-", ""), self.block, usedforsecurity=False).digest()
        return "" if found == wanted else f"its {name} is {found.hex()}, its header says {wanted.hex()}"


class Broken(NamedTuple):
    """What could not be read: `rule`, and where in the file."""

    rule: str
    offset: int
    detail: str
    url: str = ""


def _digest_bytes(text: str, size: int) -> bytes | None:
    with contextlib.suppress(ValueError):
        return bytes.fromhex(text) if len(text) == 2 * size else _base32(text, size)
    return None


def _base32(text: str, size: int) -> bytes | None:
    raw = base64.b32decode(text.rstrip("=").upper() + "=" * (-len(text.rstrip("=")) % 8))
    return raw if len(raw) == size else None


def sha1_label(data: bytes) -> str:
    """A digest as WARC headers carry it."""
    return "sha1:" + base64.b32encode(hashlib.sha1(data, usedforsecurity=False).digest()).decode()


def make_record(
    kind: str, url: str, date: str, block: bytes, content_type: str, headers: Mapping[str, str] | None = None
) -> tuple[str, bytes]:
    """The id of a record, and its bytes: one gzip member.

    Args:
        date: ISO 8601 in UTC, as `2026-01-31T12:00:00Z`.
        headers: further named fields; None of them may hold a line end.
    """
    fields = {"WARC-Type": kind, **({"WARC-Target-URI": url} if url else {}), "WARC-Date": date, **(headers or {})}
    fields |= {"WARC-Block-Digest": sha1_label(block), "Content-Type": content_type}
    # Not drawn but computed, so that a record is the same bytes whenever it is made; in the form of a random UUID.
    identity = hashlib.sha256(repr(sorted(fields.items())).encode()).digest()[:16]
    record_id = f"<urn:uuid:{uuid.UUID(bytes=identity, version=4)}>"
    fields |= {"WARC-Record-ID": record_id, "Content-Length": str(len(block))}
    assert not any("\n" in value or "\r" in value for value in fields.values())
    head = "WARC/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fields.items()) + "\r\n"
    return record_id, gzip.compress(head.encode() + block + b"\r\n\r\n", 6, mtime=0)


def read_records(file: BinaryIO) -> Iterator[Record | Broken]:
    """The records of a file, in its order; what cannot be read comes as `Broken`, and the rest goes on."""
    start = file.read(len(_GZIP))
    file.seek(0)
    source: _Plain | _Members = _Members(file) if start == _GZIP else _Plain(file)
    while True:
        try:
            record = _next_record(source)
        except _BrokenError as error:
            yield Broken(error.rule, error.offset, error.detail, error.url or _glimpse(file, error.offset))
            if not source.find_next():
                return
            continue
        if record is None:
            return
        yield record


def _glimpse(file: BinaryIO, offset: int) -> str:
    """The target of a record that cannot be read, where its head can."""
    file.seek(offset)
    start = file.read(1 << 12)
    if start.startswith(_GZIP):
        start = _as_far_as_it_goes(start)
    found = re.search(rb"^WARC-Target-URI:\s*<?([^\s>]{1,2000})", start, re.IGNORECASE | re.MULTILINE)
    return found[1].decode("utf-8", "replace") if found and _VERSION.match(start) else ""


def _as_far_as_it_goes(packed: bytes) -> bytes:
    inflate, out = zlib.decompressobj(31), b""
    with contextlib.suppress(zlib.error):
        for at in range(0, len(packed), 64):  # what comes with the fault is lost: so in small bites
            out += inflate.decompress(packed[at : at + 64], _PIECE)
    return out


class _BrokenError(Exception):
    def __init__(self, rule: str, offset: int, detail: str, url: str = "") -> None:
        self.rule, self.offset, self.detail, self.url = rule, offset, detail, url


def _next_record(source: _Plain | _Members) -> Record | Broken | None:
    offset = source.begin()
    while source.peek(1) in (b"\r", b"\n"):  # two line ends follow a record; some writers are generous
        source.take(1)
        offset = source.begin()
    head = source.peek(_LONGEST_HEAD)
    if not head:
        return None
    while (end := _HEAD_END.search(head)) is None and len(head) < _LONGEST_HEAD and source.go_on():
        head = source.peek(_LONGEST_HEAD)
    if not _VERSION.match(head) or end is None:
        raise _BrokenError("no_record", offset, f"no record begins with {head[:20]!r}")
    headers = _fields(head[: end.start()])
    length, url = headers.get("content-length", ""), headers.get("warc-target-uri", "").strip("<> ")
    if not re.fullmatch(r"\d{1,15}", length):
        raise _BrokenError("no_record", offset, f"its Content-Length is {length[:40]!r}", url)
    source.take(end.end())
    return _with_block(source, headers, offset, int(length), url)


def _with_block(
    source: _Plain | _Members, headers: dict[str, str], offset: int, length: int, url: str
) -> Record | Broken:
    try:
        if length > LARGEST_RECORD:
            source.skip(length)
            return Broken("too_large", offset, f"a record of {length} bytes, more than {LARGEST_RECORD}", url)
        block = source.take(length)
    except _BrokenError as error:
        raise _BrokenError(error.rule, error.offset, error.detail, url) from None
    if len(block) < length:
        raise _BrokenError("cut_off", offset, f"{len(block)} bytes of a record of {length}", url)
    return Record(headers, offset, block)


def _fields(head: bytes) -> dict[str, str]:
    fields: dict[str, str] = {}
    name = ""
    for line in head.decode("utf-8", "replace").split("\n")[1:]:
        if line.startswith((" ", "\t")) and name:
            fields[name] += f" {line.strip()}"
        elif ":" in line:
            name, value = (part.strip() for part in line.split(":", 1))
            name = name.lower()
            fields.setdefault(name, value)
    return fields


class _Plain:
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
        while size and (taken := len(self.take(min(size, _PIECE)))):
            size -= taken

    def go_on(self) -> bool:
        """Whether there is more where `peek` ended: not here."""
        return False

    def _more(self) -> bytes:
        return self._file.read(_PIECE)

    def find_next(self) -> bool:
        """Goes to the next place where a record begins, after the one that could not be read."""
        self._file.seek(self._began + 1)
        self._held.clear()
        self._at = self._began + 1
        while window := self.peek(4 * _PIECE):
            found = re.search(rb"(?<=\n)" + _VERSION.pattern, window)
            if found is not None:
                self.take(found.start())
                return True
            self.take(max(len(window) - 16, 1))
        return False


class _Members:
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
        return bool(start) and not _VERSION.match(start)

    def skip(self, size: int) -> None:
        while size and (taken := len(self.take(min(size, _PIECE)))):
            size -= taken

    def _more(self) -> bytes:
        """Some decompressed bytes; nothing at the end of a member, or of the file."""
        while True:
            if not self._packed:
                self._packed_at = self._file.tell()
                self._packed = self._file.read(_PIECE)
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
                raise _BrokenError("cut_off", self._member, "the file ends within compressed data")
            piece = self._inflated(self._inflate)
            if self._ended or piece:
                return piece

    def _inflated(self, inflate: zlib._Decompress) -> bytes:
        before = len(self._packed)
        try:
            piece = inflate.decompress(self._packed, _PIECE)
        except zlib.error as error:
            raise _BrokenError("damaged", self._member, f"compressed data is damaged: {error}") from None
        self._packed = inflate.unused_data if inflate.eof else inflate.unconsumed_tail
        self._packed_at += before - len(self._packed)
        self._out += len(piece)
        if self._out > _BOMB_BYTES and self._out > _BOMB_RATIO * (self._packed_at - self._member):
            raise _BrokenError("bomb", self._member, f"it grows more than {_BOMB_RATIO} times on decompression")
        if inflate.eof:
            self._inflate, self._ended = None, True
        return piece

    def find_next(self) -> bool:
        at = self._began + 1
        self._held.clear()
        self._ended = False
        while True:
            self._file.seek(at)
            window = self._file.read(4 * _PIECE)
            found = window.find(_GZIP)
            if found < 0 and len(window) <= len(_GZIP):
                return False
            at += found if found >= 0 else len(window) - len(_GZIP) + 1
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
            return _VERSION.match(start) is not None
        return False
