"""The bytes of one file, wherever it stands: on disk, or in an archive.

Content.pieces       unpacked, at most a MiB at a time
Content.whole()      as a file that can be sought in (Parquet, zip): the file itself, or a bounded temporary copy

on_disk(item)        a file, compared with the hash that it was listed with
in_archive(pieces)   an entry of an archive
"""

from __future__ import annotations

import contextlib
import functools
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from tilth.core.errors import DataError
from tilth.core.files import storage_errors
from tilth.data.sources import streams
from tilth.data.sources.inputs import COMPRESSIONS, Input, split_suffixes

LARGEST_COPY = 16 << 30
_IN_MEMORY = 32 << 20


@dataclass(frozen=True, slots=True)
class Content:
    """One file's bytes; take `pieces` or `whole()`, once."""

    pieces: Iterator[bytes]
    whole: Callable[[], AbstractContextManager[BinaryIO]]


def on_disk(item: Input) -> Content:
    """The content of a file of a source."""
    pieces = streams.read_pieces(item)
    packed = split_suffixes(item.path.name)[1]
    return Content(pieces, functools.partial(_copied, pieces) if packed else functools.partial(_opened, item))


def in_archive(name: str, pieces: Iterator[bytes]) -> Content:
    """The content of an archive's entry, unpacked once more where its name says so."""
    codec = COMPRESSIONS.get(split_suffixes(name)[1])
    unpacked = streams.unpacked(pieces, codec, name) if codec else pieces
    return Content(unpacked, functools.partial(_copied, unpacked))


@contextlib.contextmanager
def _opened(item: Input) -> Iterator[BinaryIO]:
    with streams.opened(item) as file:
        before = os.fstat(file.fileno())
        if streams.hash_of(file) != (item.size, item.sha256):
            raise streams.changed(item)
        file.seek(0)
        yield file
        after = os.fstat(file.fileno())
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise streams.changed(item)


@contextlib.contextmanager
def _copied(pieces: Iterable[bytes]) -> Iterator[BinaryIO]:
    """A copy of the pieces, in memory while it is small; it has no name on disk and is gone with the process."""
    with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY) as file:
        size = 0
        for piece in pieces:
            size += len(piece)
            if size > LARGEST_COPY:
                raise DataError(
                    f"a packed file of more than {LARGEST_COPY >> 30} GiB cannot be read from within its packing",
                    "unpack it, and name the file itself",
                )
            with storage_errors(Path(tempfile.gettempdir())):
                file.write(piece)
        file.seek(0)
        yield cast(BinaryIO, file)


def gathered(pieces: Iterable[bytes], most: int) -> bytes | int:
    """All of it, or its length when that is more than `most`."""
    held, size = [], 0
    for piece in pieces:
        size += len(piece)
        if size <= most:
            held.append(piece)
        else:
            held.clear()
    return b"".join(held) if size <= most else size
