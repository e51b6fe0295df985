"""Messages over a pair of pipes: a JSON header, and bytes, each after its length.

    uint32 header length · uint64 body length · header (JSON object, ASCII) · body

Used by both sides. The parent gives a deadline (`time.monotonic`): neither a reader that stopped reading nor a writer
that stopped writing can hold it up. The child waits for as long as it takes. Nothing is unpickled: what comes back from
a parser that a document has taken over is still only a JSON object and bytes of a bounded length.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import struct
import time
from typing import Any

_LENGTHS = struct.Struct("<IQ")
_PIECE = 1 << 16
_LONGEST_HEADER = 1 << 20


class ChannelClosedError(Exception):
    """The other side is gone, or sends what is no message."""


class LateError(Exception):
    """The deadline passed first."""


class Channel:
    """One side of the pipes: file descriptors to read from and to write to."""

    def __init__(self, read_fd: int, write_fd: int, longest: int) -> None:
        self._read_fd, self._write_fd, self._longest = read_fd, write_fd, longest

    def send(self, header: dict[str, Any], body: bytes = b"", deadline: float | None = None) -> None:
        """Writes one message.

        Raises:
            LateError: the deadline passed.
            ChannelClosedError: nobody reads any more.
        """
        packed = json.dumps(header).encode()
        waiting = memoryview(_LENGTHS.pack(len(packed), len(body)) + packed + body)
        while waiting:
            _wait(self._write_fd, select.POLLOUT, deadline)
            try:
                # A blocking write takes all it is given: with a deadline, no more than a pipe surely has room for.
                piece = waiting if deadline is None else waiting[: select.PIPE_BUF]
                waiting = waiting[os.write(self._write_fd, piece) :]
            except BrokenPipeError as error:
                raise ChannelClosedError from error

    def receive(self, deadline: float | None = None) -> tuple[dict[str, Any], bytes]:
        """Reads one message.

        Raises:
            LateError: the deadline passed.
            ChannelClosedError: the other side is gone, or what it sends is no message.
        """
        header_length, body_length = _LENGTHS.unpack(self._read(_LENGTHS.size, deadline))
        if header_length > _LONGEST_HEADER or body_length > self._longest:
            raise ChannelClosedError
        raw, body = self._read(header_length, deadline), self._read(body_length, deadline)
        try:
            header = json.loads(raw)
        except ValueError as error:
            raise ChannelClosedError from error
        if not isinstance(header, dict):
            raise ChannelClosedError
        return header, body

    def _read(self, length: int, deadline: float | None) -> bytes:
        pieces = bytearray()
        while len(pieces) < length:
            _wait(self._read_fd, select.POLLIN, deadline)
            piece = os.read(self._read_fd, min(_PIECE, length - len(pieces)))
            if not piece:
                raise ChannelClosedError
            pieces += piece
        return bytes(pieces)

    def close(self) -> None:
        """Closes both pipes."""
        for descriptor in (self._read_fd, self._write_fd):
            with contextlib.suppress(OSError):
                os.close(descriptor)


def _wait(descriptor: int, event: int, deadline: float | None) -> None:
    """Returns when `descriptor` can be used (or its other end is gone)."""
    poll = select.poll()
    poll.register(descriptor, event)
    if not poll.poll(None if deadline is None else max(deadline - time.monotonic(), 0) * 1000):
        raise LateError
