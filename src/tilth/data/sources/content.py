"""The bytes of one file, wherever it stands: on disk, or in an archive.

Content.pieces       unpacked, at most a MiB at a time
Content.whole()      as a file that can be sought in (Parquet, zip, WARC): the file itself, or a bounded temporary copy
Content.in_place     whether that is the file itself, so that reading it is progress

on_disk(item)        a file, compared with the hash that it was listed with
in_archive(…)        an entry of an archive

WARC stays packed by gzip, in which each record is a member by itself, so that damage to one costs no other. Of what is
packed otherwise all records before a fault are read, and the fault is told after them.
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
from tilth.data.sources.inputs import COMPRESSIONS, Input, Kind, split_suffixes

LARGEST_COPY = 16 << 30
_IN_MEMORY = 32 << 20


@dataclass(frozen=True, slots=True)
class Content:
    """One file's bytes; take `pieces` or `whole()`, once."""

    pieces: Iterator[bytes]
    whole: Callable[[], AbstractContextManager[BinaryIO]]
    in_place: bool = False


def on_disk(item: Input) -> Content:
    """The content of a file of a source."""
    pieces = streams.read_pieces(item)
    if _codec(item.path.name, item.kind):
        return Content(pieces, functools.partial(_copy_of(item.kind), pieces))
    return Content(pieces, functools.partial(_opened, item), in_place=True)


def in_archive(name: str, kind: Kind, pieces: Iterator[bytes]) -> Content:
    """The content of an archive's entry, unpacked once more where its name says so."""
    codec = _codec(name, kind)
    unpacked = streams.unpacked(pieces, codec, name) if codec else pieces
    return Content(unpacked, functools.partial(_copy_of(kind), unpacked))


def _codec(name: str, kind: Kind) -> str | None:
    codec = COMPRESSIONS.get(split_suffixes(name)[1])
    return None if kind == "warc" and codec == "gzip" else codec


def _copy_of(kind: Kind) -> Callable[[Iterable[bytes]], AbstractContextManager[BinaryIO]]:
    return _as_far_as_it_goes if kind == "warc" else _copied


@contextlib.contextmanager
def _as_far_as_it_goes(pieces: Iterable[bytes]) -> Iterator[BinaryIO]:
    """A copy of what comes before the first fault, which is raised when the copy was used."""
    faults: list[Exception] = []

    def before_it() -> Iterator[bytes]:
        try:
            yield from pieces
        except Exception as error:
            faults.append(error)

    with _copied(before_it()) as file:
        yield file
    if faults:
        raise faults[0]


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
