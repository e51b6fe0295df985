"""From documents to the tokens of a shard, where more than a text is to be encoded: the seam for chat templates.

    Encoder                   (tokenizer, documents) -> for each its tokens with marks, or why it has none
    check_encoded(encoded)    DataError when none was left to train on; check_refused(files, encoder) before that
    dropped_by(encoded)       the rules that dropped documents, and the first of them

chats.py has the one that there is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tilth.core.errors import DataError
from tilth.core.tasks import Done
from tilth.data.document import Document, read_tables, table_documents
from tilth.tokenizer import Tokenizer

NEEDS_TEMPLATE = "needs_template"
GIVE_A_TEMPLATE = "data.chat: {template: chatml}, or checkpoint where model.from has a template of its own"
"""What mends rows that `NEEDS_TEMPLATE` dropped."""


class Refusal(NamedTuple):
    """Why a document is dropped: a rule, its value, and where and what in words."""

    rule: str
    value: str
    detail: str


class Encoded(NamedTuple):
    """Token ids of a document [n], at least one, and for each whether training predicts it [n].

    Attributes:
        lost: what of the document is not among them, as rules say it that drop nothing.
    """

    ids: npt.NDArray[np.uint32]
    trained: npt.NDArray[np.bool_]
    lost: tuple[Refusal, ...] = ()


class Encoder(Protocol):
    """How documents become tokens. It goes to worker processes, so it can be pickled."""

    @property
    def identity(self) -> Any:
        """Plain data that decides the tokens, beside tokenizer and documents: part of the identity of the shards."""

    def refusal(self, document: Document) -> Refusal | None:
        """Why a document will be dropped, as far as that is known without a tokenizer."""

    def __call__(self, tokenizer: Tokenizer, documents: Sequence[Document]) -> Sequence[Encoded | Refusal]:
        """What each document becomes, in their order."""


def check_refused(files: Iterable[Path], encoder: Encoder) -> None:
    """DataError, as of `check_encoded`, when it is plain already that no document of the files will be encoded."""
    counts, first = Counter[str](), ""
    for document in (one for path in files for table in read_tables(path) for one in table_documents(table)):
        refusal = encoder.refusal(document)
        if refusal is None:
            return
        counts[f"encode/{refusal.rule}"] += 1
        first = first or refusal.detail
    if counts:
        raise _none_left(counts, first)


def check_encoded(encoded: Sequence[Done]) -> None:
    """DataError, with the rules that dropped them and the first of them in words, when no document of training was
    encoded.
    """
    if not sum(done.facts["train"]["documents"] for done in encoded):
        raise _none_left(*_dropped(encoded))


def dropped_by(encoded: Sequence[Done]) -> str:
    """The rules that dropped documents when they were encoded, with how many, and the first of them, in words."""
    return _words(*_dropped(encoded))


def _dropped(encoded: Sequence[Done]) -> tuple[Counter[str], str]:
    counts: Counter[str] = Counter()
    for done in encoded:
        counts.update(done.facts["rules"]["dropped"])
    dropped = pc.field("verdict") == "dropped"
    tables = (pq.read_table(done.folder / "ledger.parquet", filters=dropped) for done in encoded)
    return counts, next((table["detail"][0].as_py() for table in tables if len(table)), "")


def _words(counts: Counter[str], first: str) -> str:
    said = ", ".join(f"{rule} dropped {n}" for rule, n in counts.most_common()) or "there was none"
    return f"{said}{f'; the first: {first}' if first else ''}"


def _none_left(counts: Counter[str], first: str) -> DataError:
    return DataError(
        f"no document is left to train on: {_words(counts, first)}",
        f"set {GIVE_A_TEMPLATE}"
        if next(iter(counts), "") == f"encode/{NEEDS_TEMPLATE}"
        else "look at what data.chat says (template, train_on) and at the rows",
    )
