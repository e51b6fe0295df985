"""Which document is for training, which is held out: by document, or by the end of the text.

SplitPlan.divide(documents)    each with the name of its split
CleanedPart                    a cleaned part with what deduplication and the split make of it
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tilth.core.random import derive_seed
from tilth.data.document import Document, make_doc_id
from tilth.data.tasks.dedup import DROPS, GROUPS
from tilth.data.tasks.parts import Part, verified_table

TWIN = "twin"
Grouped = tuple[Document, str]
"""A document, and the group that it must not be parted from."""


@dataclass(frozen=True, slots=True)
class SplitPlan:
    """How one cleaned part is divided.

    Attributes:
        shares: by document: the split of each held-out share, of documents (of groups); None: the text is cut instead.
        seed: of the hash that chooses them.
        characters: by tail: how many characters of this part, after deduplication, are for each split, in this order.
    """

    shares: tuple[tuple[str, float], ...] | None
    seed: int = 0
    characters: tuple[tuple[str, int], ...] = ()

    def divide(self, documents: Iterable[Grouped]) -> Iterator[tuple[str, Document]]:
        """Each document with the name of its split, or `twin`.

        A group goes to one side whole. Where its documents hold one another's text (`meta.twin`), the first of a
        held-out group is measured, and the others are neither trained on nor measured. A document that the tail's cut
        goes through comes as two.
        """
        return self._draw(documents, self.shares) if self.shares is not None else self._cut(documents)

    def _draw(
        self, documents: Iterable[Grouped], shares: Sequence[tuple[str, float]]
    ) -> Iterator[tuple[str, Document]]:
        measured: dict[str, str] = {}
        for document, group in documents:
            split = side(self.seed, group, shares)
            owner = str(document.meta.get("part_of", document.doc_id))
            if split != "train" and measured.setdefault(group, owner) != owner and document.meta.get("twin"):
                split = TWIN
            yield split, document

    def _cut(self, documents: Iterable[Grouped]) -> Iterator[tuple[str, Document]]:
        room = iter([(split, size) for split, size in self.characters if size])
        split, left = next(room, ("train", 0))
        for document, _ in documents:
            start = 0
            while start < len(document.text):
                if not left:
                    split, left = next(room)  # the plan has room for every character
                stop = min(len(document.text), start + left)
                yield split, _span(document, start, stop)
                start, left = stop, left - (stop - start)


def side(seed: int, group: str, shares: Sequence[tuple[str, float]]) -> str:
    """The split of a group: `train`, or that whose share a hash of the group falls into."""
    drawn, low = derive_seed(seed, f"split/{group}") / 2**63, 0.0
    for split, share in shares:
        low += share
        if drawn < low:
            return split
    return "train"


def _span(document: Document, start: int, stop: int) -> Document:
    """A piece of a document; its beginning keeps the id, so that a document that is not cut is itself."""
    if (start, stop) == (0, len(document.text)):
        return document
    if start == 0:
        return replace(document, text=document.text[:stop])
    locator = rest_locator(document.locator, start)
    return replace(
        document, doc_id=make_doc_id(document.source, locator), locator=locator, text=document.text[start:stop]
    )


def rest_locator(locator: str, start: int) -> str:
    """Where the rest of a document stands, of which `start` characters were cut off."""
    return f"{locator}#characters={start}-"


@dataclass(frozen=True, slots=True)
class CleanedPart:
    """A cleaned part with what deduplication and the split make of it.

    Attributes:
        part: its documents.
        number: its place among the parts.
        drops: folders of the tasks whose drops.parquet says which rows go.
        groups: the folder of the task whose groups.parquet says which documents belong together.
    """

    part: Part
    number: int
    drops: tuple[Path, ...]
    groups: Path | None
    plan: SplitPlan

    def kept(self) -> Iterator[Grouped]:
        """Its documents without the duplicates."""
        dropped = {row for folder in self.drops for row in self._rows(folder, DROPS)}
        groups = self._groups()
        for row, document in enumerate(self.part.documents()):
            if row not in dropped:
                yield document, groups.get(row, f"{document.source}/{document.group}")

    def divided(self) -> Iterator[tuple[str, Document]]:
        """Its documents, each with the name of its split, or `twin`."""
        return self.plan.divide(self.kept())

    def split(self, name: str) -> Iterator[Document]:
        """The documents of one split."""
        return (document for split, document in self.divided() if split == name)

    def _rows(self, folder: Path, name: str) -> list[int]:
        table = verified_table(folder, name)
        own: list[int] = np.asarray(table["row"])[np.asarray(table["part"]) == self.number].tolist()
        return own

    def _groups(self) -> dict[int, str]:
        if self.groups is None:
            return {}
        table = verified_table(self.groups, GROUPS)
        rows = table.filter(np.asarray(table["part"]) == self.number)
        return dict(zip(rows["row"].to_pylist(), rows["group"].to_pylist(), strict=True))
