"""From documents to the tokens of a shard, where more than a text is to be encoded: the seam for chat templates.

    Encoder                   (tokenizer, documents) -> for each its tokens with marks, or why it has none
    check_encoded(encoded)    DataError when none was left to train on

chats.py has the one that there is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from tilth.core.errors import DataError
from tilth.core.tasks import Done
from tilth.data.document import Document
from tilth.tokenizer import Tokenizer


class Encoded(NamedTuple):
    """Token ids of a document [n], at least one, and for each whether training predicts it [n]."""

    ids: npt.NDArray[np.uint32]
    trained: npt.NDArray[np.bool_]


class Refusal(NamedTuple):
    """Why a document is dropped: a rule, its value, and where and what in words."""

    rule: str
    value: str
    detail: str


class Encoder(Protocol):
    """How documents become tokens. It goes to worker processes, so it can be pickled."""

    @property
    def identity(self) -> Any:
        """Plain data that decides the tokens, beside tokenizer and documents: part of the identity of the shards."""

    def __call__(self, tokenizer: Tokenizer, documents: Sequence[Document]) -> Sequence[Encoded | Refusal]:
        """What each document becomes, in their order."""


def check_encoded(encoded: Sequence[Done]) -> None:
    """DataError, with the rules that dropped them and the first of them in words, when no document of training was
    encoded.
    """
    if sum(done.facts["train"]["documents"] for done in encoded):
        return
    counts: Counter[str] = Counter()
    for done in encoded:
        counts.update(done.facts["rules"]["dropped"])
    said = [", ".join(f"{rule} dropped {n}" for rule, n in counts.most_common()) or "there was none"]
    tables = (pq.read_table(done.folder / "ledger.parquet") for done in encoded)
    if first := next((table["detail"][0].as_py() for table in tables if len(table)), ""):
        said.append(f"the first: {first}")
    raise DataError(
        f"no document is left to train on: {'; '.join(said)}",
        "look at what data.chat says (template, train_on) and at the rows",
    )
