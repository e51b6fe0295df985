"""Lines that many documents share: menus, licences, footers.

    find_pieces(texts, config) -> Pieces        the lines (or paragraphs) of texts that may go, each with a hash
    remove(text, starts, ends) -> str           a text without some of them

White space at both ends of a line does not count when two are compared; all else does. A line that may go has at least
`characters` and a letter, and is not indented: what is indented, in lists and code, belongs to what stands above it.
Source files are left alone unless `code` says otherwise: files share imports that they need.

All is done over arrays of code points: hashes as `words.py` makes them of words, here of the letters as they are.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import cache
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field

from tilth.core.config import Config
from tilth.data.document import Document
from tilth.data.stages.code import is_code
from tilth.data.words import I64, U64, hash_spans, mix

FLAGS = npt.NDArray[np.bool_]
_NEWLINE = 10


class SharedLinesConfig(Config):
    """Which lines go because many documents hold them."""

    documents: int = Field(default=10, ge=1)
    """A line that stands in more documents than this goes."""
    characters: int = Field(default=20, ge=1)
    """Shorter lines stay, white space at both ends not counted."""
    keep: Literal["first", "none"] = "first"
    """Of a line that is shared too widely: the first document in the order of the sources keeps it, or none."""
    most_of_a_document: float = Field(default=0.8, gt=0, le=1)
    """A document that would lose more than this share of its characters goes whole: a title alone is no text."""
    unit: Literal["line", "paragraph"] = "line"
    """What is compared: lines, or runs of lines between blank ones."""
    indented: bool = False
    """Whether lines that begin with white space are looked at as well."""
    code: bool = False
    """Whether source files are looked at as well."""


class Pieces(NamedTuple):
    """Lines or paragraphs of D texts that may go [P].

    Attributes:
        rows: the text.
        starts, ends: its characters, line end not counted.
        hashes: the same for what is the same.
    """

    rows: I64
    starts: I64
    ends: I64
    hashes: U64


def find_pieces(documents: Sequence[Document], config: SharedLinesConfig) -> Pieces:
    """The pieces of documents that may go, in their order."""
    looked_at = [n for n, document in enumerate(documents) if config.code or not is_code(document)]
    texts = [documents[n].text for n in looked_at]
    codes = np.frombuffer("\n".join([*texts, ""]).encode("utf-32-le", "surrogatepass"), np.uint32)
    text_starts = np.concatenate([[0], np.cumsum([len(text) + 1 for text in texts])]).astype(np.int64)
    starts, ends, indented = _lines(codes)
    if config.unit == "paragraph":
        starts, ends, indented = _paragraphs(starts, ends, indented, text_starts)
    wanted = (ends - starts >= config.characters) & (config.indented | ~indented)
    letters = np.concatenate([[0], np.cumsum(_tables()[1][codes])])
    wanted &= letters[np.maximum(ends, starts)] > letters[starts]
    starts, ends = starts[wanted], ends[wanted]
    rows = np.searchsorted(text_starts, starts, side="right") - 1
    hashes = hash_spans(mix(codes.astype(np.uint64)), starts, ends)
    own = text_starts[rows]
    return Pieces(np.array(looked_at, np.int64)[rows], starts - own, ends - own, hashes)


def _lines(codes: npt.NDArray[np.uint32]) -> tuple[I64, I64, FLAGS]:
    """Where the lines of joined texts begin and end, white space at both ends left out; which begin with some.

    A line of white space alone has no length.
    """
    ends = np.flatnonzero(codes == _NEWLINE)
    starts = np.concatenate([[0], ends[:-1] + 1]) if len(ends) else ends
    ink = np.flatnonzero(~_tables()[0][codes])  # what is no white space; a newline is some
    first, last = np.searchsorted(ink, starts), np.searchsorted(ink, ends)
    blank = first == last
    padded = np.concatenate([ink, [0]])
    trimmed_starts = np.where(blank, starts, padded[first])
    trimmed_ends = np.where(blank, starts, padded[last - 1] + 1)
    return trimmed_starts, trimmed_ends, trimmed_starts > starts


def _paragraphs(starts: I64, ends: I64, indented: FLAGS, text_starts: I64) -> tuple[I64, I64, FLAGS]:
    """Runs of lines that are not blank, within a text."""
    filled = np.flatnonzero(ends > starts)
    if not len(filled):
        return filled, filled, np.empty(0, bool)
    texts = np.searchsorted(text_starts, starts[filled], side="right")
    opens = np.concatenate([[True], (np.diff(filled) > 1) | (np.diff(texts) > 0)])
    closes = np.concatenate([opens[1:], [True]])
    return starts[filled[opens]], ends[filled[closes]], indented[filled[opens]]


def remove(text: str, starts: Sequence[int], ends: Sequence[int]) -> str:
    """A text without the lines in which these spans stand, in rising order."""
    kept, place = [], 0
    for start, end in zip(starts, ends, strict=True):
        line_start = text.rfind("\n", 0, start) + 1
        line_end = text.find("\n", end)
        kept.append(text[place:line_start])
        place = len(text) if line_end < 0 else line_end + 1
    left = "".join(kept) + text[place:]
    if left.endswith("\n") and not text.endswith("\n"):  # the last line went, and with it the end of the one before
        left = left[:-1]
    return left


@cache
def _tables() -> tuple[FLAGS, FLAGS]:
    """For each code point: whether it is white space, and whether it is a letter."""
    space, letter = np.zeros(sys.maxunicode + 1, bool), np.zeros(sys.maxunicode + 1, bool)
    for code in range(0x40000):  # beyond these planes there are neither
        character = chr(code)
        space[code], letter[code] = character.isspace(), character.isalpha()
    return space, letter
