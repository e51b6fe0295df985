"""How many rows stand in a part of a file that is one bad row: what a stray quote or bracket takes in ends somewhere,
and does not fit there, however much it is.

    Sizes().usable(size)                      one more row that can be used, in lines or in bytes
           .unusable(size, locator, note)     one that cannot
           .rows_in(size)                     about how many rows so much is
           .weigh(tally, remedy)              at the end, for a fault in the first rows is to be weighed by those behind
    beginnings(raw)                           how many rows can stand in a row of JSON
"""

from __future__ import annotations

import re
from collections import Counter

from tilth.data.sources.notes import Note
from tilth.data.sources.tally import Tally

FAR_LARGER = 2  # than the largest row that can be used: a bad one may be the largest without having taken in others
_ANY = 1 << 60
_FIRST_KEY = re.compile(rb'\s*\{\s*"?([^":{},]++)"?\s*:')  # the quotes may be what is wrong with it


class Sizes:
    """Sizes of the rows of a file.

    Args:
        usual: that of a row, where none can be used; 0: what it is then is not known, and a part of any size one row.
    """

    def __init__(self, usual: int = 0) -> None:
        self.rows = self.total = 0
        self._usual, self._largest = usual, 0
        self._unusable: Counter[tuple[int, int]] = Counter()
        self._odd: tuple[int, str, Note] | None = None  # the largest of those that can hold others

    def usable(self, size: int) -> None:
        """Counts a row that can be used."""
        self.rows += 1
        self.total += size
        self._largest = max(self._largest, size)

    def unusable(self, size: int, locator: str, note: Note, most: int = _ANY) -> None:
        """Counts a row that cannot be used; `note` says how large it is. At most so many rows can stand in it."""
        self._unusable[size, most] += 1
        if most > 1 and (self._odd is None or size > self._odd[0]):
            self._odd = (size, locator, note)

    def rows_in(self, size: int) -> int:
        """About how many rows so much is, by those that can be used."""
        usual = self.total / self.rows if self.rows else self._usual
        return max(1, round(size / usual)) if usual else 1

    def weigh(self, tally: Tally, remedy: str) -> None:
        """Lets the bad rows that are far larger than any other count for as many as they seem to have taken in."""
        large = ((*row, n) for row, n in self._unusable.items() if row[0] > FAR_LARGER * self._largest)
        more = sum(n * (min(most, self.rows_in(size)) - 1) for size, most, n in large)
        if more and self._odd is not None:
            tally.took_in(more, *self._odd[1:], remedy)
        self._unusable.clear()


def beginnings(raw: bytes) -> int:
    """In how many places of a JSON row one may begin: where an object opens by the same key as it does. A long text
    with a tab in it holds no other row.
    """
    if raw.lstrip()[:1] not in (b"{", b"["):
        return 1
    key = _FIRST_KEY.match(raw)
    return max(1, len(re.findall(rb'\{\s*"' + re.escape(key[1]) + rb'"\s*:', raw))) if key else _ANY
