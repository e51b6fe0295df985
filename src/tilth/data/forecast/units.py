"""What a sample is drawn from: whole files, and pieces of those that are larger than a piece.

    look(source, root, workspace) -> Found     nothing is downloaded, and no file is hashed for it
    cut(found, budget) -> units; by_kind(units); draw(units, share, seed) -> groups of units
    unit.make(folder) -> Input                 the unit as a file that a reader takes

Lines can be cut anywhere (text, code, JSON Lines), Parquet into row groups. Packed ones and CSV are read from the front
only, as much of them as the sample has room for, and that is cut between rows (fronts.py).
A larger file of another kind is in the sample whole or not at all. A text file that is one document is cut only where
the sample has no room for it, and that is noted: each piece counts as a document then.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow.parquet as pq

from tilth.core.errors import DataError
from tilth.core.files import disk, hash_file, read_json, write_json
from tilth.core.random import derive_seed
from tilth.data.document import Verdict
from tilth.data.forecast.fronts import cut_front, is_packed
from tilth.data.sources import Input, SourceConfig, list_inputs, streams
from tilth.data.sources.hashes import hashing
from tilth.data.sources.inputs import split_suffixes
from tilth.data.sources.url import file_name

SMALLEST = 64 << 10
PIECES = 8
"""A piece of a file is at most this part of what is sampled of a source: so many are there to be compared, at least."""
GROUPS = 8
_TEXTS = ("text", "markdown", "code", "python")
_LINES = (*_TEXTS, "jsonl")


@dataclass(frozen=True, slots=True)
class Unit:
    """A file, or a piece of one.

    Attributes:
        item: the file; its hash is not known.
        start, stop: the bytes that this is of it; for Parquet `row_group` says which.
        covered: bytes of the file that it stands for, about so many where it is of the front.
        front: where it can be read from the front only, the borders between which its parts lie, about there.
        separator: between the cells of such a CSV, as the recipe says.
    """

    item: Input
    start: int
    stop: int
    covered: int
    row_group: int | None = None
    front: tuple[int, ...] = ()
    separator: str | None = None

    @property
    def whole(self) -> bool:
        """Whether it is all of the file."""
        return self.row_group is None and not self.front and self.covered == self.item.size

    @property
    def order(self) -> str:
        """What its place in the draw is made of."""
        return f"{self.item.locator}@{self.start}"

    @property
    def locator(self) -> str:
        """By which it is read: the beginning of a file has that of the file, so that its places are the file's."""
        return self.order if self.start else self.item.locator

    def make(self, folder: Path) -> tuple[Input, int]:
        """The unit as a file, in `folder` unless it is a whole one; and the bytes of the original that it covers."""
        if self.whole:
            return replace(self.item, sha256=self.item.sha256 or hash_file(self.item.path)), self.covered
        path = self._path(folder)
        covered = self._of_front(folder) if self.front else self._write(path)
        goes_on = self.row_group is not None or self.stop < self.item.size
        item = replace(self.item, path=path, locator=self.locator, goes_on=goes_on)
        return replace(item, size=path.stat().st_size, sha256=hash_file(path)), covered

    def _path(self, folder: Path) -> Path:
        return folder / f"{derive_seed(0, self.order):016x}{_suffix(self.item)}"

    def _write(self, path: Path) -> int:
        if self.row_group is not None:
            with pq.ParquetFile(self.item.path) as file:
                pq.write_table(file.read_row_group(self.row_group), path)
            return self.covered
        with self.item.path.open("rb") as file:
            file.seek(self.start)
            if self.start:
                file.readline()  # it belongs to the piece before
            data = file.read(max(0, self.stop - file.tell()))
            data += file.readline()
        disk.write(path, [data])
        return len(data)

    def _of_front(self, folder: Path) -> int:
        """All parts of the front are written when the first of them is asked for."""
        parts = [replace(self, start=start) for start in self.front[:-1]]
        paths = [part._path(folder) for part in parts]
        known = paths[0].with_name(f"{paths[0].name}.json")
        if not known.exists():
            write_json(known, cut_front(self.item, self.front[-1], paths, self.separator))
        return int(read_json(known)[self.front.index(self.start)])


def _suffix(item: Input) -> str:
    """Of the unpacked file."""
    return split_suffixes(item.path.name)[0]


@dataclass
class Found:
    """What is there of a source.

    Attributes:
        source: the recipe's entry.
        inputs: its files. skipped: what its listing passed over. notes: what is to be said of that.
        missing: why nothing of it, or not all, can be sampled.
        in_pieces: files that are one document, and were cut.
        empty: files without a byte, each of which will be dropped.
    """

    source: SourceConfig
    inputs: list[Input] = field(default_factory=list)
    skipped: tuple[Verdict, ...] = ()
    notes: tuple[str, ...] = ()
    missing: list[str] = field(default_factory=list)
    in_pieces: int = 0
    empty: int = 0

    @property
    def size(self) -> int:
        """Bytes of all files that can be sampled."""
        return sum(item.size for item in self.inputs)


def look(source: SourceConfig, root: Path, workspace: Path) -> Found:
    """The files of a source that are on this machine; DataError when there should be some and there is none."""
    found = Found(source)
    if why := not_here(source, workspace):
        found.missing.append(why)
        return found
    with hashing(lambda path: source.sha256 or ""):
        listing = list_inputs(source, root, workspace / "downloads")
    found.inputs, found.skipped, found.notes = [item for item in listing if item.size], listing.skipped, listing.notes
    found.empty = len(listing) - len(found.inputs)
    return found


def not_here(source: SourceConfig, workspace: Path) -> str:
    """Why nothing of a source is on this machine; "": it is, or no one knows before it is listed."""
    if source.reach == "here":
        return ""
    if source.url is not None and (workspace / "downloads" / file_name(source.url, source.sha256 or "")).is_file():
        return ""
    origin = source.origin
    return origin.unseen or f"a source `{origin.key}:` has to be brought here whole before anything is known of it"


def cut(found: Found, budget: int) -> list[Unit]:
    """The units of a source of which `budget` bytes will be drawn; what cannot be cut is named in `found.missing`."""
    most = max(SMALLEST, -(-budget // PIECES))
    units: list[Unit] = []
    kept: list[Input] = []
    for item in found.inputs:
        if _can_be_cut(item) or item.size <= max(budget, SMALLEST):
            kept.append(item)
        else:
            found.missing.append(f"{item.locator} ({item.size:,} bytes of {item.kind}) cannot be cut, and is too large")
    found.inputs = kept
    size = found.size
    for item in kept:
        one = item.kind in _TEXTS and found.source.document == "file"
        # What reading takes as one document, however large the file.
        room = max(most, min(streams.LARGEST_BLOCK, budget)) if one else most
        front = min(item.size, max(room, budget * item.size // size))
        own = list(_pieces(item, room, front, found.source.separator)) if item.size > room else []
        own = own or [Unit(item, 0, item.size, item.size)]
        if one:
            # Of a front there are as many pieces more as of it is not read.
            pieces = len(own) * item.size / sum(unit.covered for unit in own)
            found.in_pieces += pieces > -(-item.size // streams.LARGEST_BLOCK)
        units += own
    return units


def _can_be_cut(item: Input) -> bool:
    return item.kind in (*_LINES, "csv") or (item.kind == "parquet" and not is_packed(item))


def _pieces(item: Input, most: int, front: int, separator: str | None) -> Iterator[Unit]:
    """Pieces of a large file, none where it cannot be cut.

    Args:
        front: how much is read of one that is read from the front only.
    """
    if item.kind == "parquet" and not is_packed(item):
        yield from _row_groups(item)
    elif item.kind in (*_LINES, "csv"):
        from_front = is_packed(item) or item.kind == "csv"
        stop = front if from_front else item.size
        pieces = -(-stop // most)
        borders = tuple(stop * n // pieces for n in range(pieces + 1))
        own = (borders, separator) if from_front else ()
        yield from (Unit(item, low, high, high - low, None, *own) for low, high in itertools.pairwise(borders))


def _row_groups(item: Input) -> Iterator[Unit]:
    try:
        with pq.ParquetFile(item.path) as file:
            sizes = [file.metadata.row_group(n).total_byte_size for n in range(file.num_row_groups)]
    except (OSError, ValueError) as error:
        raise DataError(f"{item.path} cannot be read as Parquet: {error}", "look at the file") from error
    whole = sum(sizes) or 1
    for number, size in enumerate(sizes):
        yield Unit(item, number, number + 1, item.size * size // whole, number)


def by_kind(units: list[Unit]) -> list[list[Unit]]:
    """Units of the same kind of file, each kind apart: what a kind gives says nothing of another."""
    kinds: dict[str, list[Unit]] = {}
    for unit in units:
        kinds.setdefault(unit.item.kind, []).append(unit)
    return list(kinds.values())


def draw(units: list[Unit], share: float, seed: int) -> list[list[Unit]]:
    """A share of the units, dealt out to groups.

    Every unit has the same odds. They are taken at even steps from the smallest to the largest, from a start that is
    drawn, so that small and large files are in the sample, and in each group, as they are in the source.
    """
    ranked = sorted(units, key=lambda unit: (unit.covered, derive_seed(seed, f"forecast/{unit.order}"), unit.order))
    number = min(len(ranked), max(1, math.ceil(len(ranked) * share)))
    start = derive_seed(seed, f"forecast/{ranked[0].order}", number) / 2**63
    chosen = [ranked[min(len(ranked) - 1, int((n + start) * len(ranked) / number))] for n in range(number)]
    groups = min(GROUPS, number)
    return [chosen[n::groups] for n in range(groups)]
