"""HTTP messages as WARC keeps them: head and body, and the body's codings undone, bounded.

parse_response(block) -> Response     status, headers, body; ValueError when it is none
Response.payload(limit)               without chunks and compression; ValueError, TooLargeError
decompressed(body, coding, limit)     gzip, deflate, br, zstd
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

_HEAD_END = re.compile(rb"\r?\n\r?\n")
_STATUS = re.compile(rb"HTTP/\d(?:\.\d)? +(\d{3})")
_LONGEST_HEAD = 1 << 18
_PIECE = 1 << 16
_GZIP = b"\x1f\x8b"
_ARROW = {"br": "brotli", "zstd": "zstd"}


class TooLargeError(Exception):
    """A body that grows beyond the limit."""


def header(headers: Sequence[tuple[str, str]], name: str) -> str:
    """The first header of that name (in lower case), or nothing."""
    return next((value.strip() for key, value in headers if key.lower() == name), "")


def content_type(value: str) -> tuple[str, str | None]:
    """`text/html; charset="UTF-8"` -> `("text/html", "UTF-8")`."""
    charset = re.search(r"charset\s*=\s*[\"']?([^\s\"';,]+)", value, re.IGNORECASE)
    return value.partition(";")[0].strip().lower(), charset[1] if charset else None


@dataclass(frozen=True, slots=True)
class Response:
    """One answer of a server."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str:
        """The first header of that name (in lower case), or nothing."""
        return header(self.headers, name)

    def payload(self, limit: int) -> bytes:
        """The body without its codings.

        Raises:
            TooLargeError: it grows beyond `limit` bytes.
            ValueError: it is not what its coding says, or the coding is not known.
        """
        body = self.body
        if self.header("transfer-encoding").lower().endswith("chunked"):
            body = _unchunked(body)
        return decompressed(body, self.header("content-encoding"), limit)


def parse_response(block: bytes) -> Response:
    """A response as it was sent; ValueError when it does not begin like one."""
    status = _STATUS.match(block)
    end = _HEAD_END.search(block, 0, _LONGEST_HEAD)
    if status is None or end is None:
        raise ValueError("it does not begin with the head of an HTTP response")
    lines = block[: end.start()].decode("latin-1").splitlines()[1:]
    pairs = (line.partition(":") for line in lines if ":" in line)
    return Response(int(status[1]), tuple((key.strip(), value.strip()) for key, _, value in pairs), block[end.end() :])


def _unchunked(body: bytes) -> bytes:
    """RFC 9112, section 7.1. A body without chunks is taken as it is: many crawlers undo them and keep the header."""
    parts: list[bytes] = []
    at = 0
    while True:
        size = re.compile(rb"([0-9A-Fa-f]{1,8})[^\r\n]{0,1000}\r?\n").match(body, at)
        if size is None:
            if not parts:
                return body
            raise ValueError(f"its chunks break off at byte {at}")
        at, length = size.end(), int(size[1], 16)
        if not length:
            return b"".join(parts)
        if at + length > len(body):
            raise ValueError(f"its chunks break off at byte {len(body)}")
        parts.append(body[at : at + length])
        at += length
        at += 2 if body[at : at + 2] == b"\r\n" else 1


def decompressed(body: bytes, codings: str, limit: int) -> bytes:
    """A body without its content codings, the last one first; never holds more than `limit` bytes beside it.

    Raises:
        TooLargeError: it grows beyond the limit.
        ValueError: damaged, cut off, or a coding that is not known.
    """
    for coding in reversed([name.strip().lower() for name in codings.split(",")]):
        if coding in ("gzip", "x-gzip"):
            # Not packed at all: a crawler that unpacked it and kept the header.
            body = _inflated(body, 31, limit) if body.startswith(_GZIP) else body
        elif coding == "deflate":  # with zlib's head, as the standard says, or without, as some send it
            with_head = len(body) > 1 and body[0] & 15 == 8 and (body[0] << 8 | body[1]) % 31 == 0
            body = _inflated(body, 15 if with_head else -15, limit)
        elif coding in _ARROW:
            body = _through_arrow(body, _ARROW[coding], limit)
        elif coding not in ("", "identity"):
            raise ValueError(f"the coding {coding[:40]!r} is not known")
    if len(body) > limit:
        raise TooLargeError
    return body


def _inflated(body: bytes, window: int, limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while body:
        inflate = zlib.decompressobj(window)
        while not inflate.eof:
            try:
                piece = inflate.decompress(body, _PIECE)
            except zlib.error as error:
                raise ValueError(f"its compressed data is damaged: {error}") from None
            if not piece and not inflate.eof and not inflate.unconsumed_tail:
                raise ValueError("its compressed data is cut off")
            parts.append(piece)
            size += len(piece)
            if size > limit:
                raise TooLargeError
            body = inflate.unconsumed_tail
        body = inflate.unused_data
        if window != 31 or not body.startswith(_GZIP):  # what follows the last member is padding
            break
    return b"".join(parts)


def _through_arrow(body: bytes, codec: str, limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    with pa.CompressedInputStream(pa.BufferReader(body), codec) as stream:
        while True:
            try:
                piece = stream.read(_PIECE)
            except OSError as error:
                raise ValueError(f"its compressed data is damaged: {error}") from None
            if not piece:
                return b"".join(parts)
            parts.append(piece)
            size += len(piece)
            if size > limit:
                raise TooLargeError
