"""What is known of every document of all parts, without its text: what deduplication and the split decide by."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tilth.data.dedup import DIGEST, I64
from tilth.data.tasks.cleaning import DIGESTS
from tilth.data.tasks.parts import verified_table

DROPS = "drops.parquet"


class Corpus:
    """The tables that `digests` left of all parts, end to end; a document's number is its place in them."""

    def __init__(self, folders: Sequence[Path]) -> None:
        tables = [verified_table(folder, DIGESTS) for folder in folders]
        self._table = pa.concat_tables(tables).unify_dictionaries()
        self.starts = np.cumsum([0, *(len(table) for table in tables)])[:-1]

    def __len__(self) -> int:
        return len(self._table)

    def rows(self, numbers: I64, names: Sequence[str]) -> list[dict[str, Any]]:
        """Some columns of some documents."""
        rows: list[dict[str, Any]] = self._table.select(list(names)).take(numbers).to_pylist()
        return rows

    def flags(self, name: str) -> npt.NDArray[np.bool_]:
        """A column of true and false."""
        return np.asarray(self._table[name])

    def groups(self, together: pa.Table | None) -> list[str]:
        """What each document must not be parted from: its group, or what `together` (part, row, group) says."""
        columns = (self._table[name].to_pylist() for name in ("source", "doc_id", "group"))
        names = [f"{source}/{group or doc_id}" for source, doc_id, group in zip(*columns, strict=True)]
        if together is not None:
            numbers = self.starts[np.asarray(together["part"])] + np.asarray(together["row"])
            for number, name in zip(numbers.tolist(), together["group"].to_pylist(), strict=True):
                names[number] = name
        return names

    def column(self, name: str) -> Any:
        return self._table[name]

    def sizes(self, name: str) -> I64:
        return np.asarray(self._table[name])

    def digests(self) -> Any:
        return np.frombuffer(b"".join(self._table["digest"].to_pylist()), dtype=DIGEST)

    def dropped(self, folder: Path | None) -> I64:
        """The numbers of the documents that an earlier task dropped."""
        if folder is None:
            return np.empty(0, np.int64)
        table = verified_table(folder, DROPS)
        numbers: I64 = self.starts[np.asarray(table["part"])] + np.asarray(table["row"])
        return numbers

    def ties(self) -> I64:
        """Pairs that tie the documents of a group to its first one [P, 2]."""
        grouped = np.flatnonzero(np.asarray(self._table["group"].is_valid()))
        rows = self._table.select(["source", "group"]).take(grouped).to_pylist()
        first: dict[tuple[str, str], int] = {}
        pairs = [
            (first.setdefault((row["source"], row["group"]), n), n)
            for n, row in zip(grouped.tolist(), rows, strict=True)
        ]
        return np.array(pairs, np.int64).reshape(-1, 2)

    def exact_pairs(self, folder: Path | None) -> I64:
        """Exact duplicates, each with the one that stays [P, 2]."""
        gone = self.dropped(folder)
        kept = np.asarray(verified_table(folder, DROPS)["kept"]) if folder else gone
        return np.stack([kept, gone], axis=1)

    def by_part(self, values: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
        """Values of all documents, as one array for each part."""
        return np.split(values, self.starts[1:])

    def split(self, parts: I64, values: I64) -> list[I64]:
        """Values that belong to parts, in the order of parts, as one array for each part."""
        return np.split(values, np.searchsorted(parts, np.arange(1, len(self.starts))))

    def places(self, numbers: I64) -> tuple[I64, I64]:
        """The part and the row of documents."""
        parts = np.searchsorted(self.starts, numbers, side="right") - 1
        return parts, numbers - self.starts[parts]
