"""The task that writes what training reads: the documents and the token shard of each split, of one part.

Text is encoded in threads. Where the recipe has an encoder (conversations, data/conversations.py), a document that it
cannot encode is in neither documents nor shard: its verdict is in ledger.parquet.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from tilth.core.files import disk
from tilth.data.conversations import Encoded, Encoder, Refusal
from tilth.data.document import Document, Verdict
from tilth.data.shards import EncodedDocuments, encoded_document, write_shard
from tilth.data.tasks.cleaning import LeftOver
from tilth.data.tasks.parts import Batch, DocumentWriter, LedgerWriter, utf8_size
from tilth.data.tasks.split import AssignedPart
from tilth.tokenizer import Tokenizer, load_tokenizer
from tilth.tokenizer.hf_format import UNKNOWN

VERSION = 4
_UNIT_CHARACTERS = 1 << 17  # what a thread encodes at a time
ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


def encode(
    folder: Path,
    part: AssignedPart,
    source: str,
    splits: Sequence[str],
    tokenizer_folder: Path,
    threads: int,
    encoder: Encoder | None = None,
) -> dict[str, Any]:
    """Writes documents and shard of each split of one part, which is of one source; facts: by split, with an encoder
    also what is left and what it dropped.
    """
    tokenizer = load_tokenizer(tokenizer_folder)
    if encoder is not None:
        return _encode_by(encoder, folder, part, source, splits, tokenizer)
    facts: dict[str, Any] = {}
    with ThreadPoolExecutor(threads) as pool:
        for split in splits:  # each reads the part anew: never more of it in memory than a batch
            documents = _written(part.batches(split), folder / "documents" / f"{split}.parquet")
            unknown: Counter[str] = Counter()
            encoded = _encoded(documents, tokenizer, pool, threads, unknown)
            facts[split] = write_shard(folder / split, encoded, tokenizer.vocab_size, tokenizer.fingerprint, source)
            facts[split]["unknown_characters"] = sum(unknown.values())
    return {"source": source, **facts, "rules": {}}


def _encode_by(
    encoder: Encoder, folder: Path, part: AssignedPart, source: str, splits: Sequence[str], tokenizer: Tokenizer
) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    sizes, unknown_id = LeftOver(), tokenizer.special_tokens.get(UNKNOWN)
    disk.make_folder(folder / "documents")
    with LedgerWriter(folder) as ledger:
        for split in splits:
            unknown: Counter[str] = Counter()

            def encoded(split: str = split, unknown: Counter[str] = unknown) -> Iterator[EncodedDocuments]:
                with DocumentWriter(folder / "documents" / f"{split}.parquet") as writer:
                    for batch in part.batches(split):
                        kept, pieces = _kept(batch, encoder(tokenizer, batch), ledger, sizes)
                        writer.add_all(kept)
                        unknown["characters"] += sum(int((piece.tokens == unknown_id).sum()) for piece in pieces)
                        yield from pieces

            facts[split] = write_shard(folder / split, encoded(), tokenizer.vocab_size, tokenizer.fingerprint, source)
            facts[split]["unknown_characters"] = unknown["characters"]
    return {"source": source, **facts, "stage": "encode", **sizes.facts, "rules": ledger.rules}


def _kept(
    batch: Batch, made: Sequence[Encoded | Refusal], ledger: LedgerWriter, sizes: LeftOver
) -> tuple[Batch, list[EncodedDocuments]]:
    """The documents that could be encoded, and their tokens; of the others a verdict each."""
    kept, pieces = Batch(), list[EncodedDocuments]()
    for document, one in zip(batch, made, strict=True):
        if isinstance(one, Refusal):
            verdict = Verdict(document.doc_id, "encode", one.rule, "dropped", one.value, one.detail)
            ledger.add([verdict])
            sizes.went(document, [], verdict)
            continue
        kept.append(document)
        pieces.append(encoded_document(document.doc_id, one.ids, utf8_size(document.text), one.trained))
    sizes.left(kept)
    return kept, pieces


def _written(batches: Iterable[Batch], path: Path) -> Iterator[Document]:
    """Documents, written to Parquet as they pass."""
    disk.make_folder(path.parent)
    with DocumentWriter(path) as writer:
        for batch in batches:
            writer.add_all(batch)
            yield from batch


class _Unit(NamedTuple):
    """What a thread encodes at a time: whole documents, or a piece of a long one."""

    texts: list[str]
    doc_ids: list[str]
    """Of the documents that end here; none while a long one goes on."""


def _encoded(
    documents: Iterable[Document], tokenizer: Tokenizer, pool: ThreadPoolExecutor, threads: int, unknown: Counter[str]
) -> Iterator[EncodedDocuments]:
    """Encodes in threads (the BPE engine lets go of Python's lock), in order, a few units of text ahead."""
    unknown_id = tokenizer.special_tokens.get(UNKNOWN)

    def one(unit: _Unit) -> EncodedDocuments:
        whole = bool(unit.doc_ids)
        tokens = tokenizer.encode_documents(unit.texts) if whole else tokenizer.encode_array(unit.texts[0])
        ends = np.flatnonzero(tokens == tokenizer.end_of_text) + 1  # which no text can produce
        return EncodedDocuments(unit.doc_ids, ends, tokens, len("".join(unit.texts).encode("utf-8", "surrogatepass")))

    for encoded in _ahead(pool, one, _units(documents, tokenizer), 2 * threads):
        if unknown_id is not None:
            unknown["characters"] += int((encoded.tokens == unknown_id).sum())
        yield encoded


def _units(documents: Iterable[Document], tokenizer: Tokenizer) -> Iterator[_Unit]:
    """Texts gathered, and long ones cut where that changes no token, to what is worth handing to a thread."""
    unit, size = _Unit([], []), 0
    for document in documents:
        text = document.text
        if len(text) > _UNIT_CHARACTERS:
            if unit.texts:
                yield unit
                unit, size = _Unit([], []), 0
            *first, text = tokenizer.cut(text, _UNIT_CHARACTERS)
            yield from (_Unit([piece], []) for piece in first)
        unit.texts.append(text)
        unit.doc_ids.append(document.doc_id)
        size += len(text)
        if size >= _UNIT_CHARACTERS:
            yield unit
            unit, size = _Unit([], []), 0
    if unit.texts:
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
