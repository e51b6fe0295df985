"""Shards with known tokens."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tilth.data.shards import Shard, TokenStream, encoded_document, write_shard


def write_documents(folder: Path, lengths: list[int], vocab_size: int = 1000, first: int = 0) -> Shard:
    """A shard of documents of the given lengths; tokens count up from `first` (modulo the vocabulary)."""
    documents, place = [], first
    for number, length in enumerate(lengths):
        tokens = np.arange(place, place + length, dtype=np.uint32) % vocab_size
        documents.append(encoded_document(f"{first + number:032x}", tokens, text_bytes=length))
        place += length
    write_shard(folder, documents, vocab_size, "tokenizer")
    return Shard(folder)


def make_stream(folder: Path, shards: list[list[int]], vocab_size: int = 1000) -> TokenStream:
    """A stream of several shards, its tokens counting up from 0."""
    made, first = [], 0
    for number, lengths in enumerate(shards):
        made.append(write_documents(folder / f"shard-{number}", lengths, vocab_size, first))
        first += sum(lengths)
    return TokenStream(made)
