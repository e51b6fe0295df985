"""One document's text on its way through the stages of `clean:`, from what each of them left in the workspace.

    follow(tasks, origin, trail) -> [Change]     what each stage made of it; LookupError when a task is no longer there
    text_left(tasks, origin, trail) -> str       the text that all of them left

A stage's edits name a document by its place in what the stage before it left (parts.py). So the place is followed too:
documents that were dropped before it move it up, documents that became several move it down.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from tilth.core.files import read_manifest, safe_join, verify_file
from tilth.data.tasks.parts import EDITS, verified_table

_VALUES = ("doc_id", "locator", "text", "meta")


@dataclass(frozen=True, slots=True)
class Change:
    """What a stage made of the document.

    Attributes:
        stage: its place among the stages of `clean:`.
        doc_id: of the document that it left: another one where it cut a piece off.
        before: the text that it got.
        after: the text that it left; None: dropped; for a document that became several, all of them, one after another.
    """

    stage: int
    doc_id: str
    before: str
    after: str | None


@dataclass(frozen=True, slots=True)
class _Place:
    number: int
    doc_id: str
    text: str


def follow(tasks: Path, origin: Mapping[str, Any], trail: Sequence[str]) -> list[Change]:
    """The changes that stages made to a document, in order.

    Args:
        tasks: the folder of the workspace's tasks.
        origin: of the document's part, as origins.json has it.
        trail: the document's id; before it those of the documents that it was cut from, the one that was read first.

    Raises:
        LookupError: the tasks of this part are not there, or the document is not among what was read.
        IntegrityError: a task is there, and is not what was written.
    """
    return _walk(tasks, origin, trail)[0]


def text_left(tasks: Path, origin: Mapping[str, Any], trail: Sequence[str]) -> str:
    """The text of a document that came through all stages.

    Raises:
        LookupError: as `follow`; or the document did not come through.
        IntegrityError: as `follow`.
    """
    place = _walk(tasks, origin, trail)[1]
    if place is None:
        raise LookupError(f"nothing was left of {trail[-1]}")
    return place.text


def _walk(tasks: Path, origin: Mapping[str, Any], trail: Sequence[str]) -> tuple[list[Change], _Place | None]:
    changes: list[Change] = []
    collected, file = origin["collected"]
    place: _Place | None = _read(_there(tasks, collected), file, trail[0])
    for number, name in enumerate(origin["stages"]):
        assert place is not None
        change, place = _step(verified_table(_there(tasks, name), EDITS), number, place, trail)
        changes += [change] if change else []
        if place is None:
            break
    return changes, place


def _there(tasks: Path, name: str) -> Path:
    folder = safe_join(tasks, name)
    if not folder.is_dir():
        raise LookupError(f"{folder} is no longer there")
    return folder


def _read(folder: Path, name: str, doc_id: str) -> _Place:
    verify_file(folder, name, read_manifest(folder))
    path, before = folder / name, 0
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            ids = file.read_row_group(group, columns=["doc_id"])["doc_id"].to_pylist()
            if doc_id in ids:
                row = ids.index(doc_id)
                return _Place(before + row, doc_id, file.read_row_group(group, columns=["text"])["text"][row].as_py())
            before += len(ids)
    raise LookupError(f"{path} does not hold {doc_id}")


def _step(edits: pa.Table, stage: int, place: _Place, trail: Sequence[str]) -> tuple[Change | None, _Place | None]:
    """What a stage made of the document, if anything, and where it is then (None: dropped, or it became several)."""
    numbers = np.asarray(edits["number"])
    first, stop = (int(np.searchsorted(numbers, place.number, side)) for side in ("left", "right"))
    number = place.number + _moved(edits.slice(0, first), numbers[:first])
    if first == stop:
        return None, _Place(number, place.doc_id, place.text)
    rows = edits.slice(first, stop - first).to_pylist()
    if all(rows[0][name] is None for name in _VALUES):
        return Change(stage, place.doc_id, place.text, None), None
    for offset, row in enumerate(rows):
        doc_id, text = row["doc_id"] or place.doc_id, place.text if row["text"] is None else row["text"]
        if doc_id in trail:
            left = _Place(number + offset, doc_id, text)
            changed = text != place.text or doc_id != place.doc_id
            return (Change(stage, doc_id, place.text, text) if changed else None), left
    pieces = "\n".join(place.text if row["text"] is None else row["text"] for row in rows)
    return Change(stage, place.doc_id, place.text, pieces), None


def _moved(edits: pa.Table, numbers: npt.NDArray[np.int64]) -> int:
    """By how much the documents before a place moved it: what they became, less what they were."""
    dropped = np.ones(len(edits), bool)
    for name in _VALUES:
        dropped &= np.asarray(edits[name].is_null())
    return int((~dropped).sum()) - len(np.unique(numbers))
