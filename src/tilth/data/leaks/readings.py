"""Texts as decontamination reads them: what pages and PDFs put into words and between them does not count.

    read(texts) -> Readings             the texts without it, and of some a second reading
    Readings.places(rows, starts, ends) where words of a reading stand in the text itself

Left out are soft hyphens, also with the line end behind them, and characters of no width; an entity of HTML is the
character that it names (`&nbsp;` a space). A hyphen at the end of a line may divide a word (exam-/ple) or stand in one
(well-/known), and nothing in the text says which: so such a text is read twice, the second time with these words whole.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tilth.data.words import I64

_UNSEEN = "\u00ad\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff"
_ANY_UNSEEN = re.compile(f"[{_UNSEEN}]")
# Each begins with one letter where it can: for that a text is searched several times as fast.
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_DIVIDED = re.compile(r"-(?<=[^\W\d_]-)[ \t]*\r?\n[ \t]*(?=[^\W\d_])")
_DIVIDED_2010 = re.compile(_DIVIDED.pattern.replace("-", "\u2010"))
_ONCE = re.compile(f"\u00ad[ \\t]*\\r?\\n[ \\t]*|[{_UNSEEN}]+|{_ENTITY.pattern}")
_TWICE = re.compile(f"{_ONCE.pattern}|{_DIVIDED.pattern}|{_DIVIDED_2010.pattern}")


class _Reading(NamedTuple):
    """A text, and the pieces that it is made of [S], none of them empty.

    Attributes:
        starts: where each piece begins in the reading.
        from_, to: where what it stands for begins and ends in the text.
        same: whether the piece is the text itself, letter by letter.
    """

    text: str
    starts: I64
    from_: I64
    to: I64
    same: npt.NDArray[np.bool_]


class Readings(NamedTuple):
    """What is read of some texts: one reading of each, in their order, then the second ones.

    Attributes:
        texts: the readings [R].
        rows: the text that each is of [R].
        first: how many are first readings: as many as texts.
        last: the last reading of each text.
    """

    texts: list[str]
    rows: I64
    first: int
    last: I64
    changed: dict[int, _Reading]

    def places(self, readings: I64, starts: I64, ends: I64) -> tuple[I64, I64]:
        """From and to which characters of the texts spans of readings go.

        Args:
            readings: the number of the reading of each span, rising.
        """
        starts, ends = starts.copy(), ends.copy()
        for number, reading in self.changed.items():
            own = slice(*np.searchsorted(readings, [number, number + 1]))
            first = np.searchsorted(reading.starts, starts[own], side="right") - 1
            last = np.searchsorted(reading.starts, ends[own] - 1, side="right") - 1
            inside = np.where(reading.same[first], starts[own] - reading.starts[first], 0)
            beyond = np.where(
                reading.same[last], reading.from_[last] + ends[own] - reading.starts[last], reading.to[last]
            )
            starts[own], ends[own] = reading.from_[first] + inside, beyond
        return starts, ends


def read(texts: Sequence[str]) -> Readings:
    """The readings of some texts."""
    found, rows = list(texts), list(range(len(texts)))
    last = rows.copy()
    changed: dict[int, _Reading] = {}
    for row, text in enumerate(texts):
        once = _ENTITY if text.isascii() or not _ANY_UNSEEN.search(text) else _ONCE
        if once.search(text):
            changed[row] = _reading(text, once)
            found[row] = changed[row].text
        if _DIVIDED.search(text) or _DIVIDED_2010.search(text):
            changed[len(found)], last[row] = _reading(text, _TWICE), len(found)
            found.append(changed[last[row]].text)
            rows.append(row)
    return Readings(found, np.array(rows, np.int64), len(texts), np.array(last, np.int64), changed)


def _reading(text: str, pattern: re.Pattern[str]) -> _Reading:
    pieces: list[tuple[str, int, int, bool]] = []
    end = 0
    for found in pattern.finditer(text):
        pieces += [(text[end : found.start()], end, found.start(), True), (_seen(found[0]), *found.span(), False)]
        end = found.end()
    pieces = [piece for piece in [*pieces, (text[end:], end, len(text), True)] if piece[0]]
    lengths = np.array([len(piece[0]) for piece in pieces], np.int64)
    from_, to = (np.array([piece[n] for piece in pieces], np.int64) for n in (1, 2))
    same = np.array([piece[3] for piece in pieces], np.bool_)
    return _Reading("".join(piece[0] for piece in pieces), np.cumsum(lengths) - lengths, from_, to, same)


def _seen(found: str) -> str:
    return _ANY_UNSEEN.sub("", html.unescape(found)) if found[0] == "&" else ""
