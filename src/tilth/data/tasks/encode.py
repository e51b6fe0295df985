"""The task that writes what training reads: the documents and the token shard of each split, of one part."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from tilth.core.files import disk
from tilth.data.document import Document, Verdict
from tilth.data.shards import EncodedDocument, write_shard
from tilth.data.tasks.parts import DocumentWriter, LedgerWriter
from tilth.data.tasks.split import TWIN, CleanedPart
from tilth.tokenizer import Tokenizer, load_tokenizer

VERSION = 3
_UNIT_CHARACTERS = 1 << 17  # what a thread encodes at a time
ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


def encode(
    folder: Path, part: CleanedPart, splits: Sequence[str], tokenizer_folder: Path, threads: int
) -> dict[str, Any]:
    """Writes documents and shard of each split of one part; facts: by split, and how many documents are in several."""
    tokenizer = load_tokenizer(tokenizer_folder)
    divided = list(part.divided())  # a part is of bounded size
    neighbours = pairwise(document.locator for _, document in divided)
    facts: dict[str, Any] = {"cut": sum(_is_rest(b, a) for a, b in neighbours)}
    with ThreadPoolExecutor(threads) as pool:
        for split in splits:
            own = [document for name, document in divided if name == split]
            _write_documents(folder / "documents" / f"{split}.parquet", own)
            unknown: Counter[str] = Counter()
            documents = _encoded(own, tokenizer, pool, threads, unknown)
            facts[split] = write_shard(folder / split, documents, tokenizer.vocab_size, tokenizer.fingerprint)
            facts[split]["unknown_characters"] = sum(unknown.values())
    with LedgerWriter(folder) as ledger:
        ledger.add(Verdict(d.doc_id, "split", "held_out_twin", "dropped", d.group) for s, d in divided if s == TWIN)
    return {**facts, "rules": ledger.rules}


def _is_rest(locator: str, before: str) -> bool:
    return locator.startswith(f"{before.partition('#characters=')[0]}#characters=") and locator.endswith("-")


def _write_documents(path: Path, documents: Iterable[Document]) -> None:
    disk.make_folder(path.parent)
    with DocumentWriter(path) as writer:
        for document in documents:
            writer.add(document)


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
