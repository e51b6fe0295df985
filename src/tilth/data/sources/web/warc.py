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

from tilth.data.sources.web.warc_bytes import GZIP, PIECE, VERSION, BrokenError, Members, Plain

LARGEST_RECORD = 64 << 20
_LONGEST_HEAD = 1 << 16
_HEAD_END = re.compile(rb"\r?\n\r?\n")
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
        return bare(self.headers.get("warc-target-uri", ""))

    @property
    def date(self) -> str:
        """When it was fetched, as the record says."""
        return self.headers.get("warc-date", "")

    def digest_fault(self) -> str:
        """What is wrong with the block's digest; empty when it is right, or not stated in a way that is known."""
        name, _, stated = self.headers.get("warc-block-digest", "").strip().partition(":")
        size = _ALGORITHMS.get(name.lower().replace("-", ""))
        wanted = _digest_bytes(stated, size) if size else None
        if wanted is None:
            return ""
        found = hashlib.new(name.lower().replace("-", ""), self.block, usedforsecurity=False).digest()
        return "" if found == wanted else f"its {name} is {found.hex()}, its header says {wanted.hex()}"


def bare(address: str) -> str:
    """An address without angle brackets."""
    return address.strip().removeprefix("<").removesuffix(">")


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
    start = file.read(len(GZIP))
    file.seek(0)
    source: Plain | Members = Members(file) if start == GZIP else Plain(file)
    while True:
        try:
            record = _next_record(source)
        except BrokenError as error:
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
    if start.startswith(GZIP):
        start = _as_far_as_it_goes(start)
    found = re.search(rb"^WARC-Target-URI:\s*<?([^\s>]{1,2000})", start, re.IGNORECASE | re.MULTILINE)
    return found[1].decode("utf-8", "replace") if found and VERSION.match(start) else ""


def _as_far_as_it_goes(packed: bytes) -> bytes:
    inflate, out = zlib.decompressobj(31), b""
    with contextlib.suppress(zlib.error):
        for at in range(0, len(packed), 64):  # what comes with the fault is lost: so in small bites
            out += inflate.decompress(packed[at : at + 64], PIECE)
    return out


def _next_record(source: Plain | Members) -> Record | Broken | None:
    offset = source.begin()
    while source.peek(1) in (b"\r", b"\n"):  # two line ends follow a record; some writers are generous
        source.take(1)
        offset = source.begin()
    head = source.peek(_LONGEST_HEAD)
    if not head:
        return None
    while (end := _HEAD_END.search(head)) is None and len(head) < _LONGEST_HEAD and source.go_on():
        head = source.peek(_LONGEST_HEAD)
    if not VERSION.match(head) or end is None:
        raise BrokenError("no_record", offset, f"no record begins with {head[:20]!r}")
    headers = _fields(head[: end.start()])
    length, url = headers.get("content-length", ""), headers.get("warc-target-uri", "").strip("<> ")
    if not re.fullmatch(r"\d{1,15}", length):
        raise BrokenError("no_record", offset, f"its Content-Length is {length[:40]!r}", url)
    source.take(end.end())
    return _with_block(source, headers, offset, int(length), url)


def _with_block(
    source: Plain | Members, headers: dict[str, str], offset: int, length: int, url: str
) -> Record | Broken:
    try:
        if length > LARGEST_RECORD:
            source.skip(length)
            return Broken("too_large", offset, f"a record of {length} bytes, more than {LARGEST_RECORD}", url)
        block = source.take(length)
    except BrokenError as error:
        raise BrokenError(error.rule, error.offset, error.detail, url) from None
    if len(block) < length:
        raise BrokenError("cut_off", offset, f"{len(block)} bytes of a record of {length}", url)
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
