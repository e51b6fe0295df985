"""The task that writes what training reads: the documents and the token shard of each split, of one part.

Text is encoded in threads. Where the recipe has an encoder (conversations, data/conversations.py), a document that it
cannot encode is in neither documents nor shard: its verdict is in ledger.parquet.
"""

from __future__ import annotations

import functools
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tilth.core import progress
from tilth.core.ahead import ahead
from tilth.core.files import disk
from tilth.data.conversations import Encoded, Encoder, Refusal
from tilth.data.document import Document, Verdict, documents_table, end_to_end
from tilth.data.shards import EncodedDocuments, encoded_document, write_shard
from tilth.data.tasks.cleaning import LeftOver
from tilth.data.tasks.parts import Batch, DocumentWriter, LedgerWriter, utf8_size
from tilth.data.tasks.split import AssignedPart
from tilth.tokenizer import Tokenizer, load_tokenizer
from tilth.tokenizer.hf_format import UNKNOWN

VERSION = 6
_UNIT_BYTES = 1 << 17  # what a thread encodes at a time


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
    tokenizer = _loaded(tokenizer_folder)
    if encoder is not None:
        return _encode_by(encoder, folder, part, source, splits, tokenizer)
    facts: dict[str, Any] = {}
    progress.expect(part.part.size * len(splits))
    with ThreadPoolExecutor(threads) as pool:
        for split in splits:  # each reads the part anew: never more of it in memory than a batch
            tables = _written(part.tables(split), folder / "documents" / f"{split}.parquet")
            unknown: Counter[str] = Counter()
            encoded = _encoded(tables, tokenizer, pool, threads, unknown)
            facts[split] = write_shard(folder / split, encoded, tokenizer.vocab_size, tokenizer.fingerprint, source)
            facts[split]["unknown_characters"] = sum(unknown.values())
    return {"source": source, **facts, "rules": {}}


def _encode_by(
    encoder: Encoder, folder: Path, part: AssignedPart, source: str, splits: Sequence[str], tokenizer: Tokenizer
) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    progress.expect(part.part.size * len(splits))
    sizes, unknown_id = LeftOver(), tokenizer.special_tokens.get(UNKNOWN)
    disk.make_folder(folder / "documents", sync=False)
    with LedgerWriter(folder) as ledger:
        for split in splits:
            unknown: Counter[str] = Counter()

            def encoded(split: str = split, unknown: Counter[str] = unknown) -> Iterator[EncodedDocuments]:
                with DocumentWriter(folder / "documents" / f"{split}.parquet") as writer:
                    for batch in part.batches(split):
                        kept, pieces = _kept(batch, encoder(tokenizer, batch), ledger, sizes)
                        writer.add_table(documents_table(kept))
                        unknown["characters"] += sum(int((piece.tokens == unknown_id).sum()) for piece in pieces)
                        yield from pieces

            facts[split] = write_shard(folder / split, encoded(), tokenizer.vocab_size, tokenizer.fingerprint, source)
            facts[split]["unknown_characters"] = unknown["characters"]
    return {"source": source, **facts, "stage": "encode", **sizes.facts, "rules": ledger.rules}


def _kept(
    batch: Batch, made: Sequence[Encoded | Refusal], ledger: LedgerWriter, sizes: LeftOver
) -> tuple[list[Document], list[EncodedDocuments]]:
    """The documents that could be encoded, and their tokens; of the others a verdict each."""
    kept, pieces = list[Document](), list[EncodedDocuments]()
    for document, one in zip(batch, made, strict=True):
        if isinstance(one, Refusal):
            verdict = Verdict(document.doc_id, "encode", one.rule, "dropped", one.value, one.detail)
            ledger.add([verdict])
            sizes.went(document, [], verdict)
            continue
        ledger.add([Verdict(document.doc_id, "encode", rule, "changed", *more) for rule, *more in one.lost])
        kept.append(document)
        pieces.append(encoded_document(document.doc_id, one.ids, utf8_size(document.text), one.trained))
    sizes.left(kept)
    return kept, pieces


@functools.lru_cache(1)
def _loaded(folder: Path) -> Tokenizer:
    """The tokenizer of a task, whose folder's name stands for what is in it: a process loads it once for many parts."""
    return load_tokenizer(folder)


def _written(tables: Iterable[pa.Table], path: Path) -> Iterator[pa.Table]:
    """Documents, written to Parquet as they pass."""
    disk.make_folder(path.parent, sync=False)
    with DocumentWriter(path) as writer:
        for table in tables:
            writer.add_table(table)
            yield table


class _Unit(NamedTuple):
    """What a thread encodes at a time: whole documents, or a piece of a long one.

    Attributes:
        texts, doc_ids: columns; of a long document's pieces only the last has an id.
        text_bytes: of the texts.
    """

    texts: Any
    doc_ids: Any
    text_bytes: int


def _encoded(
    tables: Iterable[pa.Table], tokenizer: Tokenizer, pool: ThreadPoolExecutor, threads: int, unknown: Counter[str]
) -> Iterator[EncodedDocuments]:
    """Encodes in threads (the BPE engine lets go of Python's lock), in order, a few units of text ahead."""
    unknown_id = tokenizer.special_tokens.get(UNKNOWN)

    def one(unit: _Unit) -> EncodedDocuments:
        tokens = _tokens(tokenizer, unit.texts) if len(unit.doc_ids) else tokenizer.encode_array(unit.texts[0].as_py())
        ends = np.flatnonzero(tokens == tokenizer.end_of_text) + 1  # which no text can produce
        return EncodedDocuments(str(end_to_end(unit.doc_ids), "ascii"), ends, tokens, unit.text_bytes)

    units = (unit for table in tables for unit in _units(table, tokenizer))
    for encoded in ahead(pool, one, units, 2 * threads):
        if unknown_id is not None:
            unknown["characters"] += int((encoded.tokens == unknown_id).sum())
        yield encoded


def _tokens(tokenizer: Tokenizer, texts: Any) -> npt.NDArray[np.unsignedinteger[Any]]:
    """The ids of Arrow's texts, with what begins and ends each; of most tokenizers without an object for each text."""

    def join(border: bytes) -> bytes:
        row = pa.ListArray.from_arrays(pa.array([0, len(texts)], pa.int32()), texts.cast(pa.large_binary()))
        joined: bytes = pc.binary_join(row, pa.scalar(border, pa.large_binary()))[0].as_py()
        return joined + border

    tokens = tokenizer.encode_joined(join, len(texts))
    return tokenizer.encode_documents(texts.to_numpy(zero_copy_only=False).tolist()) if tokens is None else tokens


def _units(table: pa.Table, tokenizer: Tokenizer) -> Iterator[_Unit]:
    """Texts gathered, and long ones cut where that changes no token, to what is worth handing to a thread."""
    texts, doc_ids = (table[name].combine_chunks() for name in ("text", "doc_id"))
    sizes = np.asarray(pc.binary_length(texts)).astype(np.int64)
    stops = np.cumsum(sizes)
    long = np.flatnonzero(sizes > _UNIT_BYTES)
    full = np.flatnonzero(np.diff(stops // _UNIT_BYTES)) + 1
    borders = np.unique(np.concatenate([[0], full, long, long + 1, [len(sizes)]]))
    for start, stop in itertools.pairwise(borders.tolist()):
        size = int(sizes[start:stop].sum())
        if size > _UNIT_BYTES and stop == start + 1:
            yield from _pieces(texts[start].as_py(), doc_ids.slice(start, 1), tokenizer)
        else:
            yield _Unit(texts.slice(start, stop - start), doc_ids.slice(start, stop - start), size)


def _pieces(text: str, doc_id: Any, tokenizer: Tokenizer) -> Iterator[_Unit]:
    pieces = tokenizer.cut(text, _UNIT_BYTES)
    for number, piece in enumerate(pieces, 1):
        own = doc_id if number == len(pieces) else doc_id.slice(0, 0)
        yield _Unit(pa.array([piece], pa.large_string()), own, len(piece.encode()))
