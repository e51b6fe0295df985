"""Ids of a rendered conversation, and which of them are trained, for tokenizers whose tokens join to the text.

    Labelled              ids, and whether each is trained
    label_by_size(…)      both, from the sizes of tokens alone

A token is trained when a span touches it: one that begins before the span, and reaches into it, as well. Not so a
special token that only took white space of the span along.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tilth.tokenizer.marks import ALIAS, Marked, alias_place

Encode = Callable[[str], npt.NDArray[np.uint32]]
Measure = Callable[[str], int]
Sizes = Callable[[npt.NDArray[np.uint32]], npt.NDArray[np.int64]]


class Labelled(NamedTuple):
    """The ids of a text and, for each, whether it is trained.

    Attributes:
        ids: [T] uint32.
        trained: [T] bool.
    """

    ids: npt.NDArray[np.uint32]
    trained: npt.NDArray[np.bool_]


def label_by_size(row: Marked, encode: Encode, measure: Measure, sizes: Sizes, specials: Sequence[int]) -> Labelled:
    """A row's ids and labels.

    Args:
        row: text with aliases, and spans.
        encode: a text without aliases to ids.
        measure: the size of a text, in bytes or characters.
        sizes: the size of each token, in the same.
        specials: the id of each alias.
    """
    ids, lengths = [], []
    at = 0
    for found in [*ALIAS.finditer(row.text), None]:
        tokens = encode(row.text[at : None if found is None else found.start()])
        ids.append(tokens)
        lengths.append(sizes(tokens))
        if found is not None:  # an alias has the size 1
            ids.append(np.array([specials[alias_place(found[0])]], np.uint32))
            lengths.append(np.ones(1, np.int64))
            at = found.end()
    ends = np.concatenate(lengths).cumsum()
    trained = np.zeros(len(ends), np.bool_)
    for start, end in _measured(row, measure):
        first = np.searchsorted(ends, start, "right")
        trained[first : np.searchsorted(ends, end, "left") + 1] = end > start
    return Labelled(np.concatenate(ids), trained)


def _measured(row: Marked, measure: Measure) -> list[tuple[int, int]]:
    """The spans of a row in the units of `measure`."""
    places, at, place = {}, 0, 0
    for edge in sorted({edge for span in row.spans for edge in span}):
        piece = row.text[at:edge]
        place += measure(ALIAS.sub("", piece)) + len(ALIAS.findall(piece))
        places[edge], at = place, edge
    return [(places[start], places[end]) for start, end in row.spans]
