"""The tasks that keep out of training what a model will be measured by.

    decontaminate  a part, the index of evaluation items  -> edits, ledger, examples    (a link of the part's chain)
    hits           a part's training documents, the index of what is held out  -> hits.bin
    leaks          the hits of all parts   -> sides-NNNNN.bin, cuts.json, removed.json, ledger.parquet
    recall         an index, documents     -> nothing; its facts: how well planted items are found

`leaks` leaves the folder that `assign` left, with the training documents taken out that hold held-out text. It first
counts in how many training documents each n-gram stands: what many hold is nobody's secret, and no evidence.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tilth.core.config import fingerprint
from tilth.core.errors import DataError
from tilth.core.files import read_json, read_manifest, write_json
from tilth.data import words
from tilth.data.document import Document, Verdict
from tilth.data.duplicates.dedup import I64
from tilth.data.leaks.cutting import without
from tilth.data.leaks.decontaminate import (
    GAP,
    DecontaminateConfig,
    Hits,
    Index,
    Passages,
    evidence,
    needed,
    passages,
    widened,
)
from tilth.data.leaks.planting import HOST_WORDS, MOST_HOSTS, has_words, measure
from tilth.data.spoken import other_text
from tilth.data.tasks.cleaning import LeftOver
from tilth.data.tasks.corpus import Corpus
from tilth.data.tasks.examples import OF_EACH, Examples
from tilth.data.tasks.items import item_names, open_index, sample_of
from tilth.data.tasks.parts import Batch, EditWriter, LedgerWriter, Part, verified_array, verified_file
from tilth.data.tasks.split import CUT, LEAKED, REMOVED, AssignedPart, Sides

VERSIONS = {"decontaminate": 10, "hits": 6, "leaks": 6, "recall": 4}
CUTTING = 2
"""How spans are taken out of a text (`without`): raised where the same spans leave another text."""
STAGE, HELD_OUT = "decontaminate", "held_out_text"
HITS, COMMON = "hits.bin", "common.bin"
_HIT = np.dtype([(name, "<u4") for name in Hits._fields])
_JUDGED_FROM = 20  # dropped documents; a share of fewer says little
_LEAST_LEFT = 16  # characters: of what cutting leaves less of, nothing stays
_LEAST_SHARE = 0.5  # of a document: with `auto`, of what cutting leaves less of, nothing stays


class Detector:
    """What finds items in texts.

    Args:
        common: n-grams that are no evidence, by their first places in the index, sorted.
    """

    def __init__(self, index: Index, config: DecontaminateConfig, common: I64 | None = None) -> None:
        self._index, self._least = index, needed(index.sizes, config.share, config.words, config.shortest)
        self._gap, self._common = config.ngram + GAP, common

    def find(self, texts: Sequence[str]) -> Passages:
        """The items that stand in texts."""
        return self.judge(self._index.find(texts))

    def find_in(self, documents: Sequence[Document], margin: int) -> Passages:
        """The items that stand in documents, with what is cut out with them."""
        hits = self._index.find([document.text for document in documents])
        return self.judge(widened(hits, documents, margin))

    def judge(self, hits: Hits) -> Passages:
        """The items that stand where n-grams of them were found."""
        if self._common is not None:
            hits = evidence(hits, self._common)
        return passages(hits, self._index, self._least, self._gap)

    def flags(self, texts: Sequence[str]) -> list[bool]:
        """Whether each text holds an item."""
        rows = set(self.find(texts).rows.tolist())
        return [row in rows for row in range(len(texts))]


def decontaminate(
    folder: Path, batches: Iterator[Batch] | None, part: Part, index: Path, config: DecontaminateConfig
) -> Generator[Batch, None, dict[str, Any]]:
    """Takes out what holds an evaluation item; facts: as those of a stage of `clean:`."""
    detector, examples, sizes = Detector(open_index(index), config), Examples(), LeftOver()
    with EditWriter(folder) as edits, LedgerWriter(folder) as ledger:
        for batch in part.batches() if batches is None else batches:
            found = detector.find_in(batch, config.margin)
            lengths = {row: len(batch[row].text) for row in found.rows.tolist()}
            judged = {one.row: one for one in _findings(found, lengths, index, config, held_out=False)}
            left: list[Document] = []
            for row, document in enumerate(batch):
                after: tuple[Document, ...] = (document,)
                if row in judged:
                    after = judged[row].apply(document)
                    verdict = judged[row].verdict(document.doc_id, "evaluation_item")
                    if not after:  # no later file knows where it came from
                        verdict = replace(verdict, detail=f"{document.locator}: {verdict.detail}")
                    verdicts = [verdict]
                    ledger.add(verdicts)
                    examples.add(document, after, verdicts, around=judged[row].start)
                    sizes.went(document, after, verdicts[0])
                edits.add(document, after)
                left += after
            sizes.left(left)
            yield left
    examples.write(folder)
    return {"stage": STAGE, **sizes.facts, "rules": ledger.rules}


class _Finding(NamedTuple):
    """A document that holds an item."""

    row: int
    item: str
    covered: int  # words
    start: int  # characters
    spans: list[tuple[int, int]]  # what is cut out; none: the document goes
    size: int  # characters of the document

    def apply(self, document: Document) -> tuple[Document, ...]:
        """What is left of it."""
        return (other_text(document, without(document.text, self.spans), STAGE),) if self.spans else ()

    def verdict(self, doc_id: str, rule: str) -> Verdict:
        """The row of the ledger."""
        if not self.spans:
            return Verdict(doc_id, STAGE, rule, "dropped", str(self.covered), self.item)
        gone = sum(end - start for start, end in self.spans)
        detail = f"{self.item}: {gone:,} of {self.size:,} characters cut out"
        return Verdict(doc_id, STAGE, rule, "changed", str(self.covered), detail)


def _findings(
    found: Passages, sizes: Mapping[int, int], index: Path, config: DecontaminateConfig, *, held_out: bool
) -> Iterator[_Finding]:
    """Of each document that holds items the item that it holds most of, and what is cut out; in rising order.

    Args:
        sizes: characters of these documents.
        held_out: the items are held-out documents.
    """
    cuts = config.action == "cut" or (config.action == "auto" and held_out)
    worst = found.worst()
    columns = zip(worst.rows.tolist(), worst.covered.tolist(), worst.starts.tolist(), strict=True)
    for name, (row, covered, start) in zip(item_names(index, worst.items.tolist()), columns, strict=True):
        spans: list[tuple[int, int]] = []
        if cuts:
            low, high = np.searchsorted(found.rows, [row, row + 1])
            spans = _joined(found.where(slice(low, high)))
            left = sizes[row] - sum(end - begin for begin, end in spans)
            if left < _LEAST_LEFT or (config.action == "auto" and left <= _LEAST_SHARE * sizes[row]):
                spans = []
        yield _Finding(row, name, covered, start, spans, sizes[row])


def _joined(found: Passages) -> list[tuple[int, int]]:
    """What is cut out of a document, spans that meet as one."""
    spans: list[tuple[int, int]] = []
    for low, high in sorted(zip(found.lows.tolist(), found.highs.tolist(), strict=True)):
        if spans and low <= spans[-1][1]:
            spans[-1] = spans[-1][0], max(spans[-1][1], high)
        else:
            spans.append((low, high))
    return spans


def hits(folder: Path, part: AssignedPart, index: Path, margin: int) -> dict[str, Any]:
    """Where the training documents of a part hold n-grams of what is held out, and what would be cut out with them."""
    looked_into = open_index(index)
    count = 0
    with (folder / HITS).open("wb") as file:
        for rows, documents in _row_batches(part.rows(part.names[0])):
            found = widened(looked_into.find([document.text for document in documents]), documents, margin)
            table = np.empty(len(found.rows), _HIT)
            for name, column in zip(Hits._fields, found, strict=True):
                table[name] = np.asarray(rows)[column] if name == "rows" else column
            file.write(table.tobytes())
            count += len(table)
    return {"hits": count, "rules": {}}


def _row_batches(documents: Iterable[tuple[int, Document]]) -> Iterator[tuple[list[int], list[Document]]]:
    rows: list[int] = []
    held: list[Document] = []
    size = 0
    for row, document in documents:
        rows.append(row)
        held.append(document)
        size += len(document.text)
        if size >= words.BATCH_CHARACTERS:
            yield rows, held
            rows, held, size = [], [], 0
    if rows:
        yield rows, held


def leaks(
    folder: Path,
    digests: Sequence[Path],
    parts: Sequence[AssignedPart],
    index: Path,
    found: Sequence[Path],
    config: DecontaminateConfig,
) -> dict[str, Any]:
    """Takes what holds held-out text out of training; facts: as those of `assign`, and `common`: n-grams."""
    assigned, training = parts[0].folder, parts[0].names[0]
    corpus, cuts = Corpus(digests), read_json(verified_file(assigned, "cuts.json"))
    common = _common((_hits(path) for path in found), config.common)
    common.tofile(folder / COMMON)
    detector = Detector(open_index(index), config, common)
    removed: dict[str, dict[str, list[tuple[int, int]]]] = {}
    shown: list[_Shown] = []
    identities, in_training, gone, bytes_gone = [], 0, 0, 0
    with LedgerWriter(folder) as ledger:
        for part, path in enumerate(found):
            sides: Sides = np.array(verified_array(assigned, f"sides-{part:05d}.bin", np.uint8))
            own_cuts = cuts.get(str(part), {})
            in_training += int((sides == 0).sum()) + sum(p[0] == training for row in own_cuts.values() for p in row)
            judged = detector.judge(_hits(path))
            rows = np.unique(judged.rows)
            sizes = _sizes(corpus, part, rows, own_cuts, training)
            ids = corpus.rows(corpus.starts[part] + rows, ("doc_id",))
            own: dict[str, list[tuple[int, int]]] = {}
            findings = list(_findings(judged, sizes, index, config, held_out=True))
            for finding, row in zip(findings, ids, strict=True):
                if finding.spans:
                    own[str(finding.row)] = finding.spans
                verdict = _settle(finding, row["doc_id"], sides)
                ledger.add([verdict])
                shown.append((part, finding, verdict))
            shown = _few(shown)
            leaked = np.flatnonzero(sides == LEAKED)
            gone += len(leaked)
            bytes_gone += int(np.asarray(corpus.part(part, ["text_bytes"])["text_bytes"])[leaked].sum())
            sides.tofile(folder / f"sides-{part:05d}.bin")
            removed |= {str(part): own} if own else {}
            identities.append(fingerprint([sides.tobytes().hex(), own_cuts or None, *([own, CUTTING] if own else [])]))
    _write_examples(folder, parts, shown)
    write_json(folder / "cuts.json", cuts)
    write_json(folder / REMOVED, removed)
    _refuse_emptying(gone, in_training, config)
    before = read_manifest(assigned)
    documents = {**before["split_documents"], training: in_training - gone}
    facts = {"split_documents": documents, "cut": before["cut"], "parts": identities, "rules": ledger.rules}
    dropped_bytes = dict.fromkeys(ledger.rules["dropped"], bytes_gone)
    return {**facts, "dropped_bytes": dropped_bytes, "common": len(common)}


_Shown = tuple[int, _Finding, Verdict]


def _few(shown: Iterable[_Shown]) -> list[_Shown]:
    """Of each verdict those with the smallest ids: what `Examples` would keep, before texts are read."""
    ordered = sorted(shown, key=lambda one: one[2].doc_id)
    kinds = ("dropped", "changed", "kept")
    return [one for kind in kinds for one in [own for own in ordered if own[2].verdict == kind][:OF_EACH]]


def _write_examples(folder: Path, parts: Sequence[AssignedPart], shown: Sequence[_Shown]) -> None:
    """Reads the parts that examples lie in, no others."""
    examples = Examples()
    for part in sorted({part for part, _, _ in shown}):
        own = {finding.row: (finding, verdict) for number, finding, verdict in shown if number == part}
        for row, document in parts[part].rows(parts[part].names[0]):
            if row in own:
                finding, verdict = own[row]
                examples.add(document, finding.apply(document), [verdict], around=finding.start)
    examples.write(folder)


def _hits(path: Path) -> Hits:
    table = verified_array(path, HITS, _HIT)
    return Hits(*(table[name].astype(np.int64) for name in Hits._fields))


def _common(found: Iterable[Hits], most: int) -> I64:
    """The n-grams that stand in more than so many documents, by their first places in the index, sorted."""
    grams, counts = np.empty(0, np.int64), np.empty(0, np.int64)
    for own in found:
        pairs = np.unique(own.rows << 32 | own.grams) & 0xFFFFFFFF
        distinct, times = np.unique(pairs, return_counts=True)
        grams, place = np.unique(np.concatenate([grams, distinct]), return_inverse=True)
        counts = np.bincount(place, np.concatenate([counts, times]), len(grams)).astype(np.int64)
    return grams[counts > most]


def _sizes(corpus: Corpus, part: int, rows: I64, cuts: Mapping[str, Any], training: str) -> dict[int, int]:
    """Characters of training documents; of one that the split cut, of its piece."""
    whole = np.asarray(corpus.part(part, ["characters"])["characters"])[rows].tolist()
    sizes = dict(zip(rows.tolist(), whole, strict=True))
    for row, pieces in cuts.items():
        sizes |= {int(row): high - low for name, low, high in pieces if name == training and int(row) in sizes}
    return sizes


def _settle(finding: _Finding, doc_id: str, sides: Sides) -> Verdict:
    """Takes a document out of its split, and says so.

    One that the split cut in two stays, unless passages are cut out: it is near to what is held out by being one text
    with it, and may be all the text there is.
    """
    verdict = finding.verdict(doc_id, HELD_OUT)
    if verdict.verdict == "dropped":
        if sides[finding.row] == CUT:
            return replace(verdict, verdict="kept")
        sides[finding.row] = LEAKED
    return verdict


def _refuse_emptying(gone: int, documents: int, config: DecontaminateConfig) -> None:
    if gone and (gone == documents or (gone >= _JUDGED_FROM and gone > config.most_of_training * documents)):
        raise DataError(
            f"{gone:,} of {documents:,} training documents hold text of the validation or test split",
            "documents of this corpus share much text: set data.deduplicate: near or data.shared_lines, or "
            "data.decontaminate.action: cut; data.decontaminate.most_of_training (now "
            f"{config.most_of_training:g}) lets it pass, data.decontaminate.validation: false leaves them in",
        )


def recall(
    folder: Path, index: Path, hosts: Sequence[Part | AssignedPart], leaked: Path | None, config: DecontaminateConfig
) -> dict[str, Any]:
    """Plants items into copies of documents and looks for them; facts: how many are found, by how they were planted.

    Args:
        hosts: parts of which the first documents are planted into, as they are before anything was found in them.
        leaked: what `leaks` left, for the n-grams that are no evidence.
    """
    common = verified_array(leaked, COMMON, np.int64) if leaked is not None else None
    detector = Detector(open_index(index), config, common)
    each = -(-MOST_HOSTS // max(1, len(hosts)))
    texts = [text for part in hosts for text in itertools.islice(_hosts(part), each)]
    return {**measure(detector.flags, sample_of(index), texts), "rules": {}}


def _hosts(part: Part | AssignedPart) -> Iterator[str]:
    documents = part.documents() if isinstance(part, Part) else part.split(part.names[0])
    return (document.text for document in documents if has_words(document.text, HOST_WORDS))
