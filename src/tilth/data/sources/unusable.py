"""Files with rows that cannot be used, and few enough of them that the run goes on, or that should be looked at: what
is said of each.

Unusable().take(rows, said, remedy)   one such file, as its tally tells of it
.excluded                             patterns that left a file in an archive out
.plain() -> {files, rows, first, remedy}
notes(source, found)          the lines about a source's files
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tilth.core.words import plural

_NAMED = 5  # files, of each task and of each source


class Unusable:
    """Counts the files of one task that have such rows; the first few are told of."""

    def __init__(self) -> None:
        self._files, self._rows = 0, 0
        self._first: list[str] = []
        self._remedy = ""
        self.excluded = set[str]()

    def take(self, rows: int, said: str, remedy: str = "") -> None:
        """One more file, with so many such rows, and what to do about them."""
        self._remedy = self._remedy or remedy
        self._files += 1
        self._rows += rows
        if len(self._first) < _NAMED:
            self._first.append(said)

    def plain(self) -> dict[str, Any]:
        """{files, rows, first, remedy}: how many, what is said of the first few, and what to do about the first; and
        `excluded`, where a pattern left a file in an archive out.
        """
        told = {"files": self._files, "rows": self._rows, "first": self._first, "remedy": self._remedy}
        return {**told, "excluded": sorted(self.excluded)} if self.excluded else told


def notes(source: str, found: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What should be said of a source, of whose files several tasks kept `Unusable.plain`: a line on each of the first
    few files, and one that counts the others.
    """
    first = [said for one in found for said in one["first"]][:_NAMED]
    yield from first
    files, rows = (sum(one[key] for one in found) for key in ("files", "rows"))
    if files > len(first):
        more = plural(files - len(first), "more file")
        yield f"{source}: and {more} with such rows; in all {plural(rows, 'row')} of {plural(files, 'file')}"
