"""What documents are called, for messages: the locators (file and row) behind the ids of a dataset.

locators(files, doc_ids)             of documents of a split, in its Parquet files
first_dropped(files, rules, …)       the first documents that the rules of a ledger dropped
told_by(detail, doc_id, sources)     the locator that the detail of a verdict begins with
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tilth.data.document import make_doc_id

_LEDGER = re.compile(r"(.*)-(\d+)\.parquet")


def locators(files: Iterable[Path], doc_ids: Collection[str]) -> dict[str, str]:
    """The locators of documents, by their ids; read until all are found."""
    found, wanted = dict[str, str](), pa.array(sorted(set(doc_ids)), pa.string())
    for path in files:
        if len(found) == len(wanted):
            break
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(columns=["doc_id", "locator"]):
                rows = batch.filter(pc.is_in(batch["doc_id"], wanted)).to_pydict()
                found |= dict(zip(rows["doc_id"], rows["locator"], strict=True))
    return found


def first_dropped(
    files: Iterable[Path], rules: Collection[str], sources: Collection[str], most: int
) -> dict[str, list[str]]:
    """The locators of the first documents that each rule dropped, `most` at the most; an id where none is told.

    Args:
        files: of the ledger.
        rules: as `read/no_field`.
    """
    found: dict[str, list[str]] = {rule: [] for rule in rules}
    for phase, path in _in_order(files, {rule.partition("/")[0] for rule in rules}):
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(columns=["doc_id", "rule", "verdict", "detail"]):
                dropped = batch.filter(pc.equal(batch["verdict"], "dropped"))
                for rule in pc.unique(dropped["rule"]).to_pylist():
                    names = found.get(f"{phase}/{rule}", [])
                    own = dropped.filter(pc.equal(dropped["rule"], rule)).slice(0, most - len(names))
                    names += [
                        told_by(row["detail"], row["doc_id"], sources) or row["doc_id"] for row in own.to_pylist()
                    ]
    return found


def _in_order(files: Iterable[Path], phases: Collection[str]) -> list[tuple[str, Path]]:
    named = [(match, path) for path in files if (match := _LEDGER.fullmatch(path.name)) and match[1] in phases]
    return [(match[1], path) for match, path in sorted(named, key=lambda one: (one[0][1], int(one[0][2])))]


def told_by(detail: str, doc_id: str, sources: Collection[str]) -> str | None:
    """The locator that a detail begins with, which is the one whose hash the id is; None where it names none."""
    for locator in beginnings(detail):
        if any(make_doc_id(source, locator) == doc_id for source in sources):
            return locator
    return None


def beginnings(detail: str) -> Iterator[str]:
    """What a detail may begin with as a locator: all of it, and up to each `: `."""
    yield detail
    for found in re.finditer(": ", detail):
        yield detail[: found.start()]
