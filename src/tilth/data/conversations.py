"""From documents to the tokens of a shard, where more than a text is to be encoded: the seam for chat templates.

    Encoder       (tokenizer, documents) -> for each its tokens with marks, or why it has none

chats.py has the one that there is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

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
