"""The tasks that take out lines which many documents share.

    lines         a part            -> how many of its documents hold each line, and which first   (ends a chain)
    shared        the lines of all  -> for each part which of its lines go
    shared_lines  a part            -> edits, ledger, examples                                      (begins a chain)

A part's own list of lines decides what becomes of it: a new source that brings no new line changes nothing in others.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tilth.core.config import fingerprint
from tilth.core.files import hash_file
from tilth.data import words
from tilth.data.document import Document, Verdict
from tilth.data.duplicates.runs import merged
from tilth.data.duplicates.shared_lines import Pieces, SharedLinesConfig, find_pieces, remove
from tilth.data.spoken import other_text
from tilth.data.tasks.cleaning import LeftOver
from tilth.data.tasks.examples import Examples
from tilth.data.tasks.parts import Batch, EditWriter, LedgerWriter, Part, verified_array
from tilth.data.words import I64, U64

VERSIONS = {"lines": 2, "shared": 1, "shared_lines": 5}
HASHES, DOCUMENTS, FIRST = "hashes.bin", "documents.bin", "first.bin"
_NOT_HERE = -1
"""In the place of the first document's row: it is in another part."""
_STAGE, _RULE = "deduplicate", "shared_lines"

Link = Generator[Batch, None, dict[str, Any]]


def lines(folder: Path, batches: Iterator[Batch] | None, part: Part, config: SharedLinesConfig) -> Link:
    """Counts the documents of a part that hold each line: sorted hashes, documents, the row of the first."""
    found: list[tuple[U64, I64]] = []
    row = 0
    for batch in part.batches() if batches is None else batches:
        for first, piece in _in_batches(batch, row):
            pieces = find_pieces(piece, config)
            order = np.lexsort((pieces.rows, pieces.hashes))
            hashes, rows = pieces.hashes[order], pieces.rows[order] + first
            fresh = np.ones(len(hashes), bool)
            fresh[1:] = (hashes[1:] != hashes[:-1]) | (rows[1:] != rows[:-1])
            found.append((hashes[fresh], rows[fresh]))
        row += len(batch)
        yield batch
    keys = np.concatenate([np.empty(0, np.uint64), *(hashes for hashes, _ in found)])
    rows = np.concatenate([np.empty(0, np.int64), *(own for _, own in found)])
    hashes, first_place, counts = np.unique(keys, return_index=True, return_counts=True)
    hashes.tofile(folder / HASHES)
    counts.astype(np.int64).tofile(folder / DOCUMENTS)
    rows[first_place].tofile(folder / FIRST)  # batches come in the order of rows, so the first place has the first row
    return {"lines": len(hashes), "rules": {}}


def _in_batches(batch: Batch, row: int) -> Iterator[tuple[int, list[Document]]]:
    """Documents in lists of what is turned into arrays at a time, each with the row of its first."""
    held: list[Document] = []
    size = 0
    for document in batch:
        held.append(document)
        size += len(document.text)
        row += 1
        if size >= words.BATCH_CHARACTERS:
            yield row - len(held), held
            held, size = [], 0
    if held:
        yield row - len(held), held


def shared(folder: Path, counted: Sequence[Path], config: SharedLinesConfig) -> dict[str, Any]:
    """Lists for each part the lines that too many documents hold; facts: how many, and what decides each part."""
    keys = [verified_array(path, HASHES, np.uint64) for path in counted]
    columns = [[verified_array(path, name, np.int64) for name in (DOCUMENTS, FIRST)] for path in counted]
    found = most = 0
    for number in range(len(counted)):
        for name in _names(number):
            (folder / name).touch()
    for piece in merged(keys, columns):
        documents = np.add.reduceat(piece.columns[0], piece.firsts[:-1]) if len(piece.keys) else piece.firsts[:-1]
        often = np.repeat(documents > config.documents, np.diff(piece.firsts))
        is_first = np.zeros(len(piece.keys), bool)
        is_first[piece.firsts[:-1]] = True  # rows of equal keys stand in the order of the parts
        firsts = np.where(is_first & (config.keep == "first"), piece.columns[1], _NOT_HERE)
        found += int((documents > config.documents).sum())
        most = max(most, int(documents.max(initial=0)))
        for number in np.unique(piece.runs[often]).tolist():
            own = often & (piece.runs == number)
            for name, values in zip(_names(number), (piece.keys[own], firsts[own]), strict=True):
                with (folder / name).open("ab") as file:
                    file.write(values.tobytes())
    identities = [fingerprint([hash_file(folder / name) for name in _names(n)]) for n in range(len(counted))]
    return {"shared": found, "most_documents": most, "parts": identities, "rules": {}}


def _names(number: int) -> tuple[str, str]:
    return f"hashes-{number:05d}.bin", f"first-{number:05d}.bin"


def shared_lines(
    folder: Path,
    batches: Iterator[Batch] | None,
    part: Part,
    number: int,
    listed: Path,
    config: SharedLinesConfig,
) -> Link:
    """Takes shared lines out of the documents of a part; facts: as those of a stage of `clean:`, and the lines."""
    hashes_name, first_name = _names(number)
    hashes, first = verified_array(listed, hashes_name, np.uint64), verified_array(listed, first_name, np.int64)
    examples, sizes, row, removed = Examples(), LeftOver(), 0, 0
    with EditWriter(folder) as edits, LedgerWriter(folder) as ledger:
        for batch in part.batches() if batches is None else batches:
            gone = _gone(batch, row, hashes, first, config)
            left: list[Document] = []
            for place, document in enumerate(batch):
                after: tuple[Document, ...] = (document,)
                if place in gone:
                    starts, ends = gone[place]
                    after, verdict = _without(document, starts, ends, config.most_of_a_document)
                    removed += len(starts)
                    sizes.went(document, after, verdict)
                    ledger.add([verdict])
                    examples.add(document, after, [verdict])
                edits.add(document, after)
                left += after
            row += len(batch)
            sizes.left(left)
            yield left
    examples.write(folder)
    return {"stage": _RULE, "lines": removed, **sizes.facts, "rules": ledger.rules}


def _gone(
    batch: Batch, row: int, hashes: U64, first: I64, config: SharedLinesConfig
) -> dict[int, tuple[list[int], list[int]]]:
    """Of the documents of a batch that lose lines: where these begin and end."""
    gone: dict[int, tuple[list[int], list[int]]] = {}
    for first_row, piece in _in_batches(batch, row) if len(hashes) else ():
        found = _listed(find_pieces(piece, config), first_row, hashes, first)
        for place, start, end in zip(*(column.tolist() for column in found[:3]), strict=True):
            starts, ends = gone.setdefault(first_row - row + place, ([], []))
            starts.append(start)
            ends.append(end)
    return gone


def _listed(pieces: Pieces, first_row: int, hashes: U64, first: I64) -> Pieces:
    place = np.minimum(np.searchsorted(hashes, pieces.hashes), len(hashes) - 1)
    goes = (hashes[place] == pieces.hashes) & (first[place] != pieces.rows + first_row)
    return Pieces(*(column[goes] for column in pieces))


def _without(
    document: Document, starts: list[int], ends: list[int], most: float
) -> tuple[tuple[Document, ...], Verdict]:
    """A document without some lines; one that has little else is dropped."""
    text = remove(document.text, starts, ends)
    said = (str(len(starts)), document.locator)
    if not text.strip() or len(document.text) - len(text) > most * len(document.text):
        return (), Verdict(document.doc_id, _STAGE, _RULE, "dropped", *said)
    return (other_text(document, text, _RULE),), Verdict(document.doc_id, _STAGE, _RULE, "changed", *said)
