"""Files with rows or pages that cannot be used, and few enough of them that the run goes on, or that should be looked
at: what is said of each.

Unusable().take(rows, said, remedy)   one file with such rows, as its tally tells of it
.take_pages(pages, said)              one with such pages
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
    """Counts the files of one task that have such rows or pages; the first few are told of."""

    def __init__(self) -> None:
        self._files, self._rows, self._pages = 0, 0, 0
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

    def take_pages(self, pages: int, said: str) -> None:
        """One more file, with so many such pages."""
        self.take(0, said)
        self._pages += pages

    def plain(self) -> dict[str, Any]:
        """{files, rows, first, remedy}: how many, what is said of the first few, and what to do about the first;
        `pages`, where some cannot be used, and `excluded`, where a pattern left a file in an archive out.
        """
        told = {"files": self._files, "rows": self._rows, "first": self._first, "remedy": self._remedy}
        pages = {"pages": self._pages} if self._pages else {}
        return {**told, **pages, **({"excluded": sorted(self.excluded)} if self.excluded else {})}


def notes(source: str, found: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What should be said of a source, of whose files several tasks kept `Unusable.plain`: a line on each of the first
    few files, and one that counts the others.
    """
    first = [said for one in found for said in one["first"]][:_NAMED]
    yield from first
    files, *several = (sum(one.get(key, 0) for one in found) for key in ("files", "rows", "pages"))
    if files > len(first):
        counted = [(number, what) for number, what in zip(several, ("row", "page"), strict=True) if number]
        such = " or ".join(f"{what}s" for _, what in counted)
        in_all = " and ".join(plural(number, what) for number, what in counted)
        more = plural(files - len(first), "more file")
        yield f"{source}: and {more} with such {such}; in all {in_all} of {plural(files, 'file')}"
