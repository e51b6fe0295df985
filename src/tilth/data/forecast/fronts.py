"""The beginning of a file that can be read from its front only, packed ones and CSV, in parts of about the same size.

    cut_front(item, front, paths, separator) -> bytes of the file that each part stands for

Parts end with a row, and each of CSV begins with what names the columns. They are written unpacked, CSV in UTF-8.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from tilth.core.files import disk
from tilth.data.sources import Input, streams
from tilth.data.sources.csv_records import ends, with_line_feeds
from tilth.data.sources.inputs import COMPRESSIONS, split_suffixes
from tilth.data.sources.rows import csv_head

_READ = 16 << 10
_UNPACKS = 8  # times at most: how much of a packed file is unpacked to read its beginning


def is_packed(item: Input) -> bool:
    """Whether its name says that it is packed."""
    return bool(split_suffixes(item.path.name)[1])


def cut_front(item: Input, front: int, paths: Sequence[Path], separator: str | None) -> list[int]:
    """Writes the first `front` bytes of a file, as it lies on disk, to so many files.

    Args:
        separator: between the cells of CSV, as the recipe says.

    Returns:
        Bytes of the file on disk that each stands for; 0 for those that nothing was left for, as rows are long.
    """
    unpacked = paths[0].with_name(f"{paths[0].name}.front.tmp")
    try:
        taken = _unpack(item, front, unpacked)
        size = unpacked.stat().st_size
        with unpacked.open("rb") as file:
            head = csv_head(_lines(file), separator, item.path.name) if item.kind == "csv" else (0, "")
            start = _after(file, head[0]) if head else 0
            # What a CSV file is that names no columns its reader will say.
            borders = _borders(file, start, size, len(paths), head[1]) if head else [size]
            if taken == item.size or size - borders[-1] > size / len(paths):
                borders[-1] = size  # what is open there has no end, or takes in more than a row should
            borders += borders[-1:] * (len(paths) - len(borders))  # where rows are so long that there are fewer parts
            named, parts = _part(file, 0, start), list(itertools.pairwise([0, *borders]))
            for path, (begin, end) in zip(paths, parts, strict=True):
                disk.write(path, [named if 0 < begin < end else b"", _part(file, begin, end)], sync=False)
    finally:
        unpacked.unlink(missing_ok=True)
    return [taken * end // max(1, size) - taken * begin // max(1, size) for begin, end in parts]


def _unpack(item: Input, front: int, path: Path) -> int:
    """Writes the beginning of a file, unpacked; returns how many bytes of the file that stands for."""
    taken = size = 0
    first: tuple[int, int] | None = None  # what was taken, and what had come of it, once something had

    def raw() -> Iterator[bytes]:
        nonlocal taken, first
        with item.path.open("rb") as file:
            while piece := file.read(_READ if is_packed(item) else min(_READ, front - taken)):
                if size and first is None:
                    first = (taken, size)
                taken += len(piece)
                yield piece

    def pieces() -> Iterator[bytes]:
        nonlocal size
        if not is_packed(item):
            yield from raw()
            return
        codec = COMPRESSIONS[split_suffixes(item.path.name)[1]]
        try:
            for piece in streams.unpacked(raw(), codec, str(item.path)):
                size += len(piece)
                yield piece
                if (taken >= front and front < item.size) or size >= _UNPACKS * front:
                    return
        except streams.PackedError:  # of what comes before, its reader will know
            if not size:
                raise

    text = with_line_feeds(streams.as_utf8(pieces()).pieces)[0] if item.kind == "csv" else pieces()
    disk.write(path, text, sync=False)
    if not is_packed(item) or taken == item.size or first is None or size <= first[1]:
        return taken
    # What unpacks holds back some of what it was given, from the first byte to the last about as much.
    return max(1, min(taken, round(size * (taken - first[0]) / (size - first[1]))))


def _lines(file: BinaryIO) -> Iterator[bytes]:
    return (line.removesuffix(b"\n") for line in file)


def _after(file: BinaryIO, lines: int) -> int:
    """Where so many lines end."""
    file.seek(0)
    return sum(len(file.readline()) for _ in range(lines))


def _part(file: BinaryIO, start: int, stop: int) -> bytes:
    file.seek(start)
    return file.read(stop - start)


def _borders(file: BinaryIO, start: int, size: int, parts: int, separator: str) -> list[int]:
    """Where each part ends: the first row border behind its share; the last one where the last row ends."""
    borders, at, last = list[int](), start, start

    def lines() -> Iterator[bytes]:
        nonlocal at
        for line in itertools.takewhile(lambda line: line.endswith(b"\n"), file):
            at += len(line)
            yield line.removesuffix(b"\n")

    file.seek(start)
    for closed in ends(lines(), separator.encode()) if separator else (True for _ in lines()):
        if closed:
            last = at
            if len(borders) < parts - 1 and at >= start + (size - start) * (len(borders) + 1) // parts:
                borders.append(at)
    return [*borders, last]
