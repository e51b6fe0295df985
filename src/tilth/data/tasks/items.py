"""The tasks that index what a model will be measured by.

evaluation_items   files of evaluation items      -> an index, a sample of the items
held_out_items     a part's held-out documents    -> their n-grams, sorted
held_out_index     those of all parts             -> an index, a sample

grams.bin owners.bin     n-grams sorted by hash, and the item of each
filter.bin               bits that turn away most of what is in no item
items.parquet            (item_id, locator, words, width of an n-gram), in the order of their numbers
sample.parquet           (item_id, text): what recall is measured with
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tilth.core.errors import DataError
from tilth.core.words import plural
from tilth.data import words
from tilth.data.conversations import Encoder
from tilth.data.document import Document, Rows
from tilth.data.duplicates.runs import merged
from tilth.data.extract import Extractors
from tilth.data.leaks.decontaminate import (
    Grams,
    Index,
    capped,
    empty_filter,
    fill_filter,
    item_grams,
)
from tilth.data.leaks.exam_seen import Seen
from tilth.data.leaks.planting import MOST_ITEMS, Item, draw_order, excerpt
from tilth.data.sources import READING, Input, SourceConfig, read_rows
from tilth.data.sources.losses import judge
from tilth.data.tasks.parts import verified_array, verified_table
from tilth.data.tasks.split import AssignedPart
from tilth.data.words import I64

VERSIONS = {"items": 8 + READING, "held_out": 4, "held_out_index": 3}
GRAMS, OWNERS, FILTER = "grams.bin", "owners.bin", "filter.bin"
ITEMS, SAMPLE = "items.parquet", "sample.parquet"
_GATHERED = 1 << 22  # n-grams that are held before they become a run


def evaluation_items(
    folder: Path, sources: Sequence[tuple[SourceConfig, Sequence[Input]]], ngram: int, shortest: int
) -> dict[str, Any]:
    """Indexes evaluation files; facts: items, those too short to be looked for, rows that gave no item, by rule; of
    each source what `Seen.plain` says.

    Each file must be whole, unless its source has `max_bad_rows: 1`: what is missing of an exam is trained on. Whoever
    has the listings too judges that (exam_files.py); here it stops only where nothing is left to be looked for.
    """
    gathered, seen = _Gathered(folder, ngram, shortest), [Seen(source) for source, _ in sources]
    for (source, inputs), own in zip(sources, seen, strict=True):
        with Extractors(source.extract) as extractors:
            for item in inputs:
                own.end(item, gathered.add(_documents(item, source, extractors, own)))
    facts, said = gathered.write(indexed=True), [own.plain() for own in seen]
    left_out = sum((Counter(own["left_out"]) for own in said), Counter[str]())
    if not facts["items"]:
        for (source, inputs), one in zip(sources, said, strict=True):
            judge(source, len(inputs), one["lost"]["files"], one["lost"]["first"], whole=True)
        raise _no_item(said, left_out, facts["too_short"], shortest)
    return {**facts, "left_out": dict(sorted(left_out.items())), "sources": said, "rules": {}}


def _no_item(said: Sequence[dict[str, Any]], left_out: Counter[str], too_short: int, shortest: int) -> DataError:
    """The error that names what became of the rows and files, and what is known to do about the first."""
    passed = sum((Counter({r: n["files"] for r, n in own["passed_over"].items()}) for own in said), Counter[str]())
    told = [f"{plural(n, 'row')} left out by {rule}" for rule, n in sorted(left_out.items())]
    told += [f"{plural(n, 'file')} not read by {rule}" for rule, n in sorted(passed.items())]
    told += next((own["unusable"]["first"][:1] for own in said if own["unusable"]["first"]), [])
    known = (own["unusable"]["remedy"] for own in said)
    return DataError(
        f"data.decontaminate.against gives no item of {shortest} words or more: "
        + "; ".join([f"{too_short:,} shorter", *told]),
        next(filter(None, known), "check the `field`, `template` or `map` of these files")
        + ("" if left_out and not too_short else ", or lower data.decontaminate.shortest"),
    )


def _documents(item: Input, source: SourceConfig, extractors: Extractors, seen: Seen) -> Iterable[Document]:
    met, unusable = seen.met, seen.unusable
    for found in read_rows(item, source, extractors, among_many=True, met=met, unusable=unusable, whole=True):
        if isinstance(found, Rows):
            documents: Iterable[Document] = found
        else:
            seen.take(found, item)
            documents = [found.document] if found.document is not None else []
        for document in documents:
            seen.item(document)
            yield document


def held_out_items(
    folder: Path, part: AssignedPart, ngram: int, shortest: int, encoder: Encoder | None
) -> dict[str, Any]:
    """The n-grams of the documents of a part that a model is measured by: where these are conversations, without those
    that `encoder` makes no tokens of.
    """
    gathered = _Gathered(folder, ngram, shortest)
    for name in part.names[1:]:
        gathered.add(d for d in part.split(name) if encoder is None or encoder.refusal(d) is None)
    return {**gathered.write(indexed=False), "rules": {}}


def held_out_index(folder: Path, runs: Sequence[Path]) -> dict[str, Any]:
    """One index of what all parts hold out."""
    tables = [verified_table(run, ITEMS) for run in runs]
    first_items = np.cumsum([0, *map(len, tables)])[:-1]
    samples = [verified_table(run, SAMPLE) for run in runs]
    pq.write_table(pa.concat_tables(tables), folder / ITEMS)
    grams = [Grams(verified_array(run, GRAMS, np.uint64), verified_array(run, OWNERS, np.uint32)) for run in runs]
    entries = _write_grams(folder, grams, first_items, indexed=True)
    rows = [Item(**row) for row in pa.concat_tables(samples).to_pylist()]
    _write_sample(folder, rows)
    items = sum(int((np.asarray(table["width"]) > 0).sum()) for table in tables)
    return {"items": items, "ngrams": entries, "rules": {}}


def open_index(folder: Path) -> Index:
    """The index that a task left."""
    grams = Grams(verified_array(folder, GRAMS, np.uint64), verified_array(folder, OWNERS, np.uint32))
    table = verified_table(folder, ITEMS, ["words", "width"])
    bits = np.array(verified_array(folder, FILTER, np.uint8))
    return Index(grams, bits, np.asarray(table["words"]), np.asarray(table["width"]))


def item_names(folder: Path, numbers: Iterable[int]) -> list[str]:
    """What verdicts call items: id and locator."""
    table = verified_table(folder, ITEMS, ["item_id", "locator"]).take(pa.array(list(numbers), pa.int64()))
    return [f"{row['item_id']} {row['locator']}" for row in table.to_pylist()]


def sample_of(folder: Path) -> list[Item]:
    """The items that are planted."""
    return [Item(**row) for row in verified_table(folder, SAMPLE).to_pylist()]


class _Gathered:
    """N-grams of items in runs, and what the items are called."""

    def __init__(self, folder: Path, ngram: int, shortest: int) -> None:
        self._folder, self._ngram, self._shortest = folder, ngram, shortest
        self._runs: list[Grams] = []
        self._names: list[tuple[str, str]] = []
        self._sizes: list[I64] = []
        self._widths: list[I64] = []
        self._sample: list[Item] = []

    def add(self, documents: Iterable[Document]) -> list[tuple[str, bool]]:
        """More items; the locator of each, and whether it is looked for."""
        held: list[Document] = []
        taken, size = list[tuple[str, bool]](), 0
        for document in documents:
            held.append(document)
            size += len(document.text)
            if size >= words.BATCH_CHARACTERS:
                taken += self._take(held)
                held, size = [], 0
        return [*taken, *self._take(held)]

    def _take(self, held: Sequence[Document]) -> list[tuple[str, bool]]:
        if not held:
            return []
        texts = [document.text for document in held]
        grams, sizes, widths = item_grams(texts, len(self._names), self._ngram, self._shortest)
        self._runs.append(grams)
        self._sizes.append(sizes)
        self._widths.append(widths)
        self._names += [(document.doc_id, document.locator) for document in held]
        found = [Item(held[n].doc_id, held[n].text) for n in np.flatnonzero(widths).tolist()]
        self._sample = _smallest([*self._sample, *(Item(i, excerpt(i, text)) for i, text in _smallest(found))])
        return [(document.locator, width > 0) for document, width in zip(held, widths.tolist(), strict=True)]

    def write(self, *, indexed: bool) -> dict[str, Any]:
        """Writes an index, or what is merged into one."""
        sizes, widths = (np.concatenate([np.empty(0, np.int64), *own]) for own in (self._sizes, self._widths))
        ids, locators = [doc_id for doc_id, _ in self._names], [locator for _, locator in self._names]
        columns = {"item_id": ids, "locator": locators, "words": sizes, "width": widths}
        pq.write_table(pa.table(columns, schema=_ITEM_SCHEMA), self._folder / ITEMS)
        _write_sample(self._folder, self._sample)
        entries = _write_grams(self._folder, self._runs, np.zeros(len(self._runs), np.int64), indexed=indexed)
        looked_for = int((widths > 0).sum())
        return {"items": looked_for, "too_short": len(widths) - looked_for, "ngrams": entries}


_ITEM_SCHEMA = pa.schema(
    [("item_id", pa.string()), ("locator", pa.string()), ("words", pa.int64()), ("width", pa.int64())]
)
_SAMPLE_SCHEMA = pa.schema([("item_id", pa.string()), ("text", pa.large_string())])


def _smallest(items: Iterable[Item]) -> list[Item]:
    return sorted(items, key=lambda item: (draw_order(item.item_id), item.item_id))[:MOST_ITEMS]


def _write_sample(folder: Path, items: Sequence[Item]) -> None:
    chosen = _smallest(items)
    columns = {"item_id": [item.item_id for item in chosen], "text": [item.text for item in chosen]}
    pq.write_table(pa.table(columns, schema=_SAMPLE_SCHEMA), folder / SAMPLE)


def _write_grams(folder: Path, runs: Sequence[Grams], first_items: I64, *, indexed: bool) -> int:
    """Merges runs into one, with a filter where it is to be looked into; returns its entries."""
    bits, entries = empty_filter(sum(len(run.hashes) for run in runs)), 0
    with (folder / GRAMS).open("wb") as hashes, (folder / OWNERS).open("wb") as owners:
        for piece in merged([run.hashes for run in runs], [[run.owners] for run in runs]) if runs else ():
            grams = capped(piece, first_items)
            hashes.write(grams.hashes.tobytes())
            owners.write(grams.owners.tobytes())
            fill_filter(bits, grams.hashes)
            entries += len(grams.hashes)
    if indexed:
        bits.tofile(folder / FILTER)
    return entries
