"""What the training text spells: names of special tokens (`<|endoftext|>` at the end of each row, as other tools want
it), and U+FFFD, which stands where bytes were no text.

    spelled_facts(dataset, tokenizer) -> SpelledFacts

In tilth text never becomes a special token, so what stands there is learned letter by letter, and said aloud.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tilth.data.dataset import Dataset
from tilth.tokenizer import Tokenizer
from tilth.tokenizer.templates import BUILT_IN

MOST_BYTES = 1 << 28
"""Of text: the first documents of a larger split are read."""
_ROWS = 1 << 12
_KNOWN = ("<|endoftext|>", *(name for kind in ("chatml", "llama3", "gemma", "zephyr") for name in BUILT_IN[kind]))
"""Ends and marks that other models' data is written with; those that ordinary text has too (`[INST]`) are left out."""


@dataclass(frozen=True, slots=True)
class SpelledFacts:
    """What the training text spells.

    Attributes:
        read: documents that were read.
        documents: those of them that spell a special token.
        names: the tokens that they spell, the most frequent first.
        characters: of all documents that were read.
        replaced: those of them that are U+FFFD.
    """

    read: int
    documents: int
    names: tuple[str, ...]
    characters: int
    replaced: int


def spelled_facts(dataset: Dataset, tokenizer: Tokenizer) -> SpelledFacts:
    """Which special tokens the training text spells, the tokenizer's own and those of other models, and how much of it
    is lost.
    """
    names = sorted({*tokenizer.special_tokens, *_KNOWN}, key=len, reverse=True)
    pattern = "|".join(re.escape(name) for name in names)
    read, left, spelled = 0, MOST_BYTES, Counter[str]()
    documents = characters = replaced = 0
    for path in dataset.files("documents/train"):
        if left <= 0:
            break
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(_ROWS, columns=["text"]):
                if left <= 0:
                    break
                found = _found(batch["text"], pattern)
                spelled.update(name for inside in found for name in inside)
                read, documents, left = read + len(batch), documents + len(found), left - batch.nbytes
                characters += pc.sum(pc.utf8_length(batch["text"])).as_py() or 0
                replaced += pc.sum(pc.count_substring(batch["text"], "\ufffd")).as_py() or 0
    return SpelledFacts(read, documents, tuple(name for name, _ in spelled.most_common()), characters, replaced)


def _found(texts: pa.Array, pattern: str) -> list[set[str]]:
    """The names in each text that has any."""
    having = texts.filter(pc.match_substring_regex(texts, pattern))
    return [set(re.findall(pattern, text)) for text in having.to_pylist()]
