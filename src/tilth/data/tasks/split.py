"""Which document is for training and which is held out: by document, or by the end of the text.

    assign         all digests -> sides-NNNNN.bin (a split's number for each document of a part), cuts.json
    AssignedPart   the documents of a part, split by split

Nothing is read but what the digests say of each document; texts are only touched by whoever uses a split.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tilth.core.config import fingerprint
from tilth.core.files import read_json, write_json
from tilth.core.random import derive_seed
from tilth.data.document import Document, Verdict, documents_table, make_doc_id, table_documents
from tilth.data.leaks.cutting import without
from tilth.data.spoken import other_text
from tilth.data.tasks.corpus import Corpus, group_names
from tilth.data.tasks.groups import ALIKE, GROUPS
from tilth.data.tasks.parts import Batch, LedgerWriter, Part, verified_array, verified_file, verified_table
from tilth.data.tasks.refused import refused_by, refused_flags

VERSION = 5
DROPPED, TWIN, CUT, LEAKED = 255, 254, 253, 252
"""In the place of a split's number: dropped by deduplication; dropped as a twin; in several splits, see cuts.json;
dropped because it holds what is held out."""
REMOVED = "removed.json"
"""What is cut out of training documents: {part: {row: [[start, end], …]}}, in characters of what is in training."""
Sides = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class SplitPlan:
    """How the corpus is divided.

    Attributes:
        names: the splits, `train` first.
        shares: of those that are held out, in their order: of the documents (of groups), or of the characters.
        by_document: False: the text of each source is cut at the shares, as nanoGPT cuts its one.
        seed: of the hash that draws documents.
        fills: by document: a split that the hash leaves without any gets a group, where there are enough.
    """

    names: tuple[str, ...]
    shares: tuple[float, ...]
    by_document: bool
    seed: int = 0
    fills: bool = False


def assign(
    folder: Path,
    digests: Sequence[Path],
    drops: Sequence[Path],
    groups: Path | None,
    plan: SplitPlan,
    refused: Sequence[Path] = (),
) -> dict[str, Any]:
    """Gives every document its split; facts: documents of each split, and for each part what decides its splits.

    By document a group goes to one side whole. Where its documents hold one another's text (`meta.twin`), the first of
    a held-out group is measured, and the others are neither trained on nor measured. By tail, a document that a cut
    goes through is in both splits, a piece in each; near-duplicates that would be parted are all trained on.

    Args:
        refused: of each part, which documents no tokens will be made of: they have a side, and fill none.
    """
    corpus = Corpus(digests)
    kept = ~corpus.gone(drops)
    used = kept & ~refused_flags(refused) if refused else kept
    sides, cuts = _draw(corpus, used, groups, plan) if plan.by_document else _cut(corpus, kept, plan)
    together = _keep_together(corpus, groups, sides, cuts) if groups and not plan.by_document else 0
    sides[~kept] = DROPPED
    identities = _write(folder, corpus, sides, cuts)
    twins = np.flatnonzero(sides == TWIN)
    rows = corpus.rows(twins, ("doc_id", "group", "text_bytes"))
    with LedgerWriter(folder) as ledger:
        ledger.add(Verdict(row["doc_id"], "split", "held_out_twin", "dropped", row["group"]) for row in rows)
    bytes_of_twins = sum(row["text_bytes"] for row in rows)
    counts = {name: int((sides == n).sum()) for n, name in enumerate(plan.names)}
    for name, _, _ in itertools.chain.from_iterable(cuts.values()):
        counts[name] += 1
    cut = sum(len(pieces) - 1 for pieces in cuts.values())
    return {
        "split_documents": counts,
        "cut": cut,
        "by": ("document" if plan.by_document else "tail") if any(plan.shares) else None,
        "together": together,
        **({"refused": refused_by(refused)} if refused else {}),
        "parts": identities,
        "dropped_bytes": dict.fromkeys(ledger.rules["dropped"], bytes_of_twins),
        "rules": ledger.rules,
    }


Cuts = dict[int, list[tuple[str, int, int]]]
"""Of a document's number: (split, start, stop) of each of its pieces, in characters."""


def _draw(corpus: Corpus, kept: npt.NDArray[np.bool_], groups: Path | None, plan: SplitPlan) -> tuple[Sides, Cuts]:
    if not any(plan.shares):  # all are for training
        return np.zeros(len(corpus), np.uint8), {}
    joined = _joined(corpus, groups) if groups else {}
    sides = _drawn(corpus, kept, joined, plan, {})
    filled = _filled(corpus, kept, joined, plan, sides) if plan.fills else {}
    return (_drawn(corpus, kept, joined, plan, filled) if filled else sides), {}


def _drawn(
    corpus: Corpus, kept: npt.NDArray[np.bool_], joined: Mapping[int, str], plan: SplitPlan, filled: Mapping[str, int]
) -> Sides:
    """The side that each document's group is drawn to, or given in `filled`."""
    sides, owners = np.empty(len(corpus), np.uint8), dict[str, str]()
    for start, batch in corpus.batches(("source", "doc_id", "group", "twin", "part_of")):
        names = [joined.get(number, name) for number, name in enumerate(group_names(batch).to_pylist(), start)]
        own = sides[start : start + len(names)]
        own[:] = [filled[name] if name in filled else side(plan.seed, name, plan.shares) for name in names]
        twins = np.flatnonzero((own > 0) & kept[start : start + len(names)] & np.asarray(batch["twin"]))
        for row, said in zip(twins.tolist(), batch.take(pa.array(twins)).to_pylist(), strict=True):
            owner = said["part_of"] or said["doc_id"]
            if owners.setdefault(names[row], owner) != owner:
                own[row] = TWIN
    return sides


def _filled(
    corpus: Corpus, kept: npt.NDArray[np.bool_], joined: Mapping[int, str], plan: SplitPlan, sides: Sides
) -> dict[str, int]:
    """The groups that fill splits which the hash left without any, of few documents: of those in the split that has
    most, the smallest, of these the one with the lowest draw.
    """
    wanted = [number for number, share in enumerate((1.0, *plan.shares)) if share]
    there = np.bincount(sides[kept & (sides != TWIN)], minlength=len(plan.names))
    if there[wanted].all():
        return {}
    sizes = Counter[str]()
    for start, batch in corpus.batches(("source", "doc_id", "group")):
        names = (joined.get(number, name) for number, name in enumerate(group_names(batch).to_pylist(), start))
        sizes.update(itertools.compress(names, kept[start : start + len(batch)].tolist()))
    side_of, filled = {name: side(plan.seed, name, plan.shares) for name in sizes}, dict[str, int]()
    for number in wanted:
        counts = Counter(side_of.values())
        most = max(range(len(plan.names)), key=counts.__getitem__)
        if counts[number] or counts[most] < 2:
            continue
        own = [name for name, of in side_of.items() if of == most]
        chosen = min(own, key=lambda name: (sizes[name], _draw_of(plan.seed, name), name))
        side_of[chosen] = filled[chosen] = number
    return filled


def _joined(corpus: Corpus, groups: Path) -> dict[int, str]:
    """The groups of documents that belong to others beyond their own, by their numbers."""
    table = verified_table(groups, GROUPS)
    numbers = corpus.starts[np.asarray(table["part"])] + np.asarray(table["row"])
    return dict(zip(numbers.tolist(), table["group"].to_pylist(), strict=True))


def side(seed: int, group: str, shares: Sequence[float]) -> int:
    """The number of a group's split: 0, or that of the held-out share that a hash of the group falls into."""
    drawn, low = _draw_of(seed, group), 0.0
    for number, share in enumerate(shares, 1):
        low += share
        if drawn < low:
            return number
    return 0


def _draw_of(seed: int, group: str) -> float:
    return derive_seed(seed, f"split/{group}") / 2**63


def _cut(corpus: Corpus, kept: npt.NDArray[np.bool_], plan: SplitPlan) -> tuple[Sides, Cuts]:
    """Cuts the characters of each source that are kept, its parts in a row, at the shares: int(n * (1 - share)), as
    nanoGPT does.
    """
    sources = _sources(corpus)
    totals: Counter[str] = Counter()
    for source, own in zip(sources, _sizes(corpus, kept), strict=True):
        totals[source] += int(own.sum())
    sides, cuts = np.empty(len(corpus), np.uint8), Cuts()
    passed: Counter[str] = Counter()
    for source, first, own in zip(sources, corpus.starts.tolist(), _sizes(corpus, kept), strict=True):
        borders = [int(totals[source] * (1 - sum(plan.shares[n:]))) for n in range(len(plan.shares))]
        stops = passed[source] + np.cumsum(own)
        starts = stops - own
        passed[source] += int(own.sum())
        sides[first : first + len(own)] = np.searchsorted(borders, starts, side="right")
        for place in sorted({int(np.searchsorted(stops, border, side="right")) for border in borders}):
            inside = [border for border in borders if place < len(own) and starts[place] < border < stops[place]]
            if inside:
                side_of_start, start = int(sides[first + place]), int(starts[place])
                edges = enumerate(itertools.pairwise([start, *inside, int(stops[place])]), side_of_start)
                cuts[first + place] = [(plan.names[n], low - start, high - start) for n, (low, high) in edges]
                sides[first + place] = CUT
    return sides, cuts


def _keep_together(corpus: Corpus, groups: Path, sides: Sides, cuts: Cuts) -> int:
    """Gives near-duplicates that a cut parts to training, all of them and whole; returns how many went there."""
    table = verified_table(groups, ALIKE)
    numbers = corpus.starts[np.asarray(table["part"])] + np.asarray(table["row"])
    _, cluster = np.unique(np.asarray(table["first"]), return_inverse=True)
    lowest, highest = np.full(len(numbers), CUT), np.zeros(len(numbers), np.uint8)
    np.minimum.at(lowest, cluster, sides[numbers])
    np.maximum.at(highest, cluster, sides[numbers])  # a document that is cut has the highest number
    parted = numbers[((lowest != highest) | (highest == CUT))[cluster]]
    moved = parted[sides[parted] != 0]
    sides[parted] = 0
    for number in moved.tolist():
        cuts.pop(number, None)
    return len(moved)


def _sources(corpus: Corpus) -> list[str]:
    """The name of each part's source; "" of a part without documents."""
    return [table["source"][0].as_py() if len(table) else "" for _, table in corpus.parts(["source"])]


def _sizes(corpus: Corpus, kept: npt.NDArray[np.bool_]) -> Iterator[npt.NDArray[np.int64]]:
    """Part by part the characters of each document, 0 of those that are gone."""
    for own, (_, table) in zip(corpus.by_part(kept), corpus.parts(["characters"]), strict=True):
        yield np.where(own, table["characters"], 0)


def _write(folder: Path, corpus: Corpus, sides: Sides, cuts: Cuts) -> list[str]:
    """Writes the splits of each part; returns what decides them, a fingerprint for each part."""
    identities = []
    placed: dict[int, dict[str, Any]] = {}
    for number, pieces in cuts.items():
        part, row = (int(values[0]) for values in corpus.places(np.array([number])))
        placed.setdefault(part, {})[str(row)] = [list(piece) for piece in pieces]
    write_json(folder / "cuts.json", placed)
    for part, own in enumerate(corpus.by_part(sides)):
        own.tofile(folder / f"sides-{part:05d}.bin")
        identities.append(fingerprint([own.tobytes().hex(), placed.get(part)]))
    return identities


@dataclass(frozen=True, slots=True)
class AssignedPart:
    """A cleaned part with the split of each of its documents.

    Attributes:
        part: its documents.
        number: its place among the parts.
        folder: of the task that assigned them.
        names: of the splits.
    """

    part: Part
    number: int
    folder: Path
    names: tuple[str, ...]

    def split(self, name: str) -> Iterator[Document]:
        """The documents of one split."""
        return (document for batch in self.batches(name) for document in batch)

    def batches(self, name: str) -> Iterator[Batch]:
        """The documents of one split, in the part's batches; nothing is read when it has none."""
        removed = self._removed if name == self.names[0] else {}
        for rows, batch in self._divided(name):
            yield [_cut_out(d, removed.get(str(row))) for row, d in zip(rows, batch, strict=True)] if removed else batch

    def tables(self, name: str) -> Iterator[pa.Table]:
        """The same as tables."""
        if self._cuts:
            yield from map(documents_table, self.batches(name))
            return
        removed = self._removed if name == self.names[0] else {}
        spans_of = {int(row): spans for row, spans in removed.items()}
        wanted = self.names.index(name)
        for first, own, table in self._with_sides(wanted):
            here = own == wanted
            spans = {row - first: spans_of[row] for row in range(first, first + len(own)) if row in spans_of}
            left = _texts_cut(table, spans) if spans else table
            yield left if here.all() else left.filter(pa.array(here)).combine_chunks()

    def rows(self, name: str) -> Iterator[tuple[int, Document]]:
        """The documents of one split as they were divided, each with its row in the part."""
        return (pair for rows, batch in self._divided(name) for pair in zip(rows, batch, strict=True))

    @property
    def _cuts(self) -> dict[str, Any]:
        cuts: dict[str, Any] = read_json(verified_file(self.folder, "cuts.json")).get(str(self.number), {})
        return cuts

    @property
    def _removed(self) -> dict[str, Any]:
        if not (self.folder / REMOVED).exists():
            return {}
        removed: dict[str, Any] = read_json(verified_file(self.folder, REMOVED)).get(str(self.number), {})
        return removed

    def _with_sides(self, wanted: int) -> Iterator[tuple[int, Sides, pa.Table]]:
        """The tables of the part, each with its first row and the splits of its documents, where one has any."""
        sides: Sides = verified_array(self.folder, f"sides-{self.number:05d}.bin", np.uint8)
        row = 0
        for table in self.part.tables() if ((sides == wanted) | (sides == CUT)).any() else ():
            yield row, sides[row : row + len(table)], table
            row += len(table)

    def _divided(self, name: str) -> Iterator[tuple[Sequence[int], list[Document]]]:
        cuts, wanted = self._cuts, self.names.index(name)
        for row, own, table in self._with_sides(wanted):
            places = np.flatnonzero((own == wanted) | (own == CUT))
            batch = table_documents(table.take(pa.array(places)))
            numbers = (row + places).tolist()
            if not cuts:
                yield numbers, batch
                continue
            pieces = [
                (number, piece)
                for number, document in zip(numbers, batch, strict=True)
                for piece in self._pieces(document, cuts.get(str(number)), name)
            ]
            yield [number for number, _ in pieces], [piece for _, piece in pieces]

    @staticmethod
    def _pieces(document: Document, pieces: list[tuple[str, int, int]] | None, name: str) -> list[Document]:
        if pieces is None:
            return [document]
        return [_span(document, low, high) for split, low, high in pieces if split == name]


def _cut_out(document: Document, spans: Sequence[Sequence[int]] | None) -> Document:
    if spans is None:
        return document
    return other_text(document, without(document.text, spans), "decontaminate")


def _texts_cut(table: pa.Table, spans: Mapping[int, Sequence[Sequence[int]]]) -> pa.Table:
    """A table with spans cut out of the texts of some rows, and without messages that still say them."""
    rows = sorted(spans)
    whole = table_documents(table.take(pa.array(rows)))
    cut = documents_table(_cut_out(document, spans[row]) for row, document in zip(rows, whole, strict=True))
    changed = pa.array(np.isin(np.arange(len(table)), rows))
    for name in ("text", "meta"):
        place = table.schema.get_field_index(name)
        column = pc.replace_with_mask(table[name].combine_chunks(), changed, cut[name].combine_chunks())
        table = table.set_column(place, table.schema.field(place), column)
    return table


def _span(document: Document, start: int, stop: int) -> Document:
    """A piece of a document; its beginning keeps the id."""
    if start == 0:
        return other_text(document, document.text[:stop], "split")
    locator = f"{document.locator}#characters={start}-"
    doc_id = make_doc_id(document.source, locator)
    rest = replace(document, doc_id=doc_id, locator=locator)
    return other_text(rest, document.text[start:stop], "split")
