"""What the filters share: limits, the first rule that a document breaks, and sums over the tokens of each text.

Limit                 the type of an option that is a limit; null switches its rule off
FirstBroken           collects, rule by rule, which documents are dropped
in_pieces(function)   a function over texts as a stage, in pieces that bound its memory
per_text(values, offsets)   sums
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from tilth.data.document import Document
from tilth.data.stages.base import Result, Run
from tilth.data.words import I64, batches

Array = npt.NDArray[Any]
Limit = Annotated[float, Field(ge=0)] | None


class FirstBroken:
    """Documents against rules: the first rule that a document breaks is the one that is named.

    Attributes:
        alive: bool [D]: broke no rule yet.
    """

    def __init__(self, stage: str, texts: Sequence[str]) -> None:
        self._stage = stage
        self._texts = texts
        self._dropped: dict[int, Result] = {}
        self.alive = np.ones(len(texts), np.bool_)

    def above(self, rule: str, values: Array, limit: float | None) -> None:
        """Drops where the value is above the limit."""
        if limit is not None:
            self.drop(rule, values, values > limit)

    def below(self, rule: str, values: Array, limit: float | None) -> None:
        """Drops where the value is below the limit."""
        if limit is not None:
            self.drop(rule, values, values < limit)

    def drop(self, rule: str, values: Array, broken: Array) -> None:
        """Drops where `broken` holds; values: [D]."""
        for d in np.flatnonzero(broken & self.alive).tolist():
            self._dropped[d] = Result(None, values[d].item(), f"{self._stage}/{rule}")
            self.alive[d] = False

    def each(self, measure: Callable[[str], float]) -> Array:
        """A figure for each text that is still alive, zero for the others."""
        return np.array([measure(text) if alive else 0 for text, alive in zip(self._texts, self.alive, strict=True)])

    def results(self) -> list[Result]:
        """A result for each text, in order."""
        return [self._dropped.get(d) or Result(text) for d, text in enumerate(self._texts)]


def in_pieces(function: Callable[[Sequence[str], Any], list[Result]]) -> Run:
    """A stage that looks at about a million characters at once: arrays over them take some forty bytes for each."""

    def run(documents: Sequence[Document], options: Any) -> list[Result]:
        texts = (document.text for document in documents)
        return [result for piece in batches(texts) for result in function(piece, options)]

    return run


def per_text(values: Array, offsets: I64) -> Array:
    """Sums of values [N] over each text's own, offsets [D + 1]."""
    sums = np.zeros(len(values) + 1, np.int64)
    np.cumsum(values, out=sums[1:])
    return sums[offsets[1:]] - sums[offsets[:-1]]


def ratio(part: Array, whole: Array) -> Array:
    """part / whole, and 0 where there is nothing."""
    return part / np.maximum(whole, 1)
