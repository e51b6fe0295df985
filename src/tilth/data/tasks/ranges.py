"""What is equal among all documents, and their order, in bounded memory: a range of hashes at a time, or DuckDB's sort.

    first_by_digest(corpus) -> array                  for each document the first with the same text
    of_bands(function, folders, keys, gone, folder)   shows the documents that share a hash of a band
    places(corpus, folder) -> array                   the order in which documents are preferred
    numbered(start, stop, total) -> array             numbers of documents, in no more bytes than these take
    with aside(folder, name) as place: …              a folder for what does not fit into memory

For each document four bytes stay in memory; hashes are spread evenly, so that ranges of them are of about one size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tilth.core import progress
from tilth.core.ahead import ahead
from tilth.core.environment import usable_cpus
from tilth.core.files import disk
from tilth.data.duplicates.dedup import DIGEST, I64, first_of_each
from tilth.data.tasks.cleaning import SIGNATURES
from tilth.data.tasks.corpus import Corpus
from tilth.data.tasks.parts import verified_file
from tilth.data.words import U64

MEMORY = "512MB"
"""What DuckDB may hold."""
ROWS = 1 << 21
"""About so many hashes are looked at together."""
_THREADS = 4  # at most: each takes memory of its own
_SPARE_BITS = 2  # slots for each hash are four to eight: a fifth of those that are alone shares one
_BATCH_ROWS = 1 << 16
Numbers = npt.NDArray[np.unsignedinteger[Any]]
"""Of documents, in no more bytes than their count takes."""


def first_by_digest(corpus: Corpus) -> Numbers:
    """For each document the number of the first with the same text, its own where that is the first [n]."""
    first = numbered(0, len(corpus), len(corpus))
    ranges = _ranges(len(corpus))
    for own in range(ranges):
        found = [_of_range(start, _digests(table), own, ranges) for start, table in corpus.parts(["digest"])]
        numbers = np.concatenate([numbers for numbers, _ in found])
        first[numbers] = numbers[first_of_each(np.concatenate([digests for _, digests in found]))]
    return first


def numbered(start: int, stop: int, total: int) -> Numbers:
    numbers: Numbers = np.arange(start, stop, dtype=np.min_scalar_type(total))
    return numbers


def _ranges(documents: int) -> int:
    return max(1, -(-documents // ROWS))


def _range_of(hashes: U64, ranges: int) -> U64:
    """Which of so many equal ranges a hash lies in."""
    return (hashes >> np.uint64(32)) * np.uint64(ranges) >> np.uint64(32)


def _of_range(start: int, digests: npt.NDArray[np.void], own: int, ranges: int) -> tuple[I64, npt.NDArray[np.void]]:
    inside = np.flatnonzero(_range_of(digests["high"], ranges) == own)
    return start + inside, digests[inside]


def _digests(table: pa.Table) -> npt.NDArray[np.void]:
    column = table["digest"].combine_chunks()
    raw = column.buffers()[1]
    return np.frombuffer(raw, DIGEST, len(column), column.offset * DIGEST.itemsize) if raw else np.empty(0, DIGEST)


def of_bands(
    function: Callable[[Numbers, U64], None],
    folders: Sequence[Path],
    keys: int,
    gone: npt.NDArray[np.bool_],
    folder: Path,
) -> None:
    """Shows the documents that share a hash of a band with another.

    Args:
        function: it gets their numbers, rising, and the hashes; each band in pieces of which no two hold the same hash,
            several bands at the same time. Documents that are gone, and those without a word (hash 0), are like no
            other.
        folder: where hashes lie meanwhile that are too many for memory.
    """
    files = [verified_file(one, SIGNATURES) for one in folders]

    def show(key: int) -> None:
        for numbers, hashes in _in_ranges(_column(files, key, keys, gone), len(gone), folder):
            if len(own := _shared(hashes)):
                function(numbers[own], hashes[own])

    # Bands do not depend on each other; where one alone fills the memory that they may take, it is alone.
    threads = min(_THREADS, usable_cpus()) if _ranges(len(gone)) == 1 else 1
    with ThreadPoolExecutor(threads) as pool:
        for _ in ahead(pool, show, range(keys), threads):
            progress.advance(1)


def _shared(hashes: U64) -> I64:
    """Where a hash stands that stands there again, rising."""
    # Most hashes are alone even by their first bits, which are counted in half the time that all take to be sorted.
    bits = min(len(hashes).bit_length() + _SPARE_BITS, 63)
    slots = (hashes >> np.uint64(64 - bits)).astype(np.int64)
    maybe = np.flatnonzero(np.bincount(slots, minlength=1 << bits)[slots] > 1)
    order = maybe[np.argsort(hashes[maybe])]
    ordered = hashes[order]
    again = ordered[1:] == ordered[:-1]
    return np.sort(order[np.append(again, False)[: len(order)] | np.concatenate([[False], again])[: len(order)]])


def _column(files: Iterable[Path], key: int, keys: int, gone: npt.NDArray[np.bool_]) -> Iterator[tuple[Numbers, U64]]:
    start = 0
    for file in files:
        documents = file.stat().st_size // (keys * 8)
        # Read, and not mapped: pages of a map count as this process's memory for as long as it stands.
        hashes = np.fromfile(file, np.uint64, documents, offset=key * documents * 8)
        rows = np.flatnonzero((hashes != 0) & ~gone[start : start + documents])
        yield numbered(start, start + documents, len(gone))[rows], hashes[rows]
        start += documents


def _in_ranges(pieces: Iterable[tuple[Numbers, U64]], total: int, folder: Path) -> Iterator[tuple[Numbers, U64]]:
    """The same divided by ranges of hashes; by way of the disk where there are several."""
    ranges = _ranges(total)
    if ranges == 1:
        whole = list(pieces)
        yield np.concatenate([numbers for numbers, _ in whole]), np.concatenate([hashes for _, hashes in whole])
        return
    with aside(folder, "sorting.tmp") as spill:
        paths = [(spill / f"{own}.numbers", spill / f"{own}.hashes") for own in range(ranges)]
        with ExitStack() as stack:
            files = [[stack.enter_context(path.open("wb")) for path in own] for own in paths]
            for numbers, hashes in pieces:
                owners = _range_of(hashes, ranges).astype(np.uint16)
                order = np.argsort(owners, kind="stable")
                borders = np.searchsorted(owners[order], range(1, ranges))
                for values, place in ((numbers, 0), (hashes, 1)):
                    for own, some in zip(files, np.split(values[order], borders), strict=True):
                        own[place].write(some.data)
        for numbers_path, hashes_path in paths:
            yield np.fromfile(numbers_path, np.min_scalar_type(total)), np.fromfile(hashes_path, np.uint64)


def places(corpus: Corpus, folder: Path) -> Numbers:
    """The place of each document when the longest come first [n]; of equally long ones that with the smaller digest, so
    that it is the texts that decide, and not what their files are called; of the same text that with the smaller id.
    """
    if _ranges(len(corpus)) > 1:
        return _places_by_duckdb(corpus, folder)
    columns = pa.concat_tables([table for _, table in corpus.parts(["characters", "digest", "doc_id"])])
    found = np.empty(len(corpus), np.min_scalar_type(len(corpus)))
    keys = [("characters", "descending"), ("digest", "ascending"), ("doc_id", "ascending")]
    found[np.asarray(pc.sort_indices(columns, sort_keys=keys))] = numbered(0, len(corpus), len(corpus))
    return found


def _places_by_duckdb(corpus: Corpus, folder: Path) -> Numbers:
    """The same of more documents than are looked at together, by way of the disk."""
    import duckdb

    found, place = np.empty(len(corpus), np.min_scalar_type(len(corpus))), 0
    with aside(folder, "sorting.tmp") as spill:
        config: dict[str, Any] = {
            "memory_limit": MEMORY,
            "threads": min(_THREADS, usable_cpus()),
            "temp_directory": str(spill),
        }
        config |= {"autoinstall_known_extensions": False, "autoload_known_extensions": False}
        with duckdb.connect(config=config) as database:
            database.register("documents", corpus.reader(["doc_id", "digest", "characters"]))
            query = "SELECT number FROM documents ORDER BY characters DESC, digest, doc_id"
            for batch in database.sql(query).to_arrow_reader(_BATCH_ROWS):
                found[np.asarray(batch["number"])] = np.arange(place, place + len(batch))
                place += len(batch)
    return found


@contextmanager
def aside(folder: Path, name: str) -> Iterator[Path]:
    """A folder for what does not fit into memory, which is gone afterwards."""
    place = folder / name
    disk.make_folder(place, sync=False)
    try:
        yield place
    finally:
        disk.remove(place)
