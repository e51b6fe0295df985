"""Token shards: how a split's tokens lie on disk, and how they are read back without trusting the disk.

A shard is a folder:

    tokens.bin      little-endian uint16, uint32 for a vocabulary over 65,535; each document ends with end-of-text
    offsets.bin     int64, documents + 1: where each document starts in tokens.bin
    doc_ids.bin     16 bytes a document
    mask.bin        optional, one byte a token: 1 where training predicts it, 0 where it only reads it
    manifest.json   format version, counts, size and SHA-256 of each file, the tokenizer's fingerprint, the source

`write_shard` streams documents in; `TokenStream` joins a split's shards into one sequence of tokens. Sizes are
checked when a shard is opened, hashes when it is first touched: a file's own when it is read, those of offsets and ids
with any. A shard without a mask is one whose tokens are all trained.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tilth.core.errors import DataError, IntegrityError
from tilth.core.files import disk, read_manifest, verify_file, write_manifest

FORMAT_VERSION = 1
Tokens = npt.NDArray[np.generic]
Places = npt.NDArray[np.int64]


def token_dtype(vocab_size: int) -> np.dtype[Any]:
    """uint16 when every id below `vocab_size` fits, else uint32; little-endian."""
    return np.dtype("<u2" if vocab_size <= 65_535 else "<u4")


@dataclass(frozen=True, slots=True)
class EncodedDocuments:
    """Tokens of documents in a row.

    Attributes:
        doc_ids: of the documents that end in these tokens, in hex, end to end.
        ends: where each of them ends, its end-of-text included, int64 [n]; what follows the last one belongs to a
            document that goes on in the next piece.
        tokens: of all.
        text_bytes: of their text in UTF-8.
        trained: for each token whether training predicts it; None: all.
    """

    doc_ids: str
    ends: npt.NDArray[np.int64]
    tokens: Tokens
    text_bytes: int
    trained: npt.NDArray[np.bool_] | None = None


def encoded_document(
    doc_id: str, tokens: Tokens, text_bytes: int, trained: npt.NDArray[np.bool_] | None = None
) -> EncodedDocuments:
    """One document, whole."""
    return EncodedDocuments(doc_id, np.array([len(tokens)], np.int64), tokens, text_bytes, trained)


class _Mask:
    """The loss mask of a shard, as its pieces arrive; held back, for only its end tells whether one is needed."""

    def __init__(self) -> None:
        self._pieces: list[npt.NDArray[np.uint8]] = []
        self._needed = False

    def add(self, piece: EncodedDocuments) -> None:
        count, trained = len(piece.tokens), piece.trained
        assert trained is None or trained.shape == (count,), "one mark for each token"
        self._needed |= trained is not None
        self._pieces.append(np.ones(count, np.uint8) if trained is None else (trained != 0).astype(np.uint8))

    def write(self, folder: Path) -> dict[str, int]:
        """Writes mask.bin where any document had marks; returns what the manifest says of it."""
        if not self._needed:
            return {}
        disk.write(folder / "mask.bin", [piece.data.cast("B") for piece in self._pieces if len(piece)], sync=False)
        return {"trained_tokens": int(sum(int(piece.sum()) for piece in self._pieces))}


def write_shard(
    folder: Path,
    documents: Iterable[EncodedDocuments],
    vocab_size: int,
    tokenizer_fingerprint: str,
    source: str = "",
) -> dict[str, Any]:
    """Writes a shard into the (temporary) `folder` as documents arrive; returns its manifest's facts.

    Args:
        source: which all documents are from.
    """
    dtype, offsets, doc_ids, mask = token_dtype(vocab_size), [np.zeros(1, np.int64)], list[bytes](), _Mask()
    tokens = text_bytes = 0

    def chunks() -> Iterator[memoryview]:
        nonlocal tokens, text_bytes
        for piece in documents:
            offsets.append(piece.ends + tokens)
            doc_ids.append(bytes.fromhex(piece.doc_ids))
            tokens += len(piece.tokens)
            text_bytes += piece.text_bytes
            mask.add(piece)
            yield np.ascontiguousarray(piece.tokens, dtype=dtype).data.cast("B")

    disk.make_folder(folder, sync=False)
    disk.write(folder / "tokens.bin", chunks(), sync=False)
    disk.write(folder / "offsets.bin", [np.concatenate(offsets).astype("<i8").tobytes()], sync=False)
    disk.write(folder / "doc_ids.bin", [b"".join(doc_ids)], sync=False)
    marked = mask.write(folder)
    facts = {
        "format_version": FORMAT_VERSION,
        "documents": sum(map(len, offsets)) - 1,
        "tokens": tokens,
        "text_bytes": text_bytes,
        "dtype": dtype.name,
        "vocab_size": vocab_size,
        "tokenizer": tokenizer_fingerprint,
        "source": source,
        **marked,
    }
    write_manifest(folder, facts)
    return facts


class Shard:
    """One shard, memory-mapped. Opening checks sizes and versions, the first read checks hashes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest = read_manifest(folder)
        version = self.manifest.get("format_version")
        if version != FORMAT_VERSION:
            raise DataError(
                f"{folder} has shard format {version}; this tilth reads {FORMAT_VERSION}", "prepare the data again"
            )
        if self.manifest.get("dtype") != token_dtype(self.manifest.get("vocab_size", 0)).name:
            raise IntegrityError(
                f"{folder}: its tokens cannot be {self.manifest.get('dtype')}", "prepare the data again"
            )
        self.documents: int = self.manifest["documents"]
        self.tokens: int = self.manifest["tokens"]
        self.text_bytes: int = self.manifest["text_bytes"]
        self.dtype = np.dtype(self.manifest["dtype"]).newbyteorder("<")
        self._maps: dict[str, npt.NDArray[Any]] = {}
        self._verified: set[str] = set()
        self._check_counts()

    def _check_counts(self) -> None:
        sizes = {name: entry["size"] for name, entry in self.manifest["files"].items()}
        expected = {
            "tokens.bin": self.tokens * self.dtype.itemsize,
            "offsets.bin": (self.documents + 1) * 8,
            "doc_ids.bin": self.documents * 16,
        }
        if self.has_mask:
            expected["mask.bin"] = self.tokens
        if sizes != expected:
            raise IntegrityError(f"{self.folder}: sizes {sizes} do not fit its counts", "prepare the data again")

    @property
    def has_mask(self) -> bool:
        """Whether it says which of its tokens are trained; without, all are."""
        return "mask.bin" in self.manifest["files"]

    def read(self, start: int, stop: int) -> Tokens:
        """Tokens start..stop of this shard, as stored."""
        return self._map("tokens.bin", self.dtype)[start:stop]

    def mask(self) -> npt.NDArray[np.uint8]:
        """1 where training predicts a token [tokens]; only where there is a mask."""
        return self._map("mask.bin", np.dtype("u1"))

    @property
    def offsets(self) -> npt.NDArray[np.int64]:
        """Where each document starts, and at the end the number of tokens [documents + 1]."""
        return self._map("offsets.bin", np.dtype("<i8"))

    def doc_id(self, index: int) -> str:
        """The id (hex) of the index-th document."""
        return bytes(self._map("doc_ids.bin", np.dtype("u1"))[16 * index : 16 * index + 16]).hex()

    def _map(self, name: str, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        if name not in self._maps:
            self._verify(name)
            path = self.folder / name
            empty = path.stat().st_size == 0
            # As a plain array: indexing a memmap makes a memmap, ten times slower.
            self._maps[name] = np.empty(0, dtype) if empty else np.asarray(np.memmap(path, dtype=dtype, mode="r"))
        return self._maps[name]

    def _verify(self, name: str) -> None:
        """A shard with one bad file is no shard: the small ones are looked at with any, the tokens when they are read,
        for they may be all that takes time."""
        for file in (name, "offsets.bin", "doc_ids.bin"):
            if file not in self._verified:
                verify_file(self.folder, file, self.manifest)
                self._verified.add(file)


Locate = Callable[[Collection[str]], Mapping[str, str]]


class TokenStream:
    """The shards of one split as one ring of tokens: what follows the last token is the first.

    Every document ends with end-of-text, so reading on from the end to the start crosses a border like any other.

    Args:
        locate: the locators of documents by their ids, as far as they are known; for messages.
    """

    def __init__(self, shards: list[Shard], locate: Locate = lambda doc_ids: {}) -> None:
        self._locate = locate
        self.shards = [shard for shard in shards if shard.tokens]
        self._starts = np.cumsum([0, *(shard.tokens for shard in self.shards)])
        self.tokens = int(self._starts[-1])
        self.documents = sum(shard.documents for shard in self.shards)
        self.text_bytes = sum(shard.text_bytes for shard in self.shards)
        self.has_mask = any(shard.has_mask for shard in self.shards)
        self._borders: npt.NDArray[np.int64] | None = None

    def read(self, start: int, count: int) -> npt.NDArray[np.int64]:
        """`count` token ids from `start` (taken modulo the length), int64 [count]."""
        result = np.empty(count, dtype=np.int64)
        filled, place = 0, start % self.tokens
        while filled < count:
            index = int(np.searchsorted(self._starts, place, side="right")) - 1
            inside = place - int(self._starts[index])
            piece = self.shards[index].read(inside, inside + count - filled)
            result[filled : filled + len(piece)] = piece
            filled += len(piece)
            place = (place + len(piece)) % self.tokens
        return result

    def take(self, places: Places) -> Places:
        """The token ids at any places (taken modulo the length), int64 of their shape."""
        return self._taken(places, np.dtype(np.int64), lambda shard: shard.read(0, shard.tokens))

    def trained(self, places: Places) -> npt.NDArray[np.bool_]:
        """Whether training predicts the tokens at these places (taken modulo the length)."""
        if not self.has_mask:
            return np.ones(places.shape, np.bool_)
        return self._taken(places, np.dtype(np.uint8), _marks).astype(np.bool_)

    def _taken(self, places: Places, dtype: np.dtype[Any], read: Callable[[Shard], Tokens]) -> npt.NDArray[Any]:
        flat = places.ravel() % self.tokens
        owners = np.searchsorted(self._starts, flat, side="right") - 1
        result = np.empty(len(flat), dtype)
        for owner in np.unique(owners).tolist():
            own = owners == owner
            result[own] = read(self.shards[owner])[flat[own] - self._starts[owner]]
        return result.reshape(places.shape)

    def count_trained(self, starts: Places, stops: Places) -> Places:
        """How many tokens of each stretch training predicts, int64 [n]; the stretches rise, do not overlap, hold a
        token at least, and none goes over the end of a shard.
        """
        counts = stops - starts
        for shard, base in zip(self.shards, self._starts, strict=False):
            first, last = np.searchsorted(starts, [base, base + shard.tokens])
            if shard.has_mask and last > first:
                edges = np.stack([starts[first:last], stops[first:last]], axis=1).ravel() - base
                marks = np.append(shard.mask(), np.uint8(0))  # the last edge may be the end
                counts[first:last] = np.add.reduceat(marks, edges, dtype=np.int64)[::2]
        return counts

    def document_starts(self) -> npt.NDArray[np.int64]:
        """The place in the stream where each document starts, int64 [documents]."""
        if self._borders is None:
            starts = [shard.offsets[:-1] + base for shard, base in zip(self.shards, self._starts, strict=False)]
            self._borders = np.concatenate(starts) if starts else np.empty(0, np.int64)
        return self._borders

    def doc_id(self, number: int) -> str:
        """The id (hex) of the number-th document of the stream."""
        for shard in self.shards:
            if number < shard.documents:
                return shard.doc_id(number)
            number -= shard.documents
        raise IndexError(number)

    def names(self, doc_ids: Collection[str]) -> dict[str, str]:
        """What documents are called: their locators; their ids where these are not known. A file may be read for it."""
        known = self._locate(doc_ids) if doc_ids else {}
        return {doc_id: known.get(doc_id, doc_id) for doc_id in doc_ids}

    def document_numbers(self, start: int, count: int) -> npt.NDArray[np.int64]:
        """For `count` tokens from `start`: the number of the document that each belongs to, int64 [count].

        Numbers go on rising when the ring closes: the end of a document and its start are never taken for one piece.
        """
        rounds, places = np.divmod(start + np.arange(count), self.tokens)
        numbers = np.searchsorted(self.document_starts(), places, side="right") - 1
        return np.asarray(numbers + rounds * self.documents)


def _marks(shard: Shard) -> Tokens:
    """A shard's mask; one without is all ones, of which nothing is stored."""
    return shard.mask() if shard.has_mask else np.broadcast_to(np.uint8(1), shard.tokens)
