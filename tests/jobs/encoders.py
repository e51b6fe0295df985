"""An encoder of conversations by a function, as plain as can be: what the seam is tried with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import numpy.typing as npt

from tilth.core.errors import DataError
from tilth.data.conversations import Encoded, Refusal
from tilth.data.document import Document
from tilth.data.spoken import WITHDRAWN
from tilth.tokenizer import Tokenizer


@final
@dataclass(frozen=True, slots=True)
class ConversationEncoder:
    """Documents with `meta.messages` by `encode`; others as plain text with end-of-text, every token trained.

    Attributes:
        encode: called as `encode(tokenizer, messages=[{role, content}, …])`; ids and marks of the same length, or a
            DataError that says what is wrong with these messages. A module's function, or a partial of one.
        identity: of template, options and their version.
    """

    encode: Callable[..., tuple[Sequence[int] | npt.NDArray[Any], Sequence[bool] | npt.NDArray[Any]]]
    identity: Any

    def refusal(self, document: Document) -> Refusal | None:
        """Nothing is known before."""
        del document
        return None

    def __call__(self, tokenizer: Tokenizer, documents: Sequence[Document]) -> list[Encoded | Refusal]:
        """One after another, in the thread that asks: a template's process need not be shared."""
        return [self._one(tokenizer, document) for document in documents]

    def _one(self, tokenizer: Tokenizer, document: Document) -> Encoded | Refusal:
        if by := document.meta.get(WITHDRAWN):
            return Refusal("text_changed", by, f"{document.locator}: its messages could not follow its text")
        messages = document.meta.get("messages")
        if messages is None:
            ids = tokenizer.encode_documents([document.text])
            return Encoded(ids, np.ones(len(ids), np.bool_))
        try:
            made, marks = self.encode(tokenizer, messages=messages)
        except DataError as error:
            return Refusal("not_encoded", type(error).__name__, f"{document.locator}: {error.message}")
        return _checked(np.asarray(made, np.uint32), np.asarray(marks, np.bool_), document, tokenizer)


def _checked(
    ids: npt.NDArray[np.uint32], trained: npt.NDArray[np.bool_], document: Document, tokenizer: Tokenizer
) -> Encoded | Refusal:
    assert ids.shape == trained.shape and ids.ndim == 1, "a mark for each token"
    assert not len(ids) or int(ids.max()) < tokenizer.vocab_size, "an id that the tokenizer does not have"
    if not trained.any():
        return Refusal(
            "nothing_trained", str(len(ids)), f"{document.locator}: none of its {len(ids)} tokens is trained"
        )
    return Encoded(ids, trained)
