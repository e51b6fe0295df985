"""The stages of data preparation as task functions: each fills a folder from its arguments alone.

    collect    files of one source -> part-00000.parquet …       (documents)       + ledger.parquet
    clean      one part            -> docs.parquet, digests.parquet                + ledger.parquet
    dedup      all digests         -> drops.parquet              (part, row)       + ledger.parquet
    encode     one cleaned part    -> train/, validation/        (a shard each)    + ledger.parquet

`pipeline.py` strings them together. A function's version stands beside it: raise it when the same input gives other
bytes.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from tilth.core.files import disk, read_manifest, verify_file
from tilth.core.random import derive_seed
from tilth.data.clean import CleanStages, build_stages, clean
from tilth.data.dedup import DIGEST, digest, first_of_each
from tilth.data.document import (
    DOCUMENT_SCHEMA,
    Document,
    Verdict,
    documents_table,
    ledger_table,
    make_doc_id,
    read_documents,
)
from tilth.data.extract import Extractors
from tilth.data.shards import EncodedDocument, write_shard
from tilth.data.sources import Input, SourceConfig, read_input
from tilth.tokenizer import Tokenizer, load_tokenizer

VERSIONS = {"collect": 2, "clean": 1, "dedup": 1, "encode": 2}
_BATCH_BYTES = 4 << 20  # text that is held as Python objects at a time
_UNIT_CHARACTERS = 1 << 17  # what a thread encodes at a time
ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")
_DIGEST_SCHEMA = pa.schema(
    [("doc_id", pa.string()), ("digest", pa.binary(16)), ("characters", pa.int64()), ("text_bytes", pa.int64())]
)


@dataclass(frozen=True, slots=True)
class Part:
    """A file of documents inside a task's folder."""

    folder: Path
    name: str

    def documents(self) -> Iterator[Document]:
        """Its documents, after its hash was compared with the manifest's."""
        verify_file(self.folder, self.name, read_manifest(self.folder))
        return read_documents(self.folder / self.name)


def collect(
    folder: Path, source: SourceConfig, inputs: Sequence[Input], skipped: Sequence[Verdict], part_bytes: int
) -> dict[str, Any]:
    """Reads files into parts of about `part_bytes` of text; facts: `parts` [{file, documents, text_bytes}], `rules`."""
    ledger = list(skipped)
    writer = _PartWriter(folder, part_bytes)
    with Extractors(source.extract) as extractors:
        for item in inputs:
            for outcome in read_input(item, source, extractors):
                ledger += outcome.verdicts
                if outcome.document is not None:
                    writer.add(outcome.document)
    writer.close()
    _write_ledger(folder, ledger)
    return {"parts": writer.parts, "rules": count_rules(ledger)}


class _PartWriter:
    """Writes documents to Parquet, a row group for every few megabytes, a new file when one is full."""

    def __init__(self, folder: Path, part_bytes: int) -> None:
        self.folder, self.part_bytes = folder, part_bytes
        self.parts: list[dict[str, Any]] = []
        self._file: pq.ParquetWriter | None = None
        self._rows: list[Document] = []
        self._held = 0

    def add(self, document: Document) -> None:
        self._rows.append(document)
        self._held += len(document.text)
        if self._held >= _BATCH_BYTES:
            self._flush()
            if self.parts[-1]["text_bytes"] >= self.part_bytes:
                self._end_part()

    def _flush(self) -> None:
        if not self._rows:
            return
        if self._file is None:
            name = f"part-{len(self.parts):05d}.parquet"
            self.parts.append({"file": name, "documents": 0, "text_bytes": 0})
            self._file = pq.ParquetWriter(self.folder / name, DOCUMENT_SCHEMA, compression="zstd")
        self._file.write_table(documents_table(self._rows))
        self.parts[-1]["documents"] += len(self._rows)
        self.parts[-1]["text_bytes"] += sum(len(row.text.encode()) for row in self._rows)
        self._rows, self._held = [], 0

    def _end_part(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def close(self) -> None:
        self._flush()
        self._end_part()


def clean_part(folder: Path, part: Part, stages: CleanStages) -> dict[str, Any]:
    """Cleans a part; facts: documents, characters and bytes that are left, `rules`."""
    ledger: list[Verdict] = []
    digests: list[tuple[str, bytes, int, int]] = []
    rules = build_stages(stages)

    def cleaned() -> Iterator[Document]:
        for document in part.documents():
            outcome = clean(document, rules)
            ledger.extend(outcome.verdicts)
            if outcome.document is not None:
                text = outcome.document.text
                digests.append((document.doc_id, digest(text), len(text), len(text.encode())))
                yield outcome.document

    with pq.ParquetWriter(folder / "docs.parquet", DOCUMENT_SCHEMA, compression="zstd") as writer:
        for batch in batches(cleaned(), _BATCH_BYTES):
            writer.write_table(documents_table(batch))
    columns = [list(column) for column in zip(*digests, strict=True)] or [[], [], [], []]
    pq.write_table(pa.table(columns, schema=_DIGEST_SCHEMA), folder / "digests.parquet")
    _write_ledger(folder, ledger)
    return {
        "documents": len(digests),
        "characters": sum(row[2] for row in digests),
        "text_bytes": sum(row[3] for row in digests),
        "rules": count_rules(ledger),
    }


def batches(documents: Iterable[Document], batch_bytes: int) -> Iterator[list[Document]]:
    """Documents in lists of about `batch_bytes` of text."""
    held: list[Document] = []
    size = 0
    for document in documents:
        held.append(document)
        size += len(document.text)
        if size >= batch_bytes:
            yield held
            held, size = [], 0
    if held:
        yield held


def dedup(folder: Path, cleaned: Sequence[Path]) -> dict[str, Any]:
    """Finds documents whose text stood before; drops.parquet lists them as (part, row)."""
    tables = [_verified_table(path, "digests.parquet") for path in cleaned]
    parts = np.repeat(np.arange(len(tables)), [len(table) for table in tables])
    rows = np.concatenate([np.arange(len(table)) for table in tables])
    table = pa.concat_tables(tables)
    digests = np.frombuffer(b"".join(table["digest"].to_pylist()), dtype=DIGEST)
    first = first_of_each(digests)
    dropped = np.flatnonzero(first != np.arange(len(first)))
    ids = table["doc_id"].to_pylist()
    ledger = [Verdict(ids[i], "deduplicate", "exact_duplicate", "dropped", ids[first[i]]) for i in dropped]
    pq.write_table(pa.table({"part": parts[dropped], "row": rows[dropped]}), folder / "drops.parquet")
    _write_ledger(folder, ledger)
    sizes = {name: int(np.asarray(table[name])[dropped].sum()) for name in ("characters", "text_bytes")}
    return {"documents": len(dropped), **sizes, "rules": count_rules(ledger)}


def read_drops(folder: Path | None, part: int) -> frozenset[int]:
    """The rows of a cleaned part that deduplication dropped."""
    if folder is None:
        return frozenset()
    table = _verified_table(folder, "drops.parquet")
    rows, parts = np.asarray(table["row"]), np.asarray(table["part"])
    return frozenset(rows[parts == part].tolist())


@dataclass(frozen=True, slots=True)
class SplitPlan:
    """How one cleaned part is divided.

    Attributes:
        share: by document: the share of documents (of groups) that go to validation; None when the text is cut instead.
        seed: of the hash that chooses them.
        train_characters: by tail: how many characters of this part, after deduplication, are for training.
    """

    share: float | None
    seed: int = 0
    train_characters: int = 0

    def divide(self, documents: Iterable[Document]) -> Iterator[tuple[str, Document]]:
        """Each document with the name of its split: `train`, `validation`, or `twin`.

        A group goes to one side whole. Of a held-out group the first document is measured; the others hold the same
        text once more, and are neither trained on nor measured. A document that the tail's cut goes through comes as
        two.
        """
        left, measured = self.train_characters, set[str]()
        for document in documents:
            if self.share is not None:
                group = f"{document.source}/{document.group}"
                held_out = derive_seed(self.seed, f"split/{group}") / 2**63 < self.share
                yield ("twin" if group in measured else "validation") if held_out else "train", document
                measured.update([group] if held_out else [])
                continue
            head, left = min(left, len(document.text)), max(0, left - len(document.text))
            if head:
                yield "train", replace(document, text=document.text[:head])
            if head < len(document.text):
                cut = _rest_locator(document, head)
                doc_id = make_doc_id(document.source, cut) if head else document.doc_id
                yield "validation", replace(document, doc_id=doc_id, locator=cut, text=document.text[head:])


def _rest_locator(document: Document, head: int) -> str:
    """Where the rest of a document stands, of which the first `head` characters were cut off."""
    return f"{document.locator}#characters={head}-"


@dataclass(frozen=True, slots=True)
class CleanedPart:
    """A cleaned part with what deduplication and the split make of it."""

    folder: Path
    number: int
    drops: Path | None
    plan: SplitPlan

    def kept(self) -> Iterator[Document]:
        """Its documents without the duplicates."""
        dropped = read_drops(self.drops, self.number)
        documents = Part(self.folder, "docs.parquet").documents()
        return (document for row, document in enumerate(documents) if row not in dropped)

    def split(self, name: str) -> Iterator[Document]:
        """The documents of one split."""
        return (document for split, document in self.plan.divide(self.kept()) if split == name)


def encode(folder: Path, part: CleanedPart, tokenizer_folder: Path, threads: int) -> dict[str, Any]:
    """Writes the training and the validation shard of one part; facts: by split, and how many documents are in both."""
    tokenizer = load_tokenizer(tokenizer_folder)
    divided = list(part.plan.divide(part.kept()))  # a part is of bounded size
    neighbours = pairwise(document for _, document in divided)
    facts: dict[str, Any] = {"cut": sum(b.locator == _rest_locator(a, len(a.text)) for a, b in neighbours)}
    with ThreadPoolExecutor(threads) as pool:
        for split in ("train", "validation"):
            unknown: Counter[str] = Counter()
            documents = _encoded((d for name, d in divided if name == split), tokenizer, pool, threads, unknown)
            facts[split] = write_shard(folder / split, documents, tokenizer.vocab_size, tokenizer.fingerprint)
            facts[split]["unknown_characters"] = sum(unknown.values())
    twins = [Verdict(d.doc_id, "split", "held_out_twin", "dropped", d.group) for name, d in divided if name == "twin"]
    _write_ledger(folder, twins)
    return {**facts, "rules": count_rules(twins)}


class _Piece(NamedTuple):
    """A document's text, or one piece of a long one."""

    document: Document
    text: str
    is_last: bool


def _encoded(
    documents: Iterable[Document], tokenizer: Tokenizer, pool: ThreadPoolExecutor, threads: int, unknown: Counter[str]
) -> Iterator[EncodedDocument]:
    """Encodes in threads (the BPE engine lets go of Python's lock), in order, a few units of text ahead."""
    end = np.array([tokenizer.end_of_text], np.uint32)
    unknown_id = tokenizer.special_tokens.get("<|unk|>")

    def one(unit: list[_Piece]) -> list[tuple[_Piece, npt.NDArray[np.uint32], int]]:
        return [(p, tokenizer.encode_array(p.text), len(p.text.encode("utf-8", "surrogatepass"))) for p in unit]

    held: list[npt.NDArray[np.uint32]] = []
    text_bytes = 0
    for unit in _ahead(pool, one, _units(documents, tokenizer), 2 * threads):
        for piece, tokens, size in unit:
            if unknown_id is not None:
                unknown["characters"] += int((tokens == unknown_id).sum())
            held.append(tokens)
            text_bytes += size
            if piece.is_last:
                yield EncodedDocument(piece.document.doc_id, np.concatenate([*held, end]), text_bytes)
                held, text_bytes = [], 0


def _units(documents: Iterable[Document], tokenizer: Tokenizer) -> Iterator[list[_Piece]]:
    """Texts gathered, and long ones cut where that changes no token, to what is worth handing to a thread."""
    unit: list[_Piece] = []
    size = 0
    for document in documents:
        *first, last = tokenizer.cut(document.text, _UNIT_CHARACTERS)
        for piece in (*(_Piece(document, text, False) for text in first), _Piece(document, last, True)):
            unit.append(piece)
            size += len(piece.text)
            if size >= _UNIT_CHARACTERS:
                yield unit
                unit, size = [], 0
    if unit:
        yield unit


def _ahead(
    pool: ThreadPoolExecutor, function: Callable[[ItemT], ResultT], items: Iterable[ItemT], most: int
) -> Iterator[ResultT]:
    """`map` by a pool, in order, at most so many items ahead of what is asked for."""
    waiting: deque[Future[ResultT]] = deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) > most:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def count_rules(ledger: Iterable[Verdict]) -> dict[str, dict[str, int]]:
    """How many documents each rule changed and dropped: {verdict: {stage/rule: n}}, sorted."""
    counts: dict[str, Counter[str]] = {"changed": Counter(), "dropped": Counter()}
    for verdict in ledger:
        if verdict.verdict in counts:
            counts[verdict.verdict][f"{verdict.stage}/{verdict.rule}"] += 1
    return {name: dict(sorted(counter.items())) for name, counter in counts.items()}


def _write_ledger(folder: Path, ledger: Iterable[Verdict]) -> None:
    pq.write_table(ledger_table(ledger), folder / "ledger.parquet", compression="zstd")
    disk.sync_file(folder / "ledger.parquet")


def _verified_table(folder: Path, name: str) -> pa.Table:
    verify_file(folder, name, read_manifest(folder))
    return pq.read_table(folder / name)
